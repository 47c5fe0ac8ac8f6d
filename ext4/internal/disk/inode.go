package disk

import (
	"encoding/binary"

	"banger/ext4/internal/crc"
)

// Type bits of i_mode (inode(7)).
const (
	ModeFmt     = 0xf000
	ModeFIFO    = 0x1000
	ModeChar    = 0x2000
	ModeDir     = 0x4000
	ModeBlock   = 0x6000
	ModeRegular = 0x8000
	ModeSymlink = 0xa000
	ModeSocket  = 0xc000
)

// Values of i_flags (Documentation/filesystems/ext4/inodes.rst).
const (
	InodeImmutable  = 0x10
	InodeAppend     = 0x20
	InodeCompressed = 0x4
	InodeEncrypted  = 0x800
	InodeIndexed    = 0x1000  // a hashed directory
	InodeHugeFile   = 0x40000 // i_blocks counts blocks of the file system
	InodeExtents    = 0x80000
	InodeVerity     = 0x100000
	InodeEAInode    = 0x200000 // holds an attribute's value
	InodeInlineData = 0x10000000
	InodeCasefold   = 0x40000000
)

// MinInode is the size in bytes of the part that every inode has; it is
// EXT4_GOOD_OLD_INODE_SIZE.
const MinInode = 128

// ExtraIsize is the i_extra_isize that we write: the fields up to i_projid.
const ExtraIsize = 32

// MaxLinks is the largest i_links_count of a file (EXT4_LINK_MAX); directories
// with more have 1 (dir_nlink).
const MaxLinks = 65000

// Time is a point in time as an inode has it.
type Time struct {
	Sec  int64 // since 1970; -2^31 to 2^34-2^31-1 where an inode has the extra fields
	Nsec uint32
}

// Limits of Time.Sec: with the extra fields (34 bits, 1901 to 2446), and without.
const (
	MinTime    = -1 << 31
	MaxTime    = 1<<34 - 1<<31 - 1
	MaxOldTime = 1<<31 - 1
)

// Inode is struct ext4_inode. Split fields are whole here.
type Inode struct {
	Mode         uint16
	UID, GID     uint32
	Size         uint64
	Atime, Ctime Time
	Mtime        Time
	Crtime       Time
	Dtime        uint32
	Links        uint16
	// Sectors is what the file occupies, in units of 512 bytes.
	Sectors    uint64
	Flags      uint32
	Generation uint32
	FileACL    uint64 // the block of extended attributes
	Block      [60]byte
	Version    uint64
	ExtraIsize uint16
	Projid     uint32
}

// IsDir, IsRegular and IsSymlink tell the type of file.
func (i *Inode) IsDir() bool     { return i.Mode&ModeFmt == ModeDir }
func (i *Inode) IsRegular() bool { return i.Mode&ModeFmt == ModeRegular }
func (i *Inode) IsSymlink() bool { return i.Mode&ModeFmt == ModeSymlink }

// InodeSeed is what the checksums of an inode and of all that belongs to it start
// from.
func (s *Superblock) InodeSeed(ino, generation uint32) uint32 {
	return crc.U32(crc.U32(s.ChecksumBase(), ino), generation)
}

// inodeChecksum is over the whole inode with the checksum taken as zero.
func (s *Superblock) inodeChecksum(ino uint32, b []byte) uint32 {
	c := s.InodeSeed(ino, binary.LittleEndian.Uint32(b[0x64:]))
	c = crc.C(c, b[:0x7c])
	c = crc.C(c, zeroSum[:])
	c = crc.C(c, b[0x7e:MinInode])
	if len(b) == MinInode {
		return c & 0xffff
	}
	rest := b[MinInode:]
	if extra := binary.LittleEndian.Uint16(rest); extra < 4 {
		return crc.C(c, rest) & 0xffff
	}
	c = crc.C(c, rest[:2])
	c = crc.C(c, zeroSum[:])
	return crc.C(c, rest[4:])
}

