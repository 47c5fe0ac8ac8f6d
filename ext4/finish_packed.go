package ext4

import (
	"banger/ext4/internal/disk"
)

// packedTable is how many blocks the group descriptors of a packed image will take
// at most, judged before directories have their blocks.
func (f *finisher) packedTable() uint64 {
	inodes := uint64(f.lastIno)
	// An inode has less than four blocks besides its data: its share of the
	// table and of a directory, a directory's first block, a link's target or
	// attributes.
	blocks := f.space.next + 4*inodes + 4096
	groups := blocks/blocksPerGroup + inodes/(8*blockSize) + 2
	per := uint64(f.sb.DescriptorsPerBlock())
	return min((groups+per-1)/per, packedHead-1)
}

// planPacked chooses the geometry of a packed image: its metadata lies behind, and
// where something was removed between, its data. The only superblock is the first one
// (sparse_super2 without backups), so groups may be as small as the number of
// inodes wants them: an image of many empty files stays small.
func (f *finisher) planPacked() error {
	sb := f.sb
	sb.FeatureCompat |= disk.CompatSparseSuper2
	inodes := uint64(f.lastIno)
	groups := max(1, (inodes+8*blockSize-1)/(8*blockSize))
	for {
		per := (inodes + groups - 1) / groups
		per = (per + inodesPerBlock - 1) / inodesPerBlock * inodesPerBlock
		sb.InodesPerGroup = uint32(per)
		if f.space.next+groups*(2+per/inodesPerBlock) <= groups*blocksPerGroup {
			break
		}
		groups++
	}
	sb.InodesCount = uint32(groups) * sb.InodesPerGroup
	f.groups = make([]groupPlace, groups)
	for _, of := range []func(*groupPlace) (*uint64, uint64){
		func(g *groupPlace) (*uint64, uint64) { return &g.blockBitmap, 1 },
		func(g *groupPlace) (*uint64, uint64) { return &g.inodeBitmap, 1 },
		func(g *groupPlace) (*uint64, uint64) {
			return &g.inodeTable, uint64(sb.InodesPerGroup / inodesPerBlock)
		},
	} {
		for i := range f.groups {
			at, n := of(&f.groups[i])
			runs, err := f.space.takeAll(n, n)
			if err != nil {
				return err
			}
			*at = runs[0].start
		}
	}
	blocks := f.space.next
	per := uint64(blocksPerGroup)
	if (blocks+per-1)/per < groups {
		per = (blocks + groups - 1) / groups
		per = max((per+7)/8*8, 256)
		blocks = max(blocks, per*(groups-1)+8) // rounding may leave the last group without blocks
	}
	sb.BlocksPerGroup, sb.ClustersPerGroup = uint32(per), uint32(per)
	sb.SetBlocks(blocks)
	if n := sb.GDTBlocks(); uint64(n) > f.table {
		return errTableSize
	}
	f.space.taken = joinSpans(append(f.space.taken, span{0, 1 + uint64(sb.GDTBlocks())}))
	f.space.freed = joinSpans(append(f.space.freed, span{1 + uint64(sb.GDTBlocks()), 1 + f.table}))
	return f.f.Truncate(int64(blocks) * blockSize)
}
