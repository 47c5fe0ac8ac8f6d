package ext4

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"banger/ext4/internal/disk"
)

// layout is where the metadata of an image with a size lies.
type layout struct {
	sb     *disk.Superblock
	groups []groupPlace
	// taken lists the blocks of all metadata, sorted.
	taken []span
	// journal has the blocks of the journal, in order.
	journal []span
	// resize is the block of the resize inode's map; 0 where there is none.
	resize uint64
}

// groupPlace is where a group has its bitmaps and its inode table.
type groupPlace struct{ blockBitmap, inodeBitmap, inodeTable uint64 }

// minLastGroup is how many blocks for data the last group must have to be worth its
// metadata; mke2fs has the same number.
const minLastGroup = 50

// growth is by how much an image can grow with the room that the resize inode
// keeps for group descriptors; to at least minGrowth blocks.
const (
	growth    = 16
	minGrowth = 64 << 30 / blockSize
)

// planLayout lays out an image of o.Size.
func planLayout(o *Options) (*layout, error) {
	sb := o.superblock()
	blocks := uint64(o.Size) / blockSize
	sb.BlocksPerGroup, sb.ClustersPerGroup = blocksPerGroup, blocksPerGroup
	for {
		if blocks < 64 {
			return nil, fmt.Errorf("ext4: an image of %d bytes has no room for a file system", o.Size)
		}
		sb.SetBlocks(blocks)
		if err := planInodes(sb, o); err != nil {
			return nil, err
		}
		planGrowth(sb)
		l := &layout{sb: sb}
		if l.place(o) {
			return l, nil
		}
		// The last group does not pay: leave it out.
		last := sb.Groups() - 1
		if last == 0 {
			return nil, fmt.Errorf("ext4: an image of %d bytes has no room for its metadata", o.Size)
		}
		blocks = sb.GroupStart(last)
	}
}

// planInodes chooses the number of inodes: the same in each group, full blocks of
// them, and fewer than 2^32.
func planInodes(sb *disk.Superblock, o *Options) error {
	ratio := uint64(cmp.Or(o.BytesPerInode, fullInodeRatio))
	groups := uint64(sb.Groups())
	want := max(sb.Blocks()*blockSize/ratio, 2*inodesPerBlock)
	per := (want + groups - 1) / groups
	per = (per + inodesPerBlock - 1) / inodesPerBlock * inodesPerBlock
	per = min(per, 8*blockSize, blocksPerGroup)
	if per*groups > math.MaxUint32 {
		per = min(per, math.MaxUint32/groups/inodesPerBlock*inodesPerBlock)
	}
	sb.InodesPerGroup = uint32(per)
	sb.InodesCount = uint32(per * groups)
	return nil
}

// planGrowth keeps room for the group descriptors of a larger image. Block numbers
// beyond 32 bits do not fit the resize inode: such an image has its descriptors
// in meta groups, which grow without it.
func planGrowth(sb *disk.Superblock) {
	sb.ReservedGDTBlocks = 0
	sb.FeatureCompat &^= disk.CompatResizeInode
	sb.FeatureIncompat &^= disk.IncompatMetaBG
	if sb.Blocks() > math.MaxUint32 {
		sb.FeatureIncompat |= disk.IncompatMetaBG
		return
	}
	blocks := min(max(sb.Blocks()*growth, minGrowth), math.MaxUint32)
	groups := (blocks + blocksPerGroup - 1) / blocksPerGroup
	per := uint64(sb.DescriptorsPerBlock())
	table := uint64(sb.GDTBlocks())
	want := (groups + per - 1) / per
	room := min(want-min(want, table), blockSize/4, sb.Blocks()/32)
	if room == 0 {
		return
	}
	sb.FeatureCompat |= disk.CompatResizeInode
	sb.ReservedGDTBlocks = uint16(room)
}

// place gives all metadata its blocks. It is false when the last group has too
// little room.
func (l *layout) place(o *Options) bool {
	sb, groups := l.sb, l.sb.Groups()
	var heads []span
	for g := range groups {
		if n := sb.GroupHead(g); n > 0 {
			start := sb.GroupStart(g)
			heads = append(heads, span{start, start + uint64(n)})
			if uint64(n) >= uint64(sb.GroupBlocks(g)) {
				return false
			}
		}
	}
	p := placer{heads: heads, end: sb.Blocks()}
	l.groups = make([]groupPlace, groups)
	table := uint64(sb.InodeTableBlocks())
	for first := uint32(0); first < groups; first += 1 << logFlex {
		flex := l.groups[first:min(first+1<<logFlex, groups)]
		p.at = max(p.at, sb.GroupStart(first))
		for i := range flex {
			flex[i].blockBitmap = p.take(1)
		}
		for i := range flex {
			flex[i].inodeBitmap = p.take(1)
		}
		for i := range flex {
			flex[i].inodeTable = p.take(table)
		}
		if first == 0 {
			l.placeJournal(&p, o.journalBlocks())
			if sb.ReservedGDTBlocks > 0 {
				l.resize = p.take(1)
			}
		}
	}
	if p.full {
		return false
	}
	l.taken = joinSpans(append(p.taken, heads...))
	last := groups - 1
	free := uint64(sb.GroupBlocks(last))
	for i := len(l.taken) - 1; i >= 0 && l.taken[i].end > sb.GroupStart(last); i-- {
		free -= l.taken[i].end - max(l.taken[i].start, sb.GroupStart(last))
	}
	return free >= minLastGroup || last == 0 && free > 16
}

func (l *layout) placeJournal(p *placer, n uint64) {
	for n > 0 && !p.full {
		got := p.run(n)
		l.journal = append(l.journal, got)
		n -= got.len()
	}
}

// placer finds room for metadata, in ascending order, past the heads of the groups.
type placer struct {
	at, end uint64
	heads   []span
	taken   []span
	full    bool
}

// take gives the start of n blocks in one run.
func (p *placer) take(n uint64) uint64 {
	for {
		got := p.run(n)
		if got.len() == n || p.full {
			return got.start
		}
		p.taken = p.taken[:len(p.taken)-1] // too short: left for data
	}
}

// run takes up to n blocks, and at least one.
func (p *placer) run(n uint64) span {
	i, _ := slices.BinarySearchFunc(p.heads, p.at, func(h span, at uint64) int {
		if h.end <= at {
			return -1
		}
		return 1
	})
	for ; i < len(p.heads) && p.heads[i].start <= p.at; i++ {
		p.at = p.heads[i].end
	}
	end := min(p.at+n, p.end)
	if i < len(p.heads) {
		end = min(end, p.heads[i].start)
	}
	if end <= p.at {
		p.full = true
		return span{p.at, p.at + 1}
	}
	got := span{p.at, end}
	p.at = end
	p.taken = append(p.taken, got)
	return got
}
