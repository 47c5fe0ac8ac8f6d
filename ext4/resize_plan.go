package ext4

import (
	"fmt"
	"math"

	"banger/ext4/internal/disk"
)

// growBound is how many blocks a file system can have, and why not more.
type growBound struct {
	blocks uint64
	reason string
}

// growLimit says how far the file system can grow.
func (r *resizer) growLimit() growBound {
	sb := &r.old
	bs := uint64(sb.BlockSize())
	limit := growBound{min(1<<48-1, math.MaxInt64/bs), "block numbers have 48 bits"}
	narrow := func(blocks uint64, reason string) {
		if blocks < limit.blocks {
			limit = growBound{blocks, reason}
		}
	}
	if !sb.Has64Bit() {
		narrow(math.MaxUint32, "its block numbers have 32 bits, without the feature 64bit")
	}
	groups := uint32(math.MaxUint32) / sb.InodesPerGroup
	narrow(sb.GroupStart(groups), "it would have more than 2^32 inodes")
	const sparse = disk.ROCompatSparseSuper
	if sb.FeatureCompat&disk.CompatResizeInode != 0 && sb.FeatureCompat&disk.CompatSparseSuper2 == 0 && sb.FeatureROCompat&sparse == 0 {
		// One block of its map lists all copies of a block.
		narrow(sb.GroupStart(uint32(bs/4)+1), "its resize inode cannot list more backups")
	}
	return limit
}

// checkReserve refuses what e2fsck calls damage and what a change of size would
// build on.
func (r *resizer) checkReserve() error {
	sb := &r.old
	hasInode := sb.FeatureCompat&disk.CompatResizeInode != 0
	switch {
	case sb.BlocksPerGroup < 256: // as mke2fs wants it
		return disk.Corrupt("groups have %d blocks", sb.BlocksPerGroup)
	case hasInode && sb.FeatureIncompat&disk.IncompatMetaBG != 0:
		return disk.Corrupt("it has both a resize inode and meta groups")
	case !hasInode && sb.ReservedGDTBlocks != 0:
		return disk.Corrupt("it has %d blocks reserved for descriptors, and no resize inode", sb.ReservedGDTBlocks)
	case int(sb.ReservedGDTBlocks) > sb.BlockSize()/4:
		return disk.Corrupt("it has %d blocks reserved for descriptors", sb.ReservedGDTBlocks)
	case sb.FeatureIncompat&disk.IncompatMetaBG != 0 && sb.FirstMetaBG > sb.GDTBlocks():
		return disk.Corrupt("its first meta group is %d of %d", sb.FirstMetaBG, sb.GDTBlocks())
	}
	return nil
}

// setSize makes r.sb the old superblock with another number of blocks, and decides where
// the descriptors go. What is free is not counted yet.
//
// More descriptors go to the reserved blocks behind the table. When these run out, or
// cannot be listed any more in the 32-bit numbers of the resize inode, the
// table ends, and the feature meta_bg takes the place of the resize inode
// (fs/ext4/resize.c, ext4_resize_fs and ext4_convert_meta_bg). Descriptors that
// are not needed any more become reserved blocks again, as far as the
// resize inode can hold them; one block of its map has as many numbers as a block has
// words.
func (r *resizer) setSize(blocks uint64) {
	r.sb = r.old
	sb := &r.sb
	sb.SetBlocks(blocks)
	sb.InodesCount = sb.Groups() * sb.InodesPerGroup
	sb.ReservedGDTBlocks = r.old.ReservedGDTBlocks
	for i, g := range sb.BackupBGs {
		if g >= sb.Groups() {
			sb.BackupBGs[i] = 0
		}
	}
	r.scaleReserved()
	had, want, room := r.old.GDTBlocks(), sb.GDTBlocks(), uint32(sb.ReservedGDTBlocks)
	hasInode := sb.FeatureCompat&disk.CompatResizeInode != 0
	switch {
	case sb.FeatureIncompat&disk.IncompatMetaBG != 0:
		sb.FirstMetaBG = min(sb.FirstMetaBG, want)
	case want < had:
		if hasInode {
			sb.ReservedGDTBlocks = uint16(min(room+had-want, uint32(sb.BlockSize()/4)))
		}
	case want-had <= room && (!hasInode || blocks <= math.MaxUint32):
		sb.ReservedGDTBlocks -= uint16(want - had)
	default:
		sb.FeatureCompat &^= disk.CompatResizeInode
		sb.FeatureIncompat |= disk.IncompatMetaBG
		sb.FirstMetaBG, sb.ReservedGDTBlocks = min(want, had+room), 0
	}
}

// stepGroups bounds how many groups a step adds, for the memory that takes: the descriptors,
// 16 MiB, and the plan. They are 32 TiB with blocks of 4 KiB.
const stepGroups = 1 << 18

// planGrow plans the growth to size bytes, or as far as one transaction goes.
func (r *resizer) planGrow(size int64) (*grower, error) {
	bs := int64(r.t.v.bs)
	if err := r.checkReserve(); err != nil {
		return nil, err
	}
	target := uint64(size / bs)
	if limit := r.growLimit(); target > limit.blocks {
		return nil, &SizeError{"grow", size, int64(limit.blocks) * bs, limit.reason}
	}
	g := &grower{resizer: r, last: true}
	if most := uint64(r.old.Groups()) + stepGroups; most < math.MaxUint32 && target > r.old.GroupStart(uint32(most)) {
		flex := uint64(flexGroups(&r.old))
		target, g.last = r.old.GroupStart(uint32(most/flex*flex)), false
	}
	for {
		g.layOut(target)
		if r.t.journal == nil {
			return g, nil
		}
		need, room := g.transaction(), r.t.journal.Capacity()
		if need <= room {
			return g, nil
		}
		// Half of the new groups, in whole flex groups.
		g.last = false
		had := r.old.Groups()
		groups := had + (r.sb.Groups()-had)/2
		if flex := flexGroups(&r.old); groups/flex*flex > had {
			groups = groups / flex * flex
		}
		if next := r.old.GroupStart(groups); groups > had && next < target {
			target = next
			continue
		}
		return nil, fmt.Errorf("%w: it takes %d blocks of metadata to grow, and there is room for %d", ErrTooLarge, need, room)
	}
}

// transaction is how many blocks the transaction has at most.
func (g *grower) transaction() int {
	n := len(g.t.v.dirty) + 16 // orphans; superblock, resize inode with its map, last group
	if tableEnd, firstMeta := g.tableEnd(); tableEnd > 0 {
		n += int(firstMeta - min(firstMeta, g.old.GDTBlocks()))
	}
	n += 2 * len(backupGroups(&g.old)) // bitmaps and descriptors, if reserved blocks become free
	if len(backupGroups(&g.sb)) != len(backupGroups(&g.old)) {
		n += int(g.sb.ReservedGDTBlocks)
	}
	return n
}

// flexGroups is how many groups keep their bitmaps and inode tables together.
func flexGroups(sb *disk.Superblock) uint32 {
	if sb.FeatureIncompat&disk.IncompatFlexBG == 0 {
		return 1
	}
	return 1 << min(sb.LogGroupsPerFlex, 16)
}
