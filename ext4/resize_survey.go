package ext4

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"

	"banger/ext4/internal/disk"
)

// ShrinkLimit is the smallest size in bytes that Shrink can give the file system: behind
// it nothing is in use but bitmaps and inode tables of groups that are all free.
func (im *Image) ShrinkLimit() (int64, error) {
	s, err := newSurvey(im.v)
	if err != nil {
		return 0, public(err)
	}
	_, blocks, err := s.limit()
	return int64(blocks) * int64(im.v.bs), public(err)
}

// survey knows where the metadata of all groups lies, to tell what else is in use.
type survey struct {
	v      *volume
	sb     disk.Superblock // as it was then
	groups []disk.Group
	meta   []metaSpan // by start
}

// metaSpan is bitmaps or an inode table of a group.
type metaSpan struct {
	span
	of uint32
}

func newSurvey(v *volume) (*survey, error) {
	if v.clusterBits() != 0 {
		return nil, &disk.FeatureError{Op: "resize", Features: []string{"bigalloc"}}
	}
	s := &survey{v: v, sb: *v.sb, groups: make([]disk.Group, 0, min(v.groups, 1<<16))}
	table := uint64(v.sb.InodeTableBlocks())
	for n := range v.groups {
		g, err := v.group(n)
		if err != nil {
			return nil, err
		}
		s.groups = append(s.groups, g)
		s.meta = append(s.meta, metaSpan{span{g.BlockBitmap, g.BlockBitmap + 1}, n},
			metaSpan{span{g.InodeBitmap, g.InodeBitmap + 1}, n}, metaSpan{span{g.InodeTable, g.InodeTable + table}, n})
	}
	slices.SortFunc(s.meta, func(a, b metaSpan) int { return cmp.Compare(a.start, b.start) })
	for i := 1; i < len(s.meta); i++ {
		if s.meta[i].start < s.meta[i-1].end {
			return nil, disk.Corrupt("the metadata of groups %d and %d overlap at block %d", s.meta[i-1].of, s.meta[i].of, s.meta[i].start)
		}
	}
	return s, nil
}

// limit returns the last group that must stay, and the least number of blocks.
func (s *survey) limit() (last uint32, blocks uint64, err error) {
	for last = uint32(len(s.groups)) - 1; last > 0; last-- {
		unused, err := s.inodesUnused(last)
		if err != nil {
			return 0, 0, err
		}
		if !unused {
			break
		}
		end, err := s.usedEnd(last, last)
		if err != nil {
			return 0, 0, err
		}
		if end > 0 {
			break
		}
	}
	end, err := s.usedEnd(last, last+1)
	return last, s.sb.GroupStart(last) + uint64(max(end, 1)), err
}

// hasFlag is about flags that count only where descriptors have checksums.
func (s *survey) hasFlag(n uint32, flag uint16) bool {
	sums := s.sb.FeatureROCompat&(disk.ROCompatMetadataCsum|disk.ROCompatGDTCsum) != 0
	return sums && s.groups[n].Flags&flag != 0
}

func (s *survey) inodesUnused(n uint32) (bool, error) {
	g, sb := &s.groups[n], &s.sb
	if g.FreeInodes != sb.InodesPerGroup || g.UsedDirs != 0 {
		return false, nil
	}
	if s.hasFlag(n, disk.GroupInodeUninit) {
		return true, nil
	}
	b, err := s.v.block(g.InodeBitmap)
	if err != nil {
		return false, err
	}
	if sb.MetadataCsum() && sb.InodeBitmapChecksum(b) != g.InodeBitmapCsum {
		return false, disk.Corrupt("the checksum of the inode bitmap of group %d is wrong", n)
	}
	return nextBit(b, 0, sb.InodesPerGroup, true) == sb.InodesPerGroup, nil
}

