package ext4

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"banger/ext4/internal/crc"
	"banger/ext4/internal/disk"
	"banger/ext4/internal/jbd2"
)

// File is where an image lies: an *os.File of a regular file or of a block device,
// open for reading and writing. What changes it takes a lock on one that has a
// SyscallConn, as *os.File has.
type File interface {
	io.ReaderAt
	io.WriterAt
	// Sync returns when all that was written before would survive a power failure.
	Sync() error
}

// ResizableFile is where an image is made or resized: usually an *os.File.
type ResizableFile interface {
	File
	// Truncate sets the size in bytes; what it adds reads as zeros.
	Truncate(size int64) error
}

// Options say what file system Format and NewBuilder make. The same options and
// the same content give the same image, byte for byte. The zero value of each field
// is a good choice.
type Options struct {
	// Size is that of the image in bytes, from MinSize to MaxSize; a rest of less
	// than a block of 4 KiB is not used, and sometimes up to a few MiB at the end that
	// are too few for a block group. Zero makes a packed image: as large as
	// its content, with no room to write and no journal.
	Size int64
	// Label is the volume's name, at most 16 bytes.
	Label string
	// UUID identifies the file system. All zero: one is derived from the options
	// and the content.
	UUID [16]byte
	// HashSeed salts the hashes of indexed directories. All zero: derived from
	// UUID, or from Label.
	HashSeed [16]byte
	// Time stamps what the content gives no time for: the file system itself,
	// its root, parents that were not in the archive. Zero is 1970.
	Time time.Time
	// BytesPerInode is how much of Size there is an inode for: 16 KiB if zero, at
	// least 1024. A packed image has as many inodes as it needs.
	BytesPerInode int64
	// JournalSize is that of the journal in bytes. Zero chooses: 64 MiB from 1 GiB
	// on, 16 MiB from 128 MiB on, 4 MiB from 8 MiB on, below that none. Negative: none.
	// The least is 4 MiB. Only what was written to the journal takes space on the host.
	JournalSize int64
	// ReservedBlocks is how many blocks of 4 KiB only the guest's root may use.
	ReservedBlocks uint64
	// MaxMemory bounds what a Builder keeps of the content, names, inodes, attributes
	// and maps, in bytes and roughly: a file takes some 250 and its name. Content with
	// more is refused with [ErrTooMany]. Zero is no bound.
	MaxMemory int64
}

const (
	// MinSize and MaxSize bound the size of an image in bytes.
	MinSize = 1 << 20
	MaxSize = 64 << 40

	blockSize       = 4096 // of the images that we make
	logBlockSize    = 2    // 1024 << 2
	inodeSize       = 256
	inodesPerBlock  = blockSize / inodeSize
	blocksPerGroup  = 8 * blockSize
	logFlex         = 4 // 16 groups keep their bitmaps and tables together
	minInodeRatio   = 1024
	fullInodeRatio  = 16384
	maxJournal      = 1 << 30 / blockSize * 10 // what jbd2 takes (JBD2_MAX_JOURNAL_BLOCKS)
	inodesInFullSet = 8176                     // inodes a group where 2^32 would be the next size
)

func (o *Options) check() error {
	switch {
	case o.Size != 0 && (o.Size < MinSize || o.Size > MaxSize):
		return fmt.Errorf("ext4: a size of %d bytes is not between 1 MiB and 64 TiB", o.Size)
	case len(o.Label) > 16:
		return fmt.Errorf("ext4: the label %q has more than 16 bytes", o.Label)
	case o.BytesPerInode != 0 && o.BytesPerInode < minInodeRatio:
		return fmt.Errorf("ext4: an inode for every %d bytes is too many; at least %d bytes", o.BytesPerInode, minInodeRatio)
	case o.Size == 0 && o.JournalSize > 0:
		return fmt.Errorf("ext4: a packed image has no journal")
	case o.JournalSize > 0 && (o.JournalSize < jbd2.MinBlocks*blockSize || o.JournalSize > maxJournal*blockSize || o.JournalSize > o.Size/2):
		return fmt.Errorf("ext4: a journal of %d bytes is not between 4 MiB and 10 GiB, or is more than half the image", o.JournalSize)
	case o.ReservedBlocks > uint64(o.Size/blockSize/2):
		return fmt.Errorf("ext4: %d reserved blocks are more than half the image", o.ReservedBlocks)
	}
	return nil
}

// journalBlocks is the length of the journal.
func (o *Options) journalBlocks() uint64 {
	switch {
	case o.JournalSize < 0 || o.Size == 0:
		return 0
	case o.JournalSize > 0:
		return uint64(o.JournalSize / blockSize)
	case o.Size >= 1<<30:
		return 64 << 20 / blockSize
	case o.Size >= 128<<20:
		return 16 << 20 / blockSize
	case o.Size >= 8<<20:
		return 4 << 20 / blockSize
	}
	return 0
}

// superblock returns one with all that does not depend on the layout.
func (o *Options) superblock() *disk.Superblock {
	seed := sha256.Sum256(append(o.UUID[:], o.Label...))
	if o.HashSeed != [16]byte{} {
		copy(seed[:], o.HashSeed[:])
	}
	now := diskTime(o.Time)
	sb := &disk.Superblock{
		LogBlockSize: logBlockSize, LogClusterSize: logBlockSize,
		Magic: disk.Magic, State: disk.StateClean, Errors: 1, // go on after errors: EXT4_ERRORS_CONTINUE
		MaxMntCount: 0xffff, RevLevel: 1, FirstIno: disk.FirstIno, InodeSize: inodeSize,
		FeatureCompat:   disk.CompatExtAttr | disk.CompatDirIndex,
		FeatureIncompat: disk.IncompatFiletype | disk.IncompatExtents | disk.Incompat64Bit | disk.IncompatFlexBG | disk.IncompatCsumSeed,
		FeatureROCompat: disk.ROCompatSparseSuper | disk.ROCompatLargeFile | disk.ROCompatHugeFile | disk.ROCompatDirNlink |
			disk.ROCompatExtraIsize | disk.ROCompatMetadataCsum,
		UUID: o.UUID, DefHashVersion: 1, DescSize: 64,
		DefaultMountOpts: disk.MountOptXattrUser | disk.MountOptACL,
		MinExtraIsize:    disk.ExtraIsize, WantExtraIsize: disk.ExtraIsize,
		Flags: disk.FlagSignedHash, LogGroupsPerFlex: logFlex, ChecksumType: 1,
		ChecksumSeed: crc.C(^uint32(0), seed[:16]),
		MkfsTime:     uint32(now.Sec), MkfsTimeHi: uint8(now.Sec >> 32), Wtime: uint32(now.Sec), WtimeHi: uint8(now.Sec >> 32),
		Lastcheck: uint32(now.Sec), LastcheckHi: uint8(now.Sec >> 32),
	}
	if o.UUID != [16]byte{} {
		sb.ChecksumSeed = crc.C(^uint32(0), o.UUID[:])
	}
	for i := range sb.HashSeed {
		sb.HashSeed[i] = binary.LittleEndian.Uint32(seed[4*i:])
	}
	copy(sb.VolumeName[:], o.Label)
	sb.SetReservedBlocks(o.ReservedBlocks)
	return sb
}

// diskTime converts; the zero time is 1970.
func diskTime(t time.Time) disk.Time {
	if t.IsZero() {
		return disk.Time{}
	}
	return disk.Time{Sec: t.Unix(), Nsec: uint32(t.Nanosecond())}.Clamp()
}