// DecodeInode reads inode ino from b, InodeSize bytes, and checks its checksum. An
// inode that was never used is all zeros, and has none.
func (s *Superblock) DecodeInode(ino uint32, b []byte) (Inode, error) {
	le := binary.LittleEndian
	i := Inode{
		Mode: le.Uint16(b), UID: uint32(le.Uint16(b[2:])) | uint32(le.Uint16(b[0x78:]))<<16,
		GID:  uint32(le.Uint16(b[0x18:])) | uint32(le.Uint16(b[0x7a:]))<<16,
		Size: uint64(le.Uint32(b[4:])), Dtime: le.Uint32(b[0x14:]), Links: le.Uint16(b[0x1a:]),
		Sectors: uint64(le.Uint32(b[0x1c:])), Flags: le.Uint32(b[0x20:]), Version: uint64(le.Uint32(b[0x24:])),
		Generation: le.Uint32(b[0x64:]), FileACL: uint64(le.Uint32(b[0x68:])),
	}
	copy(i.Block[:], b[0x28:])
	if t := i.Mode & ModeFmt; t == ModeRegular || t == ModeDir || t == ModeSymlink {
		i.Size |= uint64(le.Uint32(b[0x6c:])) << 32
	}
	if s.FeatureROCompat&ROCompatHugeFile != 0 {
		i.Sectors |= uint64(le.Uint16(b[0x74:])) << 32
		if i.Flags&InodeHugeFile != 0 {
			i.Sectors *= uint64(s.BlockSize() / 512)
		}
	}
	if s.Has64Bit() {
		i.FileACL |= uint64(le.Uint16(b[0x76:])) << 32
	}
	var extra []byte
	if len(b) > MinInode {
		i.ExtraIsize = le.Uint16(b[MinInode:])
		if int(i.ExtraIsize) > len(b)-MinInode || i.ExtraIsize%4 != 0 {
			return Inode{}, Corrupt("inode %d says that its fields have %d extra bytes", ino, i.ExtraIsize)
		}
		extra = b[MinInode : MinInode+int(i.ExtraIsize)]
	}
	time := func(at, more int) Time {
		t := Time{Sec: int64(int32(le.Uint32(b[at:])))}
		if x := more - MinInode; x+4 <= len(extra) {
			e := le.Uint32(extra[x:])
			t.Sec += int64(e&3) << 32
			t.Nsec = min(e>>2, 999_999_999)
		}
		return t
	}
	i.Atime, i.Ctime, i.Mtime = time(0x8, 0x8c), time(0xc, 0x84), time(0x10, 0x88)
	if len(extra) >= 0x98-MinInode {
		i.Crtime = time(0x90, 0x94)
	}
	if len(extra) >= 0x9c-MinInode {
		i.Version |= uint64(le.Uint32(b[0x98:])) << 32
	}
	if len(extra) >= 0xa0-MinInode {
		i.Projid = le.Uint32(b[0x9c:])
	}
	if s.MetadataCsum() && !(i.Mode == 0 && i.Links == 0 && zeros(b)) {
		stored := uint32(le.Uint16(b[0x7c:]))
		if len(extra) >= 4 {
			stored |= uint32(le.Uint16(b[0x82:])) << 16
		}
		if want := s.inodeChecksum(ino, b); want != stored {
			return Inode{}, Corrupt("the checksum of inode %d is %#x, not %#x", ino, stored, want)
		}
	}
	return i, nil
}

