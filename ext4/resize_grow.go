package ext4

import (
	"bytes"

	"banger/ext4/internal/disk"
)

// grower is a plan for a larger file system.
type grower struct {
	*resizer
	places []groupPlace // of the new groups
	used   []span       // all metadata in the new groups, ascending
	last   bool         // no further step is needed
}

// layOut plans the growth to a number of blocks, or to fewer where the last group
// would be too small. A short group must have room for all that a group can need
// itself, and for data, although it may have its tables elsewhere: resize2fs
// and the kernel agree on that, and so on the size.
func (g *grower) layOut(blocks uint64) {
	sb := &g.sb
	for {
		g.setSize(max(blocks, g.old.Blocks()))
		g.places, g.used = nil, nil
		n := sb.Groups() - 1
		if n < g.old.Groups() {
			return
		}
		length := sb.GroupBlocks(n)
		least := sb.GroupHead(n) + 2 + sb.InodeTableBlocks() + minLastGroup
		if length < sb.BlocksPerGroup && length < least {
			blocks = sb.GroupStart(n)
			continue
		}
		failed, ok := g.place()
		if ok {
			return
		}
		blocks = sb.GroupStart(failed)
	}
}

// place finds room for the bitmaps and tables of the new groups: flex group by flex
// group at the start of its first new group, or without flex_bg each in its
// group. If there is too little, it returns the group to leave out with all after it.
func (g *grower) place() (failed uint32, ok bool) {
	sb, had, flex := &g.sb, g.old.Groups(), flexGroups(&g.sb)
	groups, table := sb.Groups(), uint64(sb.InodeTableBlocks())
	var heads []span
	for n := had; n < groups; n++ {
		if head := sb.GroupHead(n); head > 0 {
			heads = append(heads, span{sb.GroupStart(n), sb.GroupStart(n) + uint64(head)})
		}
	}
	g.places = make([]groupPlace, groups-had)
	p := placer{heads: heads, end: sb.Blocks()}
	for first := had; first < groups; {
		end := min((first/flex+1)*flex, groups)
		if end < first { // beyond 32 bits
			end = groups
		}
		p.at = max(p.at, sb.GroupStart(first))
		if sb.FeatureIncompat&disk.IncompatFlexBG == 0 {
			p.end = p.at + uint64(sb.GroupBlocks(first))
		}
		places := g.places[first-had : end-had]
		for i := range places {
			places[i].blockBitmap = p.take(1)
		}
		for i := range places {
			places[i].inodeBitmap = p.take(1)
		}
		for i := range places {
			places[i].inodeTable = p.take(table)
		}
		if p.full && end == groups {
			return groups - 1, false
		}
		if p.full {
			return first, false
		}
		g.used = append(g.used, joinSpans(p.taken)...)
		p.taken = p.taken[:0]
		first = end
	}
	g.used = joinSpans(append(g.used, heads...))
	return 0, true
}

// run makes the growth.
func (g *grower) run() error {
	if g.sb.Blocks() == g.old.Blocks() {
		return nil
	}
	g.first = g.old.GDTBlocks() - 1
	g.table = make([]byte, int(g.sb.GDTBlocks()-g.first)*g.t.v.bs)
	if err := g.zeroTables(); err != nil {
		return err
	}
	if err := g.describe(); err != nil {
		return err
	}
	err := g.stageChange(func() error {
		if err := g.extendLast(); err != nil {
			return err
		}
		if err := g.moveReserve(); err != nil {
			return err
		}
		return g.putTable()
	})
	if err != nil {
		return err
	}
	if err := g.writeCopies(g.old.Blocks(), g.sb.Blocks()); err != nil {
		return err
	}
	if err := g.writeSlack(); err != nil {
		return err
	}
	return g.commit()
}

// writeSlack writes the descriptors for which there is room in the last block of the
// table also ahead of the transaction: where they are all that is new in the table,
// the blocks of the transaction can come to their places in any order (see
// superApart), also when it is replayed.
func (g *grower) writeSlack() error {
	at := int(g.old.Groups()%g.sb.DescriptorsPerBlock()) * g.sb.DescriptorSize()
	if at == 0 {
		return nil
	}
	bs := g.t.v.bs
	_, err := g.t.f.WriteAt(g.table[at:bs], int64(g.sb.GDTBlock(g.first))*int64(bs)+int64(at))
	return err
}

// zeroTables makes sure that new inode tables are zeros, where the file had bytes behind
// the end of the file system.
func (g *grower) zeroTables() error {
	bs := int64(g.t.v.bs)
	n := int64(g.sb.InodeTableBlocks())
	for i := range g.places {
		at := int64(g.places[i].inodeTable) * bs
		if at >= g.length {
			continue
		}
		// Tables mostly follow one another; holes cost little.
		if err := punch(g.t.f, at, min(n*bs, g.length-at)); err != nil {
			return err
		}
	}
	return nil
}

