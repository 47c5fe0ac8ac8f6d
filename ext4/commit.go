package ext4

import (
	"fmt"
	"maps"
	"slices"

	"banger/ext4/internal/disk"
	"banger/ext4/internal/jbd2"
)

// Commit makes all changes of the session, and ends it. When it returns nil they are
// durable (unless NoSync is set). If it is interrupted, or fails, the next to use the
// image (the kernel, e2fsck, Open or Edit of this package) finds all of them or none.
//
// A session without changes writes nothing. ErrTooLarge: nothing was changed.
func (t *Tx) Commit() error { return t.commit(nil) }

// commit is Commit. See commitJournal for parts.
func (t *Tx) commit(parts func([]jbd2.Block) [][]jbd2.Block) error {
	if t.done {
		return ErrClosed
	}
	if t.inOp {
		return fmt.Errorf("cannot commit within an operation")
	}
	if err := t.openWriters(); err != nil {
		return fmt.Errorf("cannot commit: %w", err)
	}
	defer t.end()
	if len(t.v.dirty) == 0 {
		return nil
	}
	// The state of the superblock goes with the transaction.
	sb := *t.v.sb
	t.stamp(&sb)
	if t.journal == nil {
		return public(t.commitInPlace(&sb))
	}
	return public(t.commitJournal(&sb, parts))
}

// stamp sets when a superblock was written.
func (t *Tx) stamp(sb *disk.Superblock) {
	now := t.now()
	sb.Wtime, sb.WtimeHi = uint32(now.Sec), uint8(now.Sec>>32)
}

// commitJournal writes the transaction to the journal, then everything to its place.
//
// The order of the writes, and what each interruption leaves:
//
//  1. Contents, to free blocks: nothing.
//  2. needs_recovery in the superblock on the disk, which without it the kernel would
//     not replay: an empty journal to replay, nothing.
//  3. The transaction (Log): nothing before its commit block, all of it after.
//  4. The blocks, to their places: the journal has them all. Where their order matters,
//     parts divides them: each part is durable before the next is written.
//  5. The journal is emptied (Clean): all is in place. The superblock still has the
//     flag, from the transaction.
//  6. The superblock without the flag: what is left if it gets lost is 2.
func (t *Tx) commitJournal(sb *disk.Superblock, parts func([]jbd2.Block) [][]jbd2.Block) error {
	sb.FeatureIncompat |= disk.IncompatRecover
	blocks, err := t.blocks(sb)
	if err != nil {
		return err
	}
	j := t.journal
	// The kernel gives the journal of such a file system these checksums when it
	// mounts it.
	if wide := sb.Has64Bit(); sb.MetadataCsum() || wide && sb.Blocks() > 1<<32 {
		if err := j.Upgrade(wide); err != nil {
			return err
		}
	}
	if n := j.Capacity(); len(blocks) > n {
		return fmt.Errorf("%w: %d blocks of metadata, room for %d", ErrTooLarge, len(blocks), n)
	}
	flagged := t.onDisk
	flagged.FeatureIncompat |= disk.IncompatRecover
	if err := t.writeSuperblock(&flagged); err != nil {
		return err
	}
	if err := j.Log(blocks); err != nil {
		return fmt.Errorf("cannot write the journal: %w", err)
	}
	order := [][]jbd2.Block{blocks}
	if parts != nil {
		order = parts(blocks)
	}
	for _, part := range order {
		if err := t.checkpoint(part); err != nil {
			return err
		}
	}
	if err := j.Clean(); err != nil {
		return fmt.Errorf("cannot empty the journal: %w", err)
	}
	sb.FeatureIncompat &^= disk.IncompatRecover
	return t.writeSuperblock(sb)
}

// blocks lists the blocks of the transaction, by number, with the superblock.
func (t *Tx) blocks(sb *disk.Superblock) ([]jbd2.Block, error) {
	n := t.superblockBlock()
	old, err := t.v.block(n)
	if err != nil {
		return nil, err
	}
	b := slices.Clone(old)
	sb.Encode(b[disk.SuperblockOffset%len(b):])
	t.v.dirty[n] = b
	blocks := make([]jbd2.Block, 0, len(t.v.dirty))
	for _, n := range slices.Sorted(maps.Keys(t.v.dirty)) {
		blocks = append(blocks, jbd2.Block{Number: n, Data: t.v.dirty[n]})
	}
	return blocks, nil
}

// checkpoint writes blocks to their places, adjacent ones together, and makes them
// durable.
func (t *Tx) checkpoint(blocks []jbd2.Block) error {
	dev := txDevice{t}
	limit := max(pieceBytes, t.v.bs)
	if t.buf == nil {
		t.buf = buffers.Get().(*[]byte)
	}
	buf := (*t.buf)[:0]
	defer func() { *t.buf = buf[:cap(buf)] }()
	for i := 0; i < len(blocks); {
		first := i
		buf = append(buf[:0], blocks[i].Data...)
		for i++; i < len(blocks) && blocks[i].Number == blocks[i-1].Number+1 && len(buf) < limit; i++ {
			buf = append(buf, blocks[i].Data...)
		}
		if err := dev.WriteBlocks(blocks[first].Number, buf); err != nil {
			return err
		}
	}
	return dev.Sync()
}

// commitInPlace is for images without a journal. While the blocks are written, the
// file system is marked as not unmounted, so that whoever comes next checks it.
func (t *Tx) commitInPlace(sb *disk.Superblock) error {
	dev := txDevice{t}
	clean := sb.State
	sb.State &^= disk.StateClean
	marked := t.onDisk
	marked.State &^= disk.StateClean
	if err := t.writeSuperblock(&marked); err != nil {
		return err
	}
	// Contents are durable before anything refers to them.
	if err := dev.Sync(); err != nil {
		return err
	}
	blocks, err := t.blocks(sb)
	if err != nil {
		return err
	}
	if err := t.checkpoint(blocks); err != nil {
		return err
	}
	sb.State = clean
	if err := t.writeSuperblock(sb); err != nil {
		return err
	}
	return dev.Sync()
}