func zeros(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// EncodeInode writes i over the inode in b, InodeSize bytes, which keeps what
// Inode does not hold (the attributes behind it), and sets its checksum. Times
// that do not fit become the nearest that do. A new inode's ExtraIsize must be
// set, and fit.
func (s *Superblock) EncodeInode(ino uint32, i *Inode, b []byte) {
	le := binary.LittleEndian
	le.PutUint16(b, i.Mode)
	le.PutUint16(b[2:], uint16(i.UID))
	le.PutUint32(b[4:], uint32(i.Size))
	le.PutUint32(b[0x14:], i.Dtime)
	le.PutUint16(b[0x18:], uint16(i.GID))
	le.PutUint16(b[0x1a:], i.Links)
	sectors, flags := i.Sectors, i.Flags&^InodeHugeFile
	if sectors >= 1<<48 || (s.FeatureROCompat&ROCompatHugeFile == 0 && sectors >= 1<<32) {
		sectors, flags = sectors/uint64(s.BlockSize()/512), flags|InodeHugeFile
	}
	le.PutUint32(b[0x1c:], uint32(sectors))
	le.PutUint32(b[0x20:], flags)
	le.PutUint32(b[0x24:], uint32(i.Version))
	copy(b[0x28:0x64], i.Block[:])
	le.PutUint32(b[0x64:], i.Generation)
	le.PutUint32(b[0x68:], uint32(i.FileACL))
	le.PutUint32(b[0x6c:], uint32(i.Size>>32))
	le.PutUint16(b[0x74:], uint16(sectors>>32))
	le.PutUint16(b[0x76:], uint16(i.FileACL>>32))
	le.PutUint16(b[0x78:], uint16(i.UID>>16))
	le.PutUint16(b[0x7a:], uint16(i.GID>>16))
	var extra []byte
	if len(b) > MinInode {
		le.PutUint16(b[MinInode:], i.ExtraIsize)
		extra = b[MinInode : MinInode+int(i.ExtraIsize)]
	}
	put := func(at, more int, t Time) {
		x := more - MinInode
		if x+4 > len(extra) {
			le.PutUint32(b[at:], uint32(min(max(t.Sec, MinTime), MaxOldTime)))
			return
		}
		t = t.Clamp()
		le.PutUint32(b[at:], uint32(t.Sec))
		epoch := uint32((t.Sec - int64(int32(t.Sec))) >> 32 & 3)
		le.PutUint32(extra[x:], t.Nsec<<2|epoch)
	}
	put(0x8, 0x8c, i.Atime)
	put(0xc, 0x84, i.Ctime)
	put(0x10, 0x88, i.Mtime)
	if len(extra) >= 0x98-MinInode {
		put(0x90, 0x94, i.Crtime)
	}
	if len(extra) >= 0x9c-MinInode {
		le.PutUint32(b[0x98:], uint32(i.Version>>32))
	}
	if len(extra) >= 0xa0-MinInode {
		le.PutUint32(b[0x9c:], i.Projid)
	}
	if s.MetadataCsum() {
		c := s.inodeChecksum(ino, b)
		le.PutUint16(b[0x7c:], uint16(c))
		if len(extra) >= 4 {
			le.PutUint16(b[0x82:], uint16(c>>16))
		}
	}
}

// Clamp returns the nearest time that an inode with the extra fields can hold.
func (t Time) Clamp() Time {
	switch {
	case t.Sec < MinTime:
		return Time{Sec: MinTime}
	case t.Sec > MaxTime:
		return Time{Sec: MaxTime, Nsec: 999_999_999}
	}
	return t
}

// Device numbers are in i_block: the old 8:8 form in the first word, or the new
// one in the second (fs/ext4/inode.c, ext4_do_update_inode).

// SetDevice stores a device number.
func (i *Inode) SetDevice(major, minor uint32) {
	clear(i.Block[:])
	if major < 256 && minor < 256 {
		binary.LittleEndian.PutUint32(i.Block[:], major<<8|minor)
		return
	}
	binary.LittleEndian.PutUint32(i.Block[4:], minor&0xff|major<<8|(minor&^0xff)<<12)
}

// Device returns the device number of a character or block special file.
func (i *Inode) Device() (major, minor uint32) {
	if old := binary.LittleEndian.Uint32(i.Block[:]); old != 0 {
		return old >> 8 & 0xff, old & 0xff
	}
	n := binary.LittleEndian.Uint32(i.Block[4:])
	return n >> 8 & 0xfff, n&0xff | n>>12&0xfff00
}

// File types of directory entries (directory.rst).
const (
	FTUnknown = iota
	FTRegular
	FTDir
	FTChar
	FTBlock
	FTFIFO
	FTSocket
	FTSymlink
)

// FileType returns the type that a directory entry has for a mode.
func FileType(mode uint16) uint8 {
	switch mode & ModeFmt {
	case ModeRegular:
		return FTRegular
	case ModeDir:
		return FTDir
	case ModeChar:
		return FTChar
	case ModeBlock:
		return FTBlock
	case ModeFIFO:
		return FTFIFO
	case ModeSocket:
		return FTSocket
	case ModeSymlink:
		return FTSymlink
	}
	return FTUnknown
}
