package ext4

import (
	"cmp"
	"slices"

	"banger/ext4/internal/disk"
)

// sharedBlocks are the clusters that were found to have a second use. Who had them
// first is not kept during the scan; findSharers looks for it.
type sharedBlocks struct {
	runs []span
}

// maxShared bounds how many runs are kept.
const maxShared = 1 << 14

// share reports clusters that an inode has and that were taken.
func (c *checker) share(ino uint32, s *inodeCheck, at, n uint64) {
	s.state |= inodeSharing
	block := uint64(c.sb.FirstDataBlock) + at<<c.bits
	what := "another use"
	const sharedBlocks = 0x4000 // ro_compat: such an image is only read, and means it
	for b := block; b < block+min(n<<c.bits, 256); b++ {
		if c.meta.has(b - uint64(c.sb.FirstDataBlock)) {
			what = "metadata of the file system among its uses"
			break
		}
	}
	if c.sb.FeatureROCompat&sharedBlocks != 0 && what == "another use" {
		return
	}
	c.blockProblem(ProblemSharedBlock, ino, block, "has the blocks %d to %d, which have %s", block, block+n<<c.bits-1, what)
	if len(c.sharing.runs) < maxShared {
		c.sharing.runs = append(c.sharing.runs, span{at, at + n})
	}
}

// findSharers reports the inodes that had shared blocks first.
func (c *checker) findSharers() error {
	runs := joinSpans(c.sharing.runs)
	if len(runs) == 0 {
		return nil
	}
	for n := range c.groups {
		for at := range c.groups[n].inodes {
			s := &c.groups[n].inodes[at]
			if s.state&inodeUsed == 0 || s.state&(inodeBad|inodeSharing) != 0 {
				continue
			}
			if err := c.findShared(uint32(n)*c.sb.InodesPerGroup+uint32(at)+1, s, runs); err != nil {
				return err
			}
		}
		if err := c.ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) findShared(ino uint32, s *inodeCheck, runs []span) error {
	i, _, ok, err := c.rawInode(ino)
	if !ok {
		return err
	}
	look := func(start, n uint64) {
		from, to := c.cluster(start), c.cluster(start+n-1)+1
		k, _ := slices.BinarySearchFunc(runs, from, func(r span, at uint64) int { return cmp.Compare(r.end, at+1) })
		for ; k < len(runs) && runs[k].start < to; k++ {
			at := max(from, runs[k].start)
			block, end := uint64(c.sb.FirstDataBlock)+at<<c.bits, uint64(c.sb.FirstDataBlock)+min(to, runs[k].end)<<c.bits
			c.blockProblem(ProblemSharedBlock, ino, block, "has the blocks %d to %d, which have another use", block, end-1)
		}
	}
	if i.FileACL != 0 && !c.outsideBlock(i.FileACL) {
		look(i.FileACL, 1)
	}
	if c.mapped(&i) && (ino != disk.ResizeIno || c.sb.FeatureCompat&disk.CompatResizeInode == 0) {
		w := &mapWalk{c: c, ino: ino, s: s, i: &i, quiet: true, node: func(b uint64) { look(b, 1) },
			data: func(e disk.Extent) { look(e.Physical, uint64(e.Len)) }}
		if err := w.walk(); err != nil {
			return err
		}
	}
	return nil
}

// outsideBlock says that a block cannot be a file's.
func (c *checker) outsideBlock(n uint64) bool {
	return n <= uint64(c.sb.FirstDataBlock) || n >= c.sb.Blocks()
}
