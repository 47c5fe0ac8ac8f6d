// Package disk holds the on-disk structures of ext4: their layouts, checksums and
// arithmetic, without any input or output. Names of fields and flags follow the
// kernel's fs/ext4/ext4.h and Documentation/filesystems/ext4; all integers on disk
// are little-endian.
package disk

import (
	"encoding/binary"
	"errors"
	"fmt"

	"banger/ext4/internal/crc"
)

const (
	// SuperblockOffset is where the primary superblock lies, in bytes, whatever
	// the block size.
	SuperblockOffset = 1024
	// SuperblockSize is its length in bytes.
	SuperblockSize = 1024
	// Magic is s_magic.
	Magic = 0xef53
)

// Values of s_state.
const (
	StateClean  = 0x1 // cleanly unmounted
	StateErrors = 0x2 // errors were found
	StateOrphan = 0x4 // orphans are being recovered
)

// Values of s_flags.
const (
	FlagSignedHash   = 0x1 // directory hashes take characters as signed
	FlagUnsignedHash = 0x2 // or as unsigned
	FlagTestFS       = 0x4
)

// Values of s_default_mount_opts.
const (
	MountOptXattrUser = 0x0004
	MountOptACL       = 0x0008
)

// Well-known inodes (Documentation/filesystems/ext4/special_inodes.rst).
const (
	RootIno    = 2
	ResizeIno  = 7
	JournalIno = 8
	FirstIno   = 11 // the first one that is free to use; mke2fs makes it lost+found
)

// Superblock is struct ext4_super_block, field by field (super.rst); its size
// encoded is SuperblockSize.
type Superblock struct {
	InodesCount       uint32
	BlocksCountLo     uint32
	RBlocksCountLo    uint32
	FreeBlocksCountLo uint32
	FreeInodesCount   uint32
	FirstDataBlock    uint32
	LogBlockSize      uint32
	LogClusterSize    uint32
	BlocksPerGroup    uint32
	ClustersPerGroup  uint32
	InodesPerGroup    uint32
	Mtime             uint32
	Wtime             uint32
	MntCount          uint16
	MaxMntCount       uint16
	Magic             uint16
	State             uint16
	Errors            uint16
	MinorRevLevel     uint16
	Lastcheck         uint32
	Checkinterval     uint32
	CreatorOS         uint32
	RevLevel          uint32
	DefResuid         uint16
	DefResgid         uint16
	FirstIno          uint32
	InodeSize         uint16
	BlockGroupNr      uint16
	FeatureCompat     uint32
	FeatureIncompat   uint32
	FeatureROCompat   uint32
	UUID              [16]byte
	VolumeName        [16]byte
	LastMounted       [64]byte
	AlgorithmUsage    uint32
	PreallocBlocks    uint8
	PreallocDirBlocks uint8
	ReservedGDTBlocks uint16
	JournalUUID       [16]byte
	JournalInum       uint32
	JournalDev        uint32
	LastOrphan        uint32
	HashSeed          [4]uint32
	DefHashVersion    uint8
	JnlBackupType     uint8
	DescSize          uint16
	DefaultMountOpts  uint32
	FirstMetaBG       uint32
	MkfsTime          uint32
	JnlBlocks         [17]uint32
	BlocksCountHi     uint32
	RBlocksCountHi    uint32
	FreeBlocksCountHi uint32
	MinExtraIsize     uint16
	WantExtraIsize    uint16
	Flags             uint32
	RaidStride        uint16
	MMPInterval       uint16
	MMPBlock          uint64
	RaidStripeWidth   uint32
	LogGroupsPerFlex  uint8
	ChecksumType      uint8
	EncryptionLevel   uint8
	_                 uint8
	KbytesWritten     uint64
	SnapshotInum      uint32
	SnapshotID        uint32
	SnapshotRBlocks   uint64
	SnapshotList      uint32
	ErrorCount        uint32
	FirstErrorTime    uint32
	FirstErrorIno     uint32
	FirstErrorBlock   uint64
	FirstErrorFunc    [32]byte
	FirstErrorLine    uint32
	LastErrorTime     uint32
	LastErrorIno      uint32
	LastErrorLine     uint32
	LastErrorBlock    uint64
	LastErrorFunc     [32]byte
	MountOpts         [64]byte
	UsrQuotaInum      uint32
	GrpQuotaInum      uint32
	OverheadBlocks    uint32
	BackupBGs         [2]uint32
	EncryptAlgos      [4]uint8
	EncryptPwSalt     [16]byte
	LpfIno            uint32
	PrjQuotaInum      uint32
	ChecksumSeed      uint32
	WtimeHi           uint8
	MtimeHi           uint8
	MkfsTimeHi        uint8
	LastcheckHi       uint8
	FirstErrorTimeHi  uint8
	LastErrorTimeHi   uint8
	FirstErrorCode    uint8
	LastErrorCode     uint8
	Encoding          uint16
	EncodingFlags     uint16
	OrphanFileInum    uint32
	Reserved          [94]uint32
	Checksum          uint32
}

