package jbd2

import (
	"fmt"
	"slices"
	"time"
)

// Block is a block to log.
type Block struct {
	// Number is its place in the file system, which must not be in the journal.
	Number uint64
	// Data is its contents, one block long. It is not changed.
	Data []byte
}

// logChunk is how many bytes of the log are written at once.
const logChunk = 256 << 10

// Log writes the blocks as one transaction into the empty log. When it returns, the
// transaction is durable: whoever opens the file system next replays it whole. If it
// is stopped before that, a replay finds all of it or nothing. The caller then
// writes the blocks to their places, calls the Device's Sync, and Clean.
//
// All that was written to the Device before is durable before the transaction is.
// So data that the blocks refer to, and the needs_recovery flag of ext4's
// superblock, without which the kernel throws the log away, can be written first
// and need no Sync of their own.
//
// The transaction has the checksums and the width of tags that the journal has: see
// Upgrade. No blocks are no transaction. ErrDirty and ErrTooLarge say that there is
// no room; a number that is given twice or outside the file system, or a Data of
// another length is an error too. In all of these cases nothing was written.
// After an error of the Device the transaction may or may not be durable: if Dirty,
// Replay settles it.
func (j *Journal) Log(blocks []Block) error {
	if j.Dirty() {
		return ErrDirty
	}
	if err := j.checkBlocks(blocks); err != nil || len(blocks) == 0 {
		return err
	}
	w := &logWriter{j: j, pos: j.first, sum: ^uint32(0), sequence: after(j.Sequence(), 1)}
	if err := w.start(blocks); err != nil {
		return err
	}
	if err := j.dev.Sync(); err != nil {
		return err
	}
	// From here on the disk may have the transaction. The superblock that points to
	// it goes with the commit block and not, as the kernel does it, with the blocks:
	// either alone means nothing, and the start of the log is not believed while
	// what an older journal left there may still be in place.
	j.setLog(j.first, w.sequence)
	if err := j.writeSuper(); err != nil {
		return err
	}
	if err := w.commit(); err != nil {
		return err
	}
	if err := j.dev.Sync(); err != nil {
		return err
	}
	j.logged = true
	return nil
}

// Clean empties the log after the blocks of Log's transaction were made durable in
// their places. ErrDirty if the log has other transactions; with an empty log it
// does nothing. All that was written to the Device before is durable after it.
func (j *Journal) Clean() error {
	if !j.Dirty() {
		return nil
	}
	if !j.logged {
		return ErrDirty
	}
	return j.empty(after(j.Sequence(), 1))
}

func (j *Journal) checkBlocks(blocks []Block) error {
	if len(blocks) > j.Capacity() {
		return fmt.Errorf("%w: %d blocks, room for %d", ErrTooLarge, len(blocks), j.Capacity())
	}
	j.nums = j.nums[:0]
	for _, b := range blocks {
		if len(b.Data) != j.c.BlockSize {
			return fmt.Errorf("jbd2: block %d has %d bytes, not %d", b.Number, len(b.Data), j.c.BlockSize)
		}
		if b.Number >= j.c.FSBlocks {
			return fmt.Errorf("jbd2: block %d in a file system of %d", b.Number, j.c.FSBlocks)
		}
		if b.Number>>32 != 0 && j.incompat&incompat64Bit == 0 {
			return fmt.Errorf("jbd2: block %d in a journal without 64bit", b.Number)
		}
		j.nums = append(j.nums, b.Number)
	}
	slices.Sort(j.nums)
	for i := 1; i < len(j.nums); i++ {
		if j.nums[i] == j.nums[i-1] {
			return fmt.Errorf("jbd2: block %d is given twice", j.nums[i])
		}
	}
	return nil
}

// logWriter writes a transaction: blocks gather in the journal's buf while they lie
// next to each other on the device.
type logWriter struct {
	j        *Journal
	pos      uint32 // the next block of the journal
	sequence uint32
	sum      uint32 // first version of the checksums
	at       uint64 // where buf goes
}

