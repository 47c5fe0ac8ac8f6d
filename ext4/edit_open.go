package ext4

import (
	"fmt"
	"math"

	"banger/ext4/internal/disk"
)

// Features of file systems that can be edited.
const (
	editCompat = disk.CompatDirPrealloc | disk.CompatHasJournal | disk.CompatExtAttr | disk.CompatResizeInode | disk.CompatDirIndex |
		disk.CompatSparseSuper2 | disk.CompatFastCommit | disk.CompatStableInodes | disk.CompatOrphanFile
	editIncompat = disk.IncompatFiletype | disk.IncompatRecover | disk.IncompatMetaBG | disk.IncompatExtents | disk.Incompat64Bit |
		disk.IncompatFlexBG | disk.IncompatEAInode | disk.IncompatCsumSeed | disk.IncompatLargeDir | disk.IncompatInlineData
	editROCompat = disk.ROCompatSparseSuper | disk.ROCompatLargeFile | disk.ROCompatHugeFile | disk.ROCompatGDTCsum | disk.ROCompatDirNlink |
		disk.ROCompatExtraIsize | disk.ROCompatMetadataCsum | disk.ROCompatProject | disk.ROCompatVerity | disk.ROCompatOrphanPresent
)

// open makes ready what Edit opens: it judges, replays the journal, and frees orphans.
func (t *Tx) open(size int64) error {
	v := &volume{dev: t.f}
	t.v = v
	if err := v.readSuperblock(size); err != nil {
		return err
	}
	if err := t.judge(size); err != nil {
		return err
	}
	replayed := v.sb.FeatureIncompat&disk.IncompatRecover != 0
	if err := t.openJournal(size); err != nil {
		return err
	}
	t.onDisk = *v.sb
	v.dirty = make(map[uint64][]byte)
	return t.atomically(func() error {
		if replayed {
			if err := t.recount(); err != nil {
				return err
			}
		}
		return t.freeOrphans()
	})
}

// judge refuses what cannot be edited, before anything is written.
func (t *Tx) judge(size int64) error {
	sb := t.v.sb
	var names []string
	names = append(names, disk.CompatNames(sb.FeatureCompat&^editCompat)...)
	names = append(names, disk.IncompatNames(sb.FeatureIncompat&^editIncompat)...)
	names = append(names, disk.ROCompatNames(sb.FeatureROCompat&^editROCompat)...)
	if len(names) > 0 {
		return &disk.FeatureError{Op: "edit", Features: names}
	}
	if sb.RevLevel == 0 {
		return &disk.FeatureError{Op: "edit", Features: []string{"revision 0"}}
	}
	journal := sb.FeatureCompat&disk.CompatHasJournal != 0
	switch {
	case sb.State&disk.StateErrors != 0:
		return disk.Corrupt("it is marked as having errors; e2fsck has to mend it first")
	case !journal && sb.State&disk.StateClean == 0:
		return disk.Corrupt("it was not unmounted and has no journal; e2fsck has to check it first")
	case !journal && sb.FeatureIncompat&disk.IncompatRecover != 0:
		return disk.Corrupt("it wants its journal replayed and has none")
	case !journal && !t.o.WithoutJournal:
		return ErrNoJournal
	case journal && sb.JournalInum == 0:
		return &disk.FeatureError{Op: "edit", Features: []string{"external journal"}}
	case sb.Blocks() > math.MaxInt64/uint64(t.v.bs) || size >= 0 && sb.Blocks()*uint64(t.v.bs) > uint64(size):
		return disk.Corrupt("it has %d blocks of %d bytes, and the image only %d bytes", sb.Blocks(), t.v.bs, size)
	}
	return nil
}

// openJournal opens the journal and, where that is due, replays it.
func (t *Tx) openJournal(size int64) error {
	v := t.v
	if v.sb.FeatureCompat&disk.CompatHasJournal == 0 {
		return nil
	}
	j, err := v.openJournal(txDevice{t})
	if err != nil {
		return err
	}
	if n := j.Errno(); n != 0 {
		return disk.Corrupt("its journal was given up with error %d; e2fsck has to mend it first", n)
	}
	if v.sb.FeatureIncompat&disk.IncompatRecover == 0 {
		if j.Dirty() {
			return disk.Corrupt("its journal has transactions, but no mark that they must be replayed; e2fsck has to decide")
		}
		t.journal = j
		return t.reserveJournal()
	}
	if _, err := j.Replay(); err != nil {
		return fmt.Errorf("cannot replay the journal: %w", err)
	}
	// What was read so far may be older than what the journal had.
	*v = volume{dev: t.f}
	if err := v.readSuperblock(size); err != nil {
		return err
	}
	if err := t.judge(size); err != nil {
		return err
	}
	v.sb.FeatureIncompat &^= disk.IncompatRecover
	if err := t.writeSuperblock(v.sb); err != nil {
		return err
	}
	v.cache = cache{}
	if t.journal, err = v.openJournal(txDevice{t}); err != nil {
		return err
	}
	return t.reserveJournal()
}

func (t *Tx) reserveJournal() error {
	i, _, err := t.v.inode(t.v.sb.JournalInum)
	if err != nil {
		return err
	}
	m, err := t.v.fileMap(t.v.sb.JournalInum, &i)
	if err != nil {
		return err
	}
	t.reserved = m.extents
	for _, n := range m.nodes {
		t.reserved = append(t.reserved, disk.Extent{Len: 1, Physical: n})
	}
	return nil
}

// writeSuperblock writes a superblock to its place, past the transaction.
func (t *Tx) writeSuperblock(sb *disk.Superblock) error {
	b := make([]byte, disk.SuperblockSize)
	sb.Encode(b)
	_, err := t.f.WriteAt(b, disk.SuperblockOffset)
	return err
}

// recount makes the sums in the superblock those of the groups: the kernel does not keep
// them while the file system is mounted.
func (t *Tx) recount() error {
	var blocks, inodes uint64
	for n := range t.v.groups {
		g, err := t.v.group(n)
		if err != nil {
			return err
		}
		blocks, inodes = blocks+uint64(g.FreeBlocks), inodes+uint64(g.FreeInodes)
	}
	sb := t.v.sb
	if blocks > sb.Blocks() || inodes > uint64(sb.InodesCount) {
		return disk.Corrupt("its groups count %d free blocks and %d free inodes", blocks, inodes)
	}
	if blocks == sb.FreeBlocks() && uint32(inodes) == sb.FreeInodesCount {
		return nil
	}
	sb.SetFreeBlocks(blocks)
	sb.FreeInodesCount = uint32(inodes)
	_, err := t.touch(t.superblockBlock())
	return err
}

// superblockBlock is the block that holds the superblock.
func (t *Tx) superblockBlock() uint64 { return uint64(disk.SuperblockOffset / t.v.bs) }