// describe makes the descriptors of the new groups, writes their bitmaps, and counts what
// is free in them. As in an image that Format makes, bitmaps that are what the
// kernel would make by itself are left out (Documentation/filesystems/ext4/
// blockgroup.rst, lazy block group initialization).
func (g *grower) describe() error {
	sb, had := &g.sb, g.old.Groups()
	flex, per, size := flexGroups(sb), sb.DescriptorsPerBlock(), sb.DescriptorSize()
	sums := g.t.hasGroupSums()
	b := make([]byte, g.t.v.bs)
	free, taken, used := uint64(0), uint64(0), g.used
	for n := had; n < sb.Groups(); n++ {
		place := g.places[n-had]
		d := disk.Group{
			BlockBitmap: place.blockBitmap, InodeBitmap: place.inodeBitmap, InodeTable: place.inodeTable,
			FreeInodes: sb.InodesPerGroup,
		}
		var count uint32
		count, used = g.blockBitmap(n, used, b)
		d.FreeBlocks = sb.GroupBlocks(n) - count
		free, taken = free+uint64(d.FreeBlocks), taken+uint64(count)
		if sums {
			d.ItableUnused, d.Flags = sb.InodesPerGroup, disk.GroupItableZeroed|disk.GroupInodeUninit
		}
		if sums && count == g.ownBlocks(n) && n != sb.Groups()-1 {
			d.Flags |= disk.GroupBlockUninit
		} else {
			d.BlockBitmapCsum = sb.BlockBitmapChecksum(b)
			if err := g.w.write(d.BlockBitmap, b); err != nil {
				return err
			}
		}
		sb.EncodeGroup(n, &d, g.table[int(n/per-g.first)*len(b)+int(n%per)*size:])
		if end := n + 1; end%flex == 0 || end == sb.Groups() {
			if err := g.inodeBitmaps(max(n/flex*flex, had), end, b); err != nil {
				return err
			}
		}
	}
	old := g.old.Groups() - 1
	sb.SetFreeBlocks(sb.FreeBlocks() + free + uint64(sb.GroupBlocks(old)-g.old.GroupBlocks(old)))
	sb.FreeInodesCount += uint32(len(g.places)) * sb.InodesPerGroup
	if sb.OverheadBlocks != 0 {
		sb.OverheadBlocks = uint32(min(uint64(sb.OverheadBlocks)+taken, 1<<32-1))
	}
	return g.w.flush()
}

// inodeBitmaps writes those of some groups, all free, where there are no
// checksums: only with these there is a flag in their place.
func (g *grower) inodeBitmaps(n, end uint32, b []byte) error {
	if g.t.hasGroupSums() {
		return nil
	}
	clear(b)
	setBits(b, g.sb.InodesPerGroup, uint32(8*len(b)))
	for ; n < end; n++ {
		if err := g.w.write(g.places[n-g.old.Groups()].inodeBitmap, b); err != nil {
			return err
		}
	}
	return nil
}

// blockBitmap makes that of group n in b, counts the blocks in use, and returns the
// spans that reach behind the group.
func (g *grower) blockBitmap(n uint32, used []span, b []byte) (count uint32, rest []span) {
	start, length := g.sb.GroupStart(n), g.sb.GroupBlocks(n)
	end := start + uint64(length)
	clear(b)
	setBits(b, length, uint32(8*len(b)))
	for _, s := range used {
		if s.start >= end {
			break
		}
		from, to := uint32(max(s.start, start)-start), uint32(min(s.end, end)-start)
		setBits(b, from, to)
		count += to - from
	}
	for len(used) > 0 && used[0].end <= end {
		used = used[1:]
	}
	return count, used
}

// ownBlocks counts the blocks of group n that its descriptor and the layout alone say
// are in use: these the kernel marks in a bitmap that is not initialised
// (fs/ext4/balloc.c, ext4_init_block_bitmap).
func (g *grower) ownBlocks(n uint32) uint32 {
	sb := &g.sb
	start, end := sb.GroupStart(n), sb.GroupStart(n)+uint64(sb.GroupBlocks(n))
	count := uint64(sb.GroupHead(n))
	place := g.places[n-g.old.Groups()]
	for _, s := range []span{
		{place.blockBitmap, place.blockBitmap + 1}, {place.inodeBitmap, place.inodeBitmap + 1},
		{place.inodeTable, place.inodeTable + uint64(sb.InodeTableBlocks())},
	} {
		if s.start < end && s.end > start {
			count += min(s.end, end) - max(s.start, start)
		}
	}
	return uint32(count)
}

// extendLast gives the last group the blocks that it is short of. Its bitmap had
// them marked, as all behind the end is.
func (g *grower) extendLast() error {
	t, sb, n := g.t, g.t.v.sb, g.old.Groups()-1
	from, end := g.old.GroupBlocks(n), sb.GroupBlocks(n)
	if from == end {
		return nil
	}
	d, err := t.v.group(n)
	if err != nil {
		return err
	}
	if !t.groupFlag(&d, disk.GroupBlockUninit) {
		if _, err := t.blockBitmap(n, &d, nil); err != nil {
			return err
		}
		b, err := t.touch(d.BlockBitmap)
		if err != nil {
			return err
		}
		clearBits(b, from, end)
		d.BlockBitmapCsum = sb.BlockBitmapChecksum(b)
	}
	d.FreeBlocks += end - from
	return t.putGroup(n, &d)
}

// putTable puts the new descriptors that belong before the old end of the file
// system into the transaction: in the rest of the last block, and in reserved ones.
func (g *grower) putTable() error {
	t, sb := g.t, g.t.v.sb
	b, err := t.touch(sb.GDTBlock(g.first))
	if err != nil {
		return err
	}
	// The slack may have anything; new descriptors are whole.
	if at := int(g.old.Groups()%sb.DescriptorsPerBlock()) * sb.DescriptorSize(); at > 0 {
		copy(b[at:], g.table[at:len(b)])
	}
	copy(g.table, b)
	for i := g.first + 1; i < sb.GDTBlocks(); i++ {
		if at := sb.GDTBlock(i); at < g.old.Blocks() {
			t.setBlock(at, bytes.Clone(g.table[int(i-g.first)*len(b):][:len(b)]))
		}
	}
	return nil
}
