package ext4

import (
	"banger/ext4/internal/disk"
)

// shrinkage is a plan for a smaller file system.
type shrinkage struct {
	*resizer
	survey *survey
}

func (s *shrinkage) run() error {
	s.first = s.sb.GDTBlocks() - 1
	err := s.stageChange(func() error {
		if err := s.dropGroups(); err != nil {
			return err
		}
		if err := s.cutLast(); err != nil {
			return err
		}
		if err := s.freeTables(); err != nil {
			return err
		}
		if err := s.moveReserve(); err != nil {
			return err
		}
		return s.cutTable()
	})
	if err != nil {
		return err
	}
	return s.commit()
}

// dropGroups takes what is free in the groups to be dropped out of the counts.
func (s *shrinkage) dropGroups() error {
	sb := s.t.v.sb
	var free, inodes uint64
	for n := sb.Groups(); n < s.old.Groups(); n++ {
		g := &s.survey.groups[n]
		free, inodes = free+uint64(g.FreeBlocks), inodes+uint64(g.FreeInodes)
		s.addOverhead(-int64(s.old.GroupHead(n)) - 2 - int64(sb.InodeTableBlocks()))
	}
	if free > sb.FreeBlocks() || inodes > uint64(sb.FreeInodesCount) {
		return disk.Corrupt("the superblock counts fewer free blocks or inodes than the groups")
	}
	sb.SetFreeBlocks(sb.FreeBlocks() - free)
	sb.FreeInodesCount -= uint32(inodes)
	return nil
}

// cutLast marks the blocks of the last group that are cut off, as all behind the end.
func (s *shrinkage) cutLast() error {
	t, sb := s.t, s.t.v.sb
	n := sb.Groups() - 1
	from, end := sb.GroupBlocks(n), s.old.GroupBlocks(n)
	if from == end && n == s.old.Groups()-1 {
		return nil
	}
	d, err := t.v.group(n)
	if err != nil {
		return err
	}
	bitmap, err := s.survey.bitmap(n)
	if err != nil {
		return err
	}
	free := uint32(0)
	for at := nextBit(bitmap, from, end, false); at < end; {
		stop := nextBit(bitmap, at, end, true)
		free += stop - at
		at = nextBit(bitmap, stop, end, false)
	}
	if free > d.FreeBlocks || uint64(free) > sb.FreeBlocks() {
		return disk.Corrupt("group %d counts too few free blocks", n)
	}
	// Also one that was not initialised: that of the last group always is.
	setBits(bitmap, from, uint32(8*len(bitmap)))
	t.setBlock(d.BlockBitmap, bitmap)
	d.Flags &^= disk.GroupBlockUninit
	d.BlockBitmapCsum = sb.BlockBitmapChecksum(bitmap)
	d.FreeBlocks -= free
	sb.SetFreeBlocks(sb.FreeBlocks() - uint64(free))
	return t.putGroup(n, &d)
}

// freeTables frees the bitmaps and inode tables of the dropped groups that lie in
// those that stay.
func (s *shrinkage) freeTables() error {
	sb := s.t.v.sb
	var list []span
	for _, m := range s.survey.meta {
		if m.of >= sb.Groups() && m.start < sb.Blocks() {
			list = append(list, span{m.start, min(m.end, sb.Blocks())})
		}
	}
	for _, f := range joinSpans(list) {
		if err := s.release(f.start, f.len()); err != nil {
			return err
		}
	}
	return nil
}

// cutTable clears the descriptors behind the last one in its block.
func (s *shrinkage) cutTable() error {
	sb := s.t.v.sb
	b, err := s.t.touch(sb.GDTBlock(s.first))
	if err != nil {
		return err
	}
	if at := int(sb.Groups()%sb.DescriptorsPerBlock()) * sb.DescriptorSize(); at > 0 {
		clear(b[at:])
	}
	s.table = b
	return nil
}
