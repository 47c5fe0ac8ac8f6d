package disk

import "banger/ext4/internal/crc"

// This file has what follows from a superblock: sizes, numbers and places of the other
// structures. All of it holds for superblocks that DecodeSuperblock has checked.

// BlockSize is in bytes, 1024 to 65536.
func (s *Superblock) BlockSize() int { return 1024 << s.LogBlockSize }

// Has64Bit says whether block numbers have more than 32 bits.
func (s *Superblock) Has64Bit() bool { return s.FeatureIncompat&Incompat64Bit != 0 }

// MetadataCsum says whether metadata has CRC32C checksums.
func (s *Superblock) MetadataCsum() bool { return s.FeatureROCompat&ROCompatMetadataCsum != 0 }

// Extents says whether new files are mapped by extents.
func (s *Superblock) Extents() bool { return s.FeatureIncompat&IncompatExtents != 0 }

func (s *Superblock) wide(lo, hi uint32) uint64 {
	if !s.Has64Bit() {
		hi = 0
	}
	return uint64(lo) | uint64(hi)<<32
}

// Blocks is the size of the file system in blocks.
func (s *Superblock) Blocks() uint64 { return s.wide(s.BlocksCountLo, s.BlocksCountHi) }

// SetBlocks sets it.
func (s *Superblock) SetBlocks(n uint64) { s.BlocksCountLo, s.BlocksCountHi = uint32(n), uint32(n>>32) }

// FreeBlocks counts the free blocks (clusters with bigalloc).
func (s *Superblock) FreeBlocks() uint64 { return s.wide(s.FreeBlocksCountLo, s.FreeBlocksCountHi) }

// SetFreeBlocks sets their number.
func (s *Superblock) SetFreeBlocks(n uint64) {
	s.FreeBlocksCountLo, s.FreeBlocksCountHi = uint32(n), uint32(n>>32)
}

// ReservedBlocks counts the blocks that only root may use.
func (s *Superblock) ReservedBlocks() uint64 { return s.wide(s.RBlocksCountLo, s.RBlocksCountHi) }

// SetReservedBlocks sets their number.
func (s *Superblock) SetReservedBlocks(n uint64) {
	s.RBlocksCountLo, s.RBlocksCountHi = uint32(n), uint32(n>>32)
}

// Groups is the number of block groups.
func (s *Superblock) Groups() uint32 {
	n := (s.Blocks() - uint64(s.FirstDataBlock) + uint64(s.BlocksPerGroup) - 1) / uint64(s.BlocksPerGroup)
	return uint32(min(n, 1<<32-1))
}

// DescriptorSize is that of a group descriptor in bytes.
func (s *Superblock) DescriptorSize() int {
	if s.Has64Bit() {
		return int(s.DescSize)
	}
	return 32
}

// DescriptorsPerBlock is how many group descriptors a block holds.
func (s *Superblock) DescriptorsPerBlock() uint32 {
	return uint32(s.BlockSize() / s.DescriptorSize())
}

// GDTBlocks is the length of the table of group descriptors in blocks.
func (s *Superblock) GDTBlocks() uint32 {
	return uint32((uint64(s.Groups()) + uint64(s.DescriptorsPerBlock()) - 1) / uint64(s.DescriptorsPerBlock()))
}

// ChecksumBase is what all checksums of metadata but the superblock's start from.
func (s *Superblock) ChecksumBase() uint32 {
	if s.FeatureIncompat&IncompatCsumSeed != 0 {
		return s.ChecksumSeed
	}
	return crc.C(^uint32(0), s.UUID[:])
}

// GroupStart is the first block of a group.
func (s *Superblock) GroupStart(group uint32) uint64 {
	return uint64(s.FirstDataBlock) + uint64(group)*uint64(s.BlocksPerGroup)
}

// GroupBlocks is how many blocks a group has; only the last may be short.
func (s *Superblock) GroupBlocks(group uint32) uint32 {
	return uint32(min(uint64(s.BlocksPerGroup), s.Blocks()-s.GroupStart(group)))
}

// GroupOf returns the group of a block, and the block's place in it.
func (s *Superblock) GroupOf(block uint64) (group, index uint32) {
	block -= uint64(s.FirstDataBlock)
	return uint32(block / uint64(s.BlocksPerGroup)), uint32(block % uint64(s.BlocksPerGroup))
}

// HasSuper says whether a group begins with a copy of the superblock and, without
// meta_bg, of the descriptors (Documentation/filesystems/ext4/blockgroup.rst).
func (s *Superblock) HasSuper(group uint32) bool {
	if group == 0 {
		return true
	}
	if s.FeatureCompat&CompatSparseSuper2 != 0 {
		return group == s.BackupBGs[0] || group == s.BackupBGs[1]
	}
	if group == 1 || s.FeatureROCompat&ROCompatSparseSuper == 0 {
		return true
	}
	return powerOf(group, 3) || powerOf(group, 5) || powerOf(group, 7)
}

func powerOf(n, base uint32) bool {
	for n%base == 0 {
		n /= base
	}
	return n == 1
}

// SuperblockBlock is the block that holds the primary superblock. It is the first data
// block but with bigalloc and blocks of 1 KiB: there the first group begins with block 0,
// which has room for a boot loader (fs/ext4/super.c, descriptor_loc).
func (s *Superblock) SuperblockBlock() uint64 {
	return uint64(SuperblockOffset / s.BlockSize())
}

// GroupHead is how many blocks at the start of a group hold copies of superblock
// and descriptors, with the room reserved for more of them.
func (s *Superblock) GroupHead(group uint32) uint32 {
	super := uint32(0)
	if s.HasSuper(group) {
		super = 1
	}
	if group == 0 {
		super += uint32(s.SuperblockBlock()) - s.FirstDataBlock
	}
	perBlock := s.DescriptorsPerBlock()
	if s.FeatureIncompat&IncompatMetaBG == 0 || group/perBlock < s.FirstMetaBG {
		if super == 0 {
			return 0
		}
		gdt := s.GDTBlocks()
		if s.FeatureIncompat&IncompatMetaBG != 0 {
			gdt = s.FirstMetaBG
		}
		return super + gdt + uint32(s.ReservedGDTBlocks)
	}
	// meta_bg: one block of descriptors in the first, second and last group of
	// the groups that it describes.
	if at := group % perBlock; at == 0 || at == 1 || at == perBlock-1 {
		return super + 1
	}
	return super
}

// GDTBlock returns where block i of the primary table of descriptors lies.
func (s *Superblock) GDTBlock(i uint32) uint64 {
	if s.FeatureIncompat&IncompatMetaBG == 0 || i < s.FirstMetaBG {
		return s.SuperblockBlock() + 1 + uint64(i)
	}
	group := i * s.DescriptorsPerBlock()
	if group == 0 {
		return s.SuperblockBlock() + 1
	}
	at := s.GroupStart(group)
	if s.HasSuper(group) {
		at++
	}
	return at
}

// clusterBits is the binary logarithm of blocks a cluster.
func (s *Superblock) clusterBits() uint32 {
	if s.FeatureROCompat&ROCompatBigalloc == 0 || s.LogClusterSize < s.LogBlockSize {
		return 0
	}
	return s.LogClusterSize - s.LogBlockSize
}