// usedEnd is where in group n what stays ends, if only the first keep groups stay: the
// index behind the last block in use by anything but the metadata of the others; 0 if
// nothing is.
func (s *survey) usedEnd(n, keep uint32) (uint32, error) {
	sb := &s.sb
	b, err := s.bitmap(n)
	if err != nil {
		return 0, err
	}
	if n >= keep {
		clearBits(b, 0, sb.GroupHead(n))
	}
	s.within(n, func(of, from, end uint32) {
		if of >= keep {
			clearBits(b, from, end)
		}
	})
	length := sb.GroupBlocks(n)
	for i := (length + 63) / 64; i > 0; i-- {
		word := le.Uint64(b[(i-1)*8:])
		if i*64 > length {
			word &= 1<<(length%64) - 1
		}
		if word != 0 {
			return i*64 - uint32(bits.LeadingZeros64(word)), nil
		}
	}
	return 0, nil
}

// bitmap returns a copy of the block bitmap of a group.
func (s *survey) bitmap(n uint32) ([]byte, error) {
	g, sb := &s.groups[n], &s.sb
	if s.hasFlag(n, disk.GroupBlockUninit) {
		b := make([]byte, s.v.bs)
		setBits(b, 0, sb.GroupHead(n))
		s.within(n, func(of, from, end uint32) {
			if of == n {
				setBits(b, from, end)
			}
		})
		return b, nil
	}
	b, err := s.v.block(g.BlockBitmap)
	if err != nil {
		return nil, err
	}
	if sb.MetadataCsum() && sb.BlockBitmapChecksum(b) != g.BlockBitmapCsum {
		return nil, disk.Corrupt("the checksum of the block bitmap of group %d is wrong", n)
	}
	return slices.Clone(b), nil
}

// within calls f for the parts of metadata that lie in group n, with the group that
// they are of.
func (s *survey) within(n uint32, f func(of, from, end uint32)) {
	start := s.sb.GroupStart(n)
	stop := start + uint64(s.sb.GroupBlocks(n))
	i, _ := slices.BinarySearchFunc(s.meta, start, func(m metaSpan, at uint64) int {
		if m.end <= at {
			return -1
		}
		return 1
	})
	for ; i < len(s.meta) && s.meta[i].start < stop; i++ {
		m := s.meta[i]
		f(m.of, uint32(max(m.start, start)-start), uint32(min(m.end, stop)-start))
	}
}

// fit says how many blocks a file system has that may have at most so many: a last
// group that is all free but too short for its own metadata, or for data, is left
// out.
func (s *survey) fit(blocks uint64, last uint32) (uint64, error) {
	sb := &s.sb
	for {
		n, length := sb.GroupOf(blocks - 1)
		length++
		if n <= last || length == sb.BlocksPerGroup {
			return blocks, nil
		}
		end, err := s.usedEnd(n, n+1)
		if err != nil {
			return 0, err
		}
		if length >= end+minLastGroup {
			return blocks, nil
		}
		blocks = sb.GroupStart(n)
	}
}

// planShrink plans to make the file system fit into size bytes. There is no
// plan if it does already.
func (r *resizer) planShrink(size int64) (*shrinkage, error) {
	bs := int64(r.t.v.bs)
	s, err := newSurvey(r.t.v)
	if err != nil {
		return nil, err
	}
	if err := r.checkReserve(); err != nil {
		return nil, err
	}
	last, least, err := s.limit()
	if err != nil {
		return nil, err
	}
	switch {
	case size > r.length:
		return nil, &SizeError{"shrink", size, int64(least) * bs, fmt.Sprintf("the image has %d", r.length)}
	case size < int64(least)*bs:
		return nil, &SizeError{"shrink", size, int64(least) * bs, "what lies behind is in use, and nothing is moved"}
	case uint64(size/bs) >= r.old.Blocks():
		return nil, nil
	}
	blocks, err := s.fit(uint64(size/bs), last)
	if err != nil {
		return nil, err
	}
	r.setSize(blocks)
	return &shrinkage{r, s}, nil
}
