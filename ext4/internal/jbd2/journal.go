package jbd2

import (
	"fmt"
	"math/bits"
)

// Device is the file system that holds the journal.
//
// Both reads and writes are of adjacent blocks: the first is n, counted from the
// start of the file system, and b is as long as one or more whole blocks. They fail
// unless all of b is read or written. b is the caller's again after the return.
type Device interface {
	ReadBlocks(n uint64, b []byte) error
	WriteBlocks(n uint64, b []byte) error
	// Sync returns when all that was written before would survive a power failure.
	Sync() error
}

// Map says in which block of the Device block i of the journal lies. It is asked
// only for blocks below Config.Blocks.
type Map func(i uint32) (uint64, error)

// Config describes the file system and the file in it that is the journal.
type Config struct {
	// BlockSize is that of the file system in bytes: a power of two, 1024 to 65536.
	BlockSize int
	// Blocks is the length of the journal's file in blocks.
	Blocks uint32
	// FSBlocks is the length of the file system in blocks. No block from there on
	// is read or written.
	FSBlocks uint64
}

// Journal is an open journal. It must not be used from several goroutines at once.
// It holds no resources: there is nothing to close.
type Journal struct {
	dev Device
	at  Map
	c   Config

	// sb is the block of the superblock as it shall be on the disk. Everything
	// below but logged and buf is read from it by load.
	sb []byte

	first, last uint32 // the log is [first, last)
	compat      uint32
	incompat    uint32
	seed        uint32 // of all checksums of versions 2 and 3 but the superblock's
	fcBlock     uint32 // the first block of the fast commits, 0 if there are none

	// logged is set while the only transaction in the log is one that Log wrote
	// whole: then Clean loses nothing that was not the caller's.
	logged bool

	buf  []byte   // blocks on their way to the log
	nums []uint64 // numbers of a transaction's blocks
}

// Open reads and checks the superblock of a journal. It writes nothing.
//
// The errors are ErrCorrupt, an *UnsupportedError, or those of dev and m. A journal
// shorter than MinBlocks is taken, although the kernel would not mount it.
func Open(dev Device, m Map, c Config) (*Journal, error) {
	if c.BlockSize < minBlockSize || c.BlockSize > maxBlockSize || bits.OnesCount(uint(c.BlockSize)) != 1 {
		return nil, fmt.Errorf("jbd2: block size %d", c.BlockSize)
	}
	if c.Blocks == 0 {
		return nil, corrupt("the file is empty")
	}
	j := &Journal{dev: dev, at: m, c: c, sb: make([]byte, c.BlockSize)}
	n, err := j.place(0)
	if err != nil {
		return nil, err
	}
	if err := dev.ReadBlocks(n, j.sb); err != nil {
		return nil, err
	}
	if err := j.load(); err != nil {
		return nil, err
	}
	return j, nil
}

// Dirty says whether the log is not empty, so that Replay has something to look at:
// it may still turn out that no transaction in it is complete.
func (j *Journal) Dirty() bool { return j.start() != 0 }

// Sequence returns the number of the first transaction in the log, or if it is
// empty a number that none has had since the journal was made.
func (j *Journal) Sequence() uint32 { return be.Uint32(j.sb[sSequence:]) }

// Errno returns the error that the kernel noted when it gave up the file system, as
// a negative errno; 0 if there was none. Nothing here clears it: it asks for a check
// of the whole file system.
func (j *Journal) Errno() int32 { return int32(be.Uint32(j.sb[sErrno:])) }

// UUID returns the journal's UUID, zero in a superblock of version 1.
func (j *Journal) UUID() (u [16]byte) {
	if j.v2() {
		copy(u[:], j.sb[sUUID:])
	}
	return u
}

// Capacity returns how many blocks one transaction can carry.
func (j *Journal) Capacity() int {
	log := int(j.last - j.first)
	if log < 3 {
		return 0
	}
	// Each descriptor block but the last is full, and one block is the commit.
	per := j.tagsPerBlock()
	log--
	whole := log / (per + 1) * per
	if rest := log % (per + 1); rest > 1 {
		whole += rest - 1
	}
	return whole
}

func (j *Journal) start() uint32 { return be.Uint32(j.sb[sStart:]) }

func (j *Journal) csum23() bool { return j.incompat&(incompatCsumV2|incompatCsumV3) != 0 }

// next is the block of the log after block i.
func (j *Journal) next(i uint32) uint32 {
	if i++; i >= j.last {
		return j.first
	}
	return i
}

// place is where block i of the journal lies.
func (j *Journal) place(i uint32) (uint64, error) {
	n, err := j.at(i)
	if err != nil {
		return 0, err
	}
	if n >= j.c.FSBlocks {
		return 0, corrupt("block %d of the journal lies at %d, beyond the file system", i, n)
	}
	return n, nil
}