// start writes the transaction but for its commit block, in whose place it leaves
// zeros: what is there now could be a commit block with the same number.
func (w *logWriter) start(blocks []Block) error {
	j := w.j
	per := j.tagsPerBlock()
	all := len(blocks) + (len(blocks)+per-1)/per + 1
	if need := min(all*j.c.BlockSize, max(logChunk, j.c.BlockSize)); cap(j.buf) < need {
		j.buf = make([]byte, 0, need)
	}
	j.buf = j.buf[:0]
	for part := range slices.Chunk(blocks, per) {
		if err := w.part(part); err != nil {
			return err
		}
	}
	b, err := w.block()
	if err != nil {
		return err
	}
	clear(b)
	if err := w.flush(); err != nil {
		return err
	}
	return w.fence()
}

// part writes a descriptor block and its blocks.
func (w *logWriter) part(blocks []Block) error {
	j := w.j
	b, err := w.block()
	if err != nil {
		return err
	}
	clear(b)
	w.header(b, typeDescriptor)
	off := headerSize
	for i, p := range blocks {
		var flags uint16
		if i > 0 {
			flags |= flagSameUUID
		}
		if i == len(blocks)-1 {
			flags |= flagLastTag
		}
		t := tag{block: p.Number, escape: hasMagic(p.Data)}
		if j.csum23() {
			t.sum = j.loggedSum(w.sequence, p.Data, t.escape)
		}
		off = j.writeTag(b, off, t, flags)
	}
	if j.csum23() {
		be.PutUint32(b[len(b)-tailSize:], tailSum(j.seed, b, len(b)-tailSize))
	}
	w.add(b)
	for _, p := range blocks {
		b, err := w.block()
		if err != nil {
			return err
		}
		copy(b, p.Data)
		if hasMagic(b) {
			clear(b[:4])
		}
		w.add(b)
	}
	return nil
}

// fence makes sure that the log ends after the commit block: a remnant of an older
// journal there, with the next number, would be replayed with the transaction.
func (w *logWriter) fence() error {
	j := w.j
	if w.pos >= j.last {
		return nil
	}
	at, err := j.place(w.pos)
	if err != nil {
		return err
	}
	b := j.buf[:j.c.BlockSize]
	if err := j.dev.ReadBlocks(at, b); err != nil {
		return err
	}
	if !hasMagic(b) || be.Uint32(b[hSequence:]) != w.sequence+1 {
		return nil
	}
	clear(b)
	return j.dev.WriteBlocks(at, b)
}

// commit writes the commit block over the zeros that start left.
func (w *logWriter) commit() error {
	j := w.j
	at, err := j.place(w.pos - 1)
	if err != nil {
		return err
	}
	b := j.buf[:j.c.BlockSize]
	clear(b)
	w.header(b, typeCommit)
	now := time.Now()
	be.PutUint64(b[hCommitSec:], uint64(now.Unix()))
	be.PutUint32(b[hCommitNsec:], uint32(now.Nanosecond()))
	switch {
	case j.csum23():
		be.PutUint32(b[hChksum:], tailSum(j.seed, b, hChksum))
	case j.compat&compatChecksum != 0:
		b[hChksumType], b[hChksumSize] = chksumTypeCRC32, chksumSizeCRC32
		be.PutUint32(b[hChksum:], w.sum)
	}
	return j.dev.WriteBlocks(at, b)
}

func (w *logWriter) header(b []byte, typ uint32) {
	be.PutUint32(b[hMagic:], magic)
	be.PutUint32(b[hBlocktype:], typ)
	be.PutUint32(b[hSequence:], w.sequence)
}

// block returns room for the next block of the log, with anything in it. It is
// written with or after the next call.
func (w *logWriter) block() ([]byte, error) {
	j, size := w.j, w.j.c.BlockSize
	at, err := j.place(w.pos)
	if err != nil {
		return nil, err
	}
	if n := len(j.buf); n > 0 && (n+size > cap(j.buf) || at != w.at+uint64(n/size)) {
		if err := w.flush(); err != nil {
			return nil, err
		}
	}
	if len(j.buf) == 0 {
		w.at = at
	}
	w.pos++
	n := len(j.buf)
	j.buf = j.buf[:n+size]
	return j.buf[n:], nil
}

// add adds a block to the checksum of the first version.
func (w *logWriter) add(b []byte) {
	if w.j.compat&compatChecksum != 0 {
		w.sum = crcBE(w.sum, b)
	}
}

func (w *logWriter) flush() error {
	err := w.j.dev.WriteBlocks(w.at, w.j.buf)
	w.j.buf = w.j.buf[:0]
	return err
}
