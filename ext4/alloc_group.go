package ext4

import (
	"bytes"

	"banger/ext4/internal/disk"
)

// allocGroup is what a session knows about the blocks of a group.
type allocGroup struct {
	// busy has the blocks that must not be given out: in use now, or at the start of
	// the session. Since what is freed stays busy, blocks that are given out are free
	// in the state on the disk, and can be written before the commit.
	busy []byte
	// fixed has the blocks that no file can own: copies of the superblock and the
	// descriptors, bitmaps, inode tables, the journal, and what is behind the end.
	fixed []byte
	// next is where the search for a long run begins.
	next uint32
}

// hasGroupSums says whether descriptors have checksums; only then their flags count.
func (t *Tx) hasGroupSums() bool {
	return t.v.sb.FeatureROCompat&(disk.ROCompatMetadataCsum|disk.ROCompatGDTCsum) != 0
}

func (t *Tx) groupFlag(d *disk.Group, flag uint16) bool {
	return t.hasGroupSums() && d.Flags&flag != 0
}

// group loads what is to know about a group, and checks it.
func (t *Tx) group(n uint32) (*allocGroup, error) {
	if g := t.groups[n]; g != nil {
		return g, nil
	}
	d, err := t.v.group(n)
	if err != nil {
		return nil, err
	}
	g := &allocGroup{}
	if g.fixed, err = t.fixedBlocks(n); err != nil {
		return nil, err
	}
	bitmap, err := t.blockBitmap(n, &d, g.fixed)
	if err != nil {
		return nil, err
	}
	g.busy = bytes.Clone(bitmap)
	for i, f := range g.fixed {
		// What is behind the last block counts as fixed, and not all tools set it.
		if bitmap[i]&f != f && uint32(i) < t.v.sb.GroupBlocks(n)/8 {
			return nil, disk.Corrupt("the bitmap of group %d says that metadata in it is free", n)
		}
		g.busy[i] |= f
	}
	t.groups[n] = g
	return g, nil
}

// fixedBlocks marks the blocks of a group that have a fixed use
// (Documentation/filesystems/ext4/blockgroup.rst).
func (t *Tx) fixedBlocks(n uint32) ([]byte, error) {
	v := t.v
	b := make([]byte, v.bs)
	start, blocks := v.sb.GroupStart(n), v.sb.GroupBlocks(n)
	mark := func(first, length uint64) {
		end := min(first+length, start+uint64(blocks))
		if first = max(first, start); first < end {
			setBits(b, uint32(first-start), uint32(end-start))
		}
	}
	mark(start, uint64(v.sb.GroupHead(n)))
	setBits(b, blocks, uint32(8*v.bs))
	// With flex_bg, bitmaps and tables of a few groups lie together in the first.
	first, end := n, n+1
	if v.sb.FeatureIncompat&disk.IncompatFlexBG != 0 && v.sb.LogGroupsPerFlex < 16 {
		size := uint32(1) << v.sb.LogGroupsPerFlex
		first = n / size * size
		end = min(v.groups-first, size) + first
	}
	for n := first; n < end; n++ {
		d, err := v.group(n)
		if err != nil {
			return nil, err
		}
		mark(d.BlockBitmap, 1)
		mark(d.InodeBitmap, 1)
		mark(d.InodeTable, uint64(v.sb.InodeTableBlocks()))
	}
	for _, e := range t.reserved {
		mark(e.Physical, uint64(e.Len))
	}
	return b, nil
}

// blockBitmap returns a group's bitmap of blocks. One that is not initialised is
// computed: only the fixed blocks are in use then.
func (t *Tx) blockBitmap(n uint32, d *disk.Group, fixed []byte) ([]byte, error) {
	if t.groupFlag(d, disk.GroupBlockUninit) {
		return fixed, nil
	}
	b, err := t.v.block(d.BlockBitmap)
	if err != nil {
		return nil, err
	}
	if t.v.sb.BlockBitmapChecksum(b) != d.BlockBitmapCsum && t.v.sb.MetadataCsum() {
		return nil, disk.Corrupt("the checksum of the block bitmap of group %d is wrong", n)
	}
	return b, nil
}

// openBlockBitmap is blockBitmap for changing it: d, which the caller stores, says
// afterwards that it is initialised.
func (t *Tx) openBlockBitmap(n uint32, d *disk.Group) ([]byte, error) {
	if !t.groupFlag(d, disk.GroupBlockUninit) {
		return t.touch(d.BlockBitmap)
	}
	g, err := t.group(n)
	if err != nil {
		return nil, err
	}
	b := bytes.Clone(g.fixed)
	t.setBlock(d.BlockBitmap, b)
	d.Flags &^= disk.GroupBlockUninit
	d.BlockBitmapCsum = t.v.sb.BlockBitmapChecksum(b)
	return b, nil
}

// putGroup stores a descriptor.
func (t *Tx) putGroup(n uint32, d *disk.Group) error {
	sb := t.v.sb
	per := sb.DescriptorsPerBlock()
	b, err := t.touch(sb.GDTBlock(n / per))
	if err != nil {
		return err
	}
	sb.EncodeGroup(n, d, b[int(n%per)*sb.DescriptorSize():])
	return nil
}

// markBlocks marks blocks of one group as used or free, in the bitmap and in all counts.
// That they were not so before is an error: some other file has them, too.
func (t *Tx) markBlocks(n, from, end uint32, use bool) error {
	d, err := t.v.group(n)
	if err != nil {
		return err
	}
	b, err := t.openBlockBitmap(n, &d)
	if err != nil {
		return err
	}
	if nextBit(b, from, end, use) != end {
		state := "free already"
		if use {
			state = "in use already"
		}
		return disk.Corrupt("block %d is %s", t.v.sb.GroupStart(n)+uint64(nextBit(b, from, end, use)), state)
	}
	count, free := end-from, t.v.sb.FreeBlocks()
	if use {
		if d.FreeBlocks < count || free < uint64(count) {
			return disk.Corrupt("group %d counts too few free blocks", n)
		}
		setBits(b, from, end)
		d.FreeBlocks -= count
		t.v.sb.SetFreeBlocks(free - uint64(count))
	} else {
		if d.FreeBlocks+count > t.v.sb.GroupBlocks(n) {
			return disk.Corrupt("group %d counts too many free blocks", n)
		}
		clearBits(b, from, end)
		d.FreeBlocks += count
		t.v.sb.SetFreeBlocks(free + uint64(count))
	}
	d.BlockBitmapCsum = t.v.sb.BlockBitmapChecksum(b)
	return t.putGroup(n, &d)
}
