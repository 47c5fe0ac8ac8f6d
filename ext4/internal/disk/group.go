package disk

import (
	"encoding/binary"

	"banger/ext4/internal/crc"
)

// Values of bg_flags (Documentation/filesystems/ext4/group_descr.rst).
const (
	GroupInodeUninit  = 0x1 // the inode bitmap and table are not initialised
	GroupBlockUninit  = 0x2 // the block bitmap is not initialised
	GroupItableZeroed = 0x4 // the unused rest of the inode table is zeros
)

// Group is struct ext4_group_desc. Fields with a high half are whole here.
type Group struct {
	BlockBitmap, InodeBitmap, InodeTable uint64
	FreeBlocks, FreeInodes, UsedDirs     uint32
	Flags                                uint16
	// ItableUnused counts the inodes at the end of the table that were never used.
	ItableUnused uint32
	// BlockBitmapCsum and InodeBitmapCsum have 16 bits where descriptors have 32 bytes.
	BlockBitmapCsum, InodeBitmapCsum uint32
}

// DecodeGroup reads descriptor g from b, which has at least s.DescriptorSize()
// bytes, and checks its checksum and that its blocks lie inside the file system.
func (s *Superblock) DecodeGroup(number uint32, b []byte) (Group, error) {
	size := s.DescriptorSize()
	b = b[:size]
	if want := s.groupChecksum(number, b); want != binary.LittleEndian.Uint16(b[0x1e:]) && s.FeatureROCompat&(ROCompatMetadataCsum|ROCompatGDTCsum) != 0 {
		return Group{}, Corrupt("the checksum of group descriptor %d is %#x, not %#x", number, binary.LittleEndian.Uint16(b[0x1e:]), want)
	}
	var hi [32]byte
	if size >= 64 {
		copy(hi[:], b[32:64])
	}
	u32 := func(lo, h int) uint64 {
		return uint64(binary.LittleEndian.Uint32(b[lo:])) | uint64(binary.LittleEndian.Uint32(hi[h-0x20:]))<<32
	}
	u16 := func(lo, h int) uint32 {
		return uint32(binary.LittleEndian.Uint16(b[lo:])) | uint32(binary.LittleEndian.Uint16(hi[h-0x20:]))<<16
	}
	g := Group{
		BlockBitmap: u32(0x0, 0x20), InodeBitmap: u32(0x4, 0x24), InodeTable: u32(0x8, 0x28),
		FreeBlocks: u16(0xc, 0x2c), FreeInodes: u16(0xe, 0x2e), UsedDirs: u16(0x10, 0x30),
		Flags: binary.LittleEndian.Uint16(b[0x12:]), ItableUnused: u16(0x1c, 0x32),
		BlockBitmapCsum: u16(0x18, 0x38), InodeBitmapCsum: u16(0x1a, 0x3a),
	}
	blocks, first := s.Blocks(), uint64(s.FirstDataBlock)
	table := uint64(s.InodeTableBlocks())
	if g.BlockBitmap <= first || g.BlockBitmap >= blocks || g.InodeBitmap <= first || g.InodeBitmap >= blocks ||
		g.InodeTable <= first || g.InodeTable >= blocks || table > blocks-g.InodeTable {
		return Group{}, Corrupt("group descriptor %d points outside the file system", number)
	}
	return g, nil
}

// EncodeGroup writes g over the descriptor in b, which keeps what Group does not
// hold, and sets its checksum.
func (s *Superblock) EncodeGroup(number uint32, g *Group, b []byte) {
	size := s.DescriptorSize()
	b = b[:size]
	var none [32]byte
	hi := none[:]
	if size >= 64 {
		hi = b[32:64]
	}
	put32 := func(lo, h int, v uint64) {
		binary.LittleEndian.PutUint32(b[lo:], uint32(v))
		binary.LittleEndian.PutUint32(hi[h-0x20:], uint32(v>>32))
	}
	put16 := func(lo, h int, v uint32) {
		binary.LittleEndian.PutUint16(b[lo:], uint16(v))
		binary.LittleEndian.PutUint16(hi[h-0x20:], uint16(v>>16))
	}
	put32(0x0, 0x20, g.BlockBitmap)
	put32(0x4, 0x24, g.InodeBitmap)
	put32(0x8, 0x28, g.InodeTable)
	put16(0xc, 0x2c, g.FreeBlocks)
	put16(0xe, 0x2e, g.FreeInodes)
	put16(0x10, 0x30, g.UsedDirs)
	binary.LittleEndian.PutUint16(b[0x12:], g.Flags)
	put16(0x18, 0x38, g.BlockBitmapCsum)
	put16(0x1a, 0x3a, g.InodeBitmapCsum)
	put16(0x1c, 0x32, g.ItableUnused)
	binary.LittleEndian.PutUint16(b[0x1e:], s.groupChecksum(number, b))
}

// zeroSum is what a checksum's own half word counts as.
var zeroSum [2]byte

// groupChecksum is bg_checksum: the low half of the CRC32C with metadata_csum, a
// CRC-16 with uninit_bg, else zero.
func (s *Superblock) groupChecksum(number uint32, b []byte) uint16 {
	switch {
	case s.MetadataCsum():
		c := crc.U32(s.ChecksumBase(), number)
		c = crc.C(c, b[:0x1e])
		c = crc.C(c, zeroSum[:])
		return uint16(crc.C(c, b[0x20:]))
	case s.FeatureROCompat&ROCompatGDTCsum != 0:
		var n [4]byte
		binary.LittleEndian.PutUint32(n[:], number)
		c := crc.C16(^uint16(0), s.UUID[:])
		c = crc.C16(c, n[:])
		c = crc.C16(c, b[:0x1e])
		return crc.C16(c, b[0x20:])
	}
	return 0
}

// InodeTableBlocks is the length of one group's inode table in blocks.
func (s *Superblock) InodeTableBlocks() uint32 {
	return uint32((uint64(s.InodesPerGroup)*uint64(s.InodeSize) + uint64(s.BlockSize()) - 1) / uint64(s.BlockSize()))
}

// BlockBitmapChecksum is bg_block_bitmap_csum of a bitmap; zero without
// metadata_csum.
func (s *Superblock) BlockBitmapChecksum(bitmap []byte) uint32 {
	return s.bitmapChecksum(bitmap[:s.BlocksPerGroup>>s.clusterBits()/8])
}

// InodeBitmapChecksum is bg_inode_bitmap_csum of a bitmap; zero without
// metadata_csum.
func (s *Superblock) InodeBitmapChecksum(bitmap []byte) uint32 {
	return s.bitmapChecksum(bitmap[:s.InodesPerGroup/8])
}

func (s *Superblock) bitmapChecksum(b []byte) uint32 {
	if !s.MetadataCsum() {
		return 0
	}
	c := crc.C(s.ChecksumBase(), b)
	if s.DescriptorSize() < 64 {
		c &= 0xffff
	}
	return c
}

// InodePlace returns the group of an inode, 1 to InodesCount, and its index there.
func (s *Superblock) InodePlace(ino uint32) (group, index uint32) {
	return (ino - 1) / s.InodesPerGroup, (ino - 1) % s.InodesPerGroup
}