// ErrNotExt4 says that the bytes are no superblock of ext2, ext3 or ext4.
var ErrNotExt4 = errors.New("not an ext4 file system (its superblock has another magic)")

// CorruptError says what on the disk contradicts the format.
type CorruptError struct{ What string }

func (e *CorruptError) Error() string { return "the file system is damaged: " + e.What }

// Corrupt makes a CorruptError.
func Corrupt(format string, args ...any) error {
	return &CorruptError{fmt.Sprintf(format, args...)}
}

// DecodeSuperblock reads and checks a superblock: magic, checksum, and that its
// numbers make sense together, so that arithmetic on them can neither divide by
// zero nor overflow. Features are not judged. b has SuperblockSize bytes.
func DecodeSuperblock(b []byte) (*Superblock, error) {
	s := new(Superblock)
	if _, err := binary.Decode(b, binary.LittleEndian, s); err != nil {
		return nil, err
	}
	if s.Magic != Magic {
		return nil, ErrNotExt4
	}
	if s.MetadataCsum() {
		if s.ChecksumType != 1 {
			return nil, Corrupt("the superblock names the checksum type %d, not 1 (crc32c)", s.ChecksumType)
		}
		if got := crc.C(^uint32(0), b[:SuperblockSize-4]); got != s.Checksum {
			return nil, Corrupt("the superblock's checksum is %#x, not %#x", s.Checksum, got)
		}
	}
	if s.RevLevel == 0 { // before features: fixed values (EXT4_GOOD_OLD_REV)
		s.FirstIno, s.InodeSize = FirstIno, 128
	}
	return s, s.check()
}

func (s *Superblock) check() error {
	if s.RevLevel > 1 {
		return Corrupt("the superblock's revision is %d", s.RevLevel)
	}
	if s.LogBlockSize > 6 {
		return Corrupt("the superblock's block size is 2^%d KiB; 1 to 64 KiB exist", s.LogBlockSize)
	}
	bs := uint32(s.BlockSize())
	switch {
	case s.FeatureROCompat&ROCompatBigalloc == 0 && s.LogClusterSize != s.LogBlockSize && s.LogClusterSize != 0:
		return Corrupt("clusters differ from blocks without the feature bigalloc")
	case s.LogClusterSize > 20 || s.FeatureROCompat&ROCompatBigalloc != 0 && s.LogClusterSize < s.LogBlockSize:
		return Corrupt("the cluster size 2^%d KiB is out of range", s.LogClusterSize)
	case s.BlocksPerGroup == 0 || s.BlocksPerGroup%8 != 0 || uint64(s.BlocksPerGroup) > 8*uint64(bs)<<s.clusterBits():
		return Corrupt("%d blocks a group", s.BlocksPerGroup)
	case s.InodesPerGroup == 0 || s.InodesPerGroup > 8*bs:
		return Corrupt("%d inodes a group", s.InodesPerGroup)
	case s.InodeSize < 128 || uint32(s.InodeSize) > bs || s.InodeSize&(s.InodeSize-1) != 0:
		return Corrupt("inodes of %d bytes", s.InodeSize)
	case s.FirstDataBlock != 0 && (s.FirstDataBlock != 1 || bs != 1024), s.FirstDataBlock == 0 && bs == 1024 && s.clusterBits() == 0:
		return Corrupt("the first data block is %d", s.FirstDataBlock)
	case s.Has64Bit() && (s.DescSize < 64 || s.DescSize > 1024 || s.DescSize&(s.DescSize-1) != 0):
		return Corrupt("group descriptors of %d bytes", s.DescSize)
	case s.Blocks() <= uint64(s.FirstDataBlock), s.Blocks() >= 1<<48:
		return Corrupt("%d blocks", s.Blocks())
	case uint64(s.Groups())*uint64(s.InodesPerGroup) != uint64(s.InodesCount):
		return Corrupt("%d inodes in %d groups of %d", s.InodesCount, s.Groups(), s.InodesPerGroup)
	case s.FirstIno < FirstIno || s.FirstIno > s.InodesCount:
		return Corrupt("the first inode to use is %d", s.FirstIno)
	case s.FreeBlocks() > s.Blocks() || s.FreeInodesCount > s.InodesCount:
		return Corrupt("more free blocks or inodes than there are")
	case s.FeatureIncompat&IncompatMetaBG == 0 && uint64(s.GDTBlocks())+uint64(s.ReservedGDTBlocks) >= uint64(s.BlocksPerGroup):
		return Corrupt("the group descriptors do not fit into a group")
	}
	return nil
}

// Encode writes s to b, SuperblockSize bytes, with its checksum, which it also
// sets in s.
func (s *Superblock) Encode(b []byte) {
	if _, err := binary.Encode(b, binary.LittleEndian, s); err != nil {
		panic(err) // b is too short
	}
	if s.MetadataCsum() {
		s.Checksum = crc.C(^uint32(0), b[:SuperblockSize-4])
		binary.LittleEndian.PutUint32(b[SuperblockSize-4:], s.Checksum)
	}
}
