package jbd2

import (
	"fmt"
	"math/bits"
)

func (j *Journal) v2() bool { return be.Uint32(j.sb[hBlocktype:]) == typeSuperblockV2 }

// load checks sb and sets what is derived from it.
func (j *Journal) load() error {
	sb := j.sb
	if m := be.Uint32(sb[hMagic:]); m != magic {
		return corrupt("magic number %#x", m)
	}
	if t := be.Uint32(sb[hBlocktype:]); t != typeSuperblockV1 && t != typeSuperblockV2 {
		return corrupt("superblock of type %d", t)
	}
	if s := be.Uint32(sb[sBlocksize:]); s != uint32(j.c.BlockSize) {
		return corrupt("block size %d in a file system of %d", s, j.c.BlockSize)
	}
	j.compat, j.incompat, j.fcBlock = 0, 0, 0
	if j.v2() {
		if err := j.loadFeatures(); err != nil {
			return err
		}
	}
	return j.loadLog()
}

func (j *Journal) loadFeatures() error {
	sb := j.sb
	j.compat = be.Uint32(sb[sFeatureCompat:])
	j.incompat = be.Uint32(sb[sFeatureIncompat:])
	if f := j.incompat &^ incompatKnown; f != 0 {
		return &UnsupportedError{fmt.Sprintf("incompat %#x", f)}
	}
	if f := be.Uint32(sb[sFeatureROCompat:]); f != 0 {
		return &UnsupportedError{fmt.Sprintf("ro_compat %#x", f)}
	}
	if j.csum23() {
		if j.incompat&incompatCsumV2 != 0 && j.incompat&incompatCsumV3 != 0 || j.compat&compatChecksum != 0 {
			return corrupt("several versions of checksums")
		}
		if t := sb[sChecksumType]; t != checksumCRC32C {
			return &UnsupportedError{fmt.Sprintf("checksum type %d", t)}
		}
		if got, want := be.Uint32(sb[sChecksum:]), superSum(sb); got != want {
			return corrupt("checksum of the superblock is %#x, not %#x", got, want)
		}
	}
	j.setSeed()
	return nil
}

// loadLog bounds the log.
func (j *Journal) loadLog() error {
	sb := j.sb
	j.first, j.last = be.Uint32(sb[sFirst:]), be.Uint32(sb[sMaxlen:])
	if j.last > j.c.Blocks {
		return corrupt("length %d in a file of %d blocks", j.last, j.c.Blocks)
	}
	if j.incompat&incompatFastCommit != 0 {
		n := be.Uint32(sb[sNumFCBlks:])
		if n == 0 {
			n = defaultFastCommitBlocks
		}
		if n > j.last || j.last-n < MinBlocks {
			return corrupt("%d blocks of fast commits in %d", n, j.last)
		}
		j.last -= n
		// The kernel leaves one block between the log and them.
		if n > 1 {
			j.fcBlock = j.last + 1
		}
	}
	if j.first == 0 || j.first >= j.last {
		return corrupt("log from block %d to %d", j.first, j.last)
	}
	if s := j.start(); s != 0 && (s < j.first || s >= j.last) {
		return corrupt("start at block %d of a log from %d to %d", s, j.first, j.last)
	}
	return nil
}

// writeSuper writes sb with its checksum, without Sync.
func (j *Journal) writeSuper() error {
	if j.csum23() {
		be.PutUint32(j.sb[sChecksum:], superSum(j.sb))
	}
	n, err := j.place(0)
	if err != nil {
		return err
	}
	return j.dev.WriteBlocks(n, j.sb)
}

// setLog sets where the log starts, 0 for an empty one, and its first sequence
// number. An empty log has no fast commits either: like the kernel it drops the
// feature then, which also keeps old ones from being taken for new.
func (j *Journal) setLog(start, sequence uint32) {
	be.PutUint32(j.sb[sStart:], start)
	be.PutUint32(j.sb[sSequence:], sequence)
	if j.incompat&incompatFastCommit != 0 {
		j.fcBlock = 0
		j.incompat &^= incompatFastCommit
		be.PutUint32(j.sb[sFeatureIncompat:], j.incompat)
	}
}

// after is the sequence number n further. Zero is left out, as the kernel takes it
// for none.
func after(sequence, n uint32) uint32 {
	if s := sequence + n; s != 0 {
		return s
	}
	return 1
}

// Upgrade changes the checksums of an empty journal to version 3, the one that the
// kernel uses with metadata_csum, and makes its tags 64-bit if wide, as a file
// system with the 64bit feature has them. A 64-bit journal stays one. ErrDirty if
// the log is not empty. Nothing is written before the next Log or Clean.
func (j *Journal) Upgrade(wide bool) error {
	if j.Dirty() {
		return ErrDirty
	}
	if !j.v2() {
		// What was after s_errno is undefined in version 1.
		clear(j.sb[sFeatureCompat:superblockSize])
		be.PutUint32(j.sb[hBlocktype:], typeSuperblockV2)
		be.PutUint32(j.sb[sNrUsers:], 1)
	}
	j.compat &^= compatChecksum
	j.incompat = j.incompat&^incompatCsumV2 | incompatCsumV3
	if wide {
		j.incompat |= incompat64Bit
	}
	be.PutUint32(j.sb[sFeatureCompat:], j.compat)
	be.PutUint32(j.sb[sFeatureIncompat:], j.incompat)
	j.sb[sChecksumType] = checksumCRC32C
	j.setSeed()
	return nil
}

// FormatConfig describes a journal to make.
type FormatConfig struct {
	// BlockSize is that of the file system in bytes: a power of two, 1024 to 65536.
	BlockSize int
	// Blocks is the length of the journal with its superblock, at least MinBlocks.
	Blocks uint32
	// Wide makes tags 64-bit: for a file system with the 64bit feature.
	Wide bool
	// Checksums is whether blocks have checksums, version 3: for metadata_csum.
	Checksums bool
	// UUID is the file system's.
	UUID [16]byte
}

// Format returns the first block of a new and empty journal, a superblock of
// version 2. The blocks after it should be zeros or a hole: what was there before
// could be taken for a transaction if the sequence number fits, which starts at 1.
func Format(c FormatConfig) ([]byte, error) {
	if c.BlockSize < minBlockSize || c.BlockSize > maxBlockSize || bits.OnesCount(uint(c.BlockSize)) != 1 {
		return nil, fmt.Errorf("jbd2: block size %d", c.BlockSize)
	}
	if c.Blocks < MinBlocks {
		return nil, fmt.Errorf("jbd2: a journal of %d blocks is shorter than %d", c.Blocks, MinBlocks)
	}
	sb := make([]byte, c.BlockSize)
	be.PutUint32(sb[hMagic:], magic)
	be.PutUint32(sb[hBlocktype:], typeSuperblockV2)
	be.PutUint32(sb[sBlocksize:], uint32(c.BlockSize))
	be.PutUint32(sb[sMaxlen:], c.Blocks)
	be.PutUint32(sb[sFirst:], 1)
	be.PutUint32(sb[sSequence:], 1)
	be.PutUint32(sb[sNrUsers:], 1)
	copy(sb[sUUID:], c.UUID[:])
	var incompat uint32
	if c.Wide {
		incompat |= incompat64Bit
	}
	if c.Checksums {
		incompat |= incompatCsumV3
		sb[sChecksumType] = checksumCRC32C
	}
	be.PutUint32(sb[sFeatureIncompat:], incompat)
	if c.Checksums {
		be.PutUint32(sb[sChecksum:], superSum(sb))
	}
	return sb, nil
}
