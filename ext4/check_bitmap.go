package ext4

import (
	"fmt"
	"math/bits"
	"strings"

	"banger/ext4/internal/disk"
)

// bitmapSums counts what is free over all groups.
type bitmapSums struct {
	blocks, inodes uint64
	groups         int
}

// checkBitmaps compares the bitmaps and the counts of free blocks and inodes with
// what is in use (group_descr.rst, bitmaps.rst).
func (c *checker) checkBitmaps() error {
	clusters := c.sb.BlocksPerGroup >> c.bits
	if clusters%8 != 0 || uint64(clusters) > 8*c.bs {
		c.problem(Problem{Kind: ProblemSuperblock, Detail: fmt.Sprintf("groups have %d clusters", clusters)})
		return nil
	}
	var sums bitmapSums
	have, want := make([]byte, c.bs), make([]byte, c.bs)
	for n := range c.groups {
		g := &c.groups[n]
		if err := c.ctx.Err(); err != nil {
			return err
		}
		if g.bad {
			continue
		}
		sums.groups++
		if err := c.checkBlockBitmap(uint32(n), g, have, want, &sums); err != nil {
			return err
		}
		if err := c.checkInodeBitmap(uint32(n), g, have, want, &sums); err != nil {
			return err
		}
	}
	if uint32(sums.groups) == c.v.groups {
		c.checkSums(&sums)
	}
	return nil
}

// checkSums compares the superblock's counts. While it is mounted the kernel does not
// keep them, so with a journal to be replayed they may be old.
func (c *checker) checkSums(sums *bitmapSums) {
	if c.v.journal != nil || c.sb.FeatureIncompat&disk.IncompatRecover != 0 {
		return
	}
	if got := c.sb.FreeBlocks(); got != sums.blocks {
		c.problem(Problem{Kind: ProblemFreeCount, Detail: fmt.Sprintf("the superblock counts %d free blocks, and there are %d", got, sums.blocks)})
	}
	if got := uint64(c.sb.FreeInodesCount); got != sums.inodes {
		c.problem(Problem{Kind: ProblemFreeCount, Detail: fmt.Sprintf("the superblock counts %d free inodes, and there are %d", got, sums.inodes)})
	}
}

func (c *checker) checkBlockBitmap(n uint32, g *groupCheck, have, want []byte, sums *bitmapSums) error {
	per := uint64(c.sb.BlocksPerGroup >> c.bits)
	count := (uint64(c.sb.GroupBlocks(n)) + 1<<c.bits - 1) >> c.bits
	bytes := int(per / 8)
	c.used.bitmap(uint64(n)*per, want[:bytes])
	used := 0
	for _, b := range want[:bytes] {
		used += bits.OnesCount8(b)
	}
	c.report.Blocks += uint64(used) << c.bits
	free := count - min(uint64(used), count)
	sums.blocks += free << c.bits
	if uint64(g.desc.FreeBlocks) != free {
		c.groupProblem(ProblemFreeCount, n, "its descriptor counts %d free blocks, and there are %d", g.desc.FreeBlocks, free)
	}
	if g.desc.Flags&disk.GroupBlockUninit != 0 {
		// The bitmap on the disk does not count: only metadata may be in use.
		c.metaBitmap(n, have[:bytes])
	} else {
		if ok, err := c.read(g.desc.BlockBitmap, have); !ok {
			return err
		}
		if sum := c.sb.BlockBitmapChecksum(have); c.csum() && sum != g.desc.BlockBitmapCsum {
			c.bitmapProblem(ProblemChecksum, n, g.desc.BlockBitmap, "the checksum of its block bitmap is wrong")
		}
		if !allSet(have, count) {
			c.bitmapProblem(ProblemBlockBitmap, n, g.desc.BlockBitmap, "the bits behind the end of its block bitmap are not set")
		}
	}
	first := c.sb.GroupStart(n)
	c.compareBitmap(ProblemBlockBitmap, n, g.desc.BlockBitmap, "blocks", have, want, count, func(i uint64) uint64 { return first + i<<c.bits })
	return nil
}

// metaBitmap fills b with the clusters of a group that metadata is in.
func (c *checker) metaBitmap(n uint32, b []byte) {
	start := uint64(n) * uint64(c.sb.BlocksPerGroup)
	if c.bits == 0 {
		c.meta.bitmap(start, b)
		return
	}
	clear(b)
	for i := range uint64(c.sb.BlocksPerGroup) {
		if c.meta.has(start + i) {
			b[i>>c.bits/8] |= 1 << (i >> c.bits % 8)
		}
	}
}

func (c *checker) checkInodeBitmap(n uint32, g *groupCheck, have, want []byte, sums *bitmapSums) error {
	count := uint64(c.sb.InodesPerGroup)
	clear(want)
	used := 0
	for at := range uint64(count) {
		ino := uint64(n)*count + at + 1
		if ino < uint64(c.sb.FirstIno) || at < uint64(len(g.inodes)) && g.inodes[at].state&inodeUsed != 0 {
			want[at/8] |= 1 << (at % 8)
			used++
		} else if at >= uint64(len(g.inodes)) && ino >= uint64(c.sb.FirstIno) {
			break
		}
	}
	free := count - uint64(used)
	sums.inodes += free
	if uint64(g.desc.FreeInodes) != free {
		c.groupProblem(ProblemFreeCount, n, "its descriptor counts %d free inodes, and there are %d", g.desc.FreeInodes, free)
	}
	if g.desc.UsedDirs != g.dirs {
		c.groupProblem(ProblemFreeCount, n, "its descriptor counts %d directories, and there are %d", g.desc.UsedDirs, g.dirs)
	}
	if g.desc.Flags&disk.GroupInodeUninit != 0 {
		if used > 0 {
			c.groupProblem(ProblemGroup, n, "its inodes are marked as not initialised, and %d are in use", used)
		}
		return nil
	}
	if ok, err := c.read(g.desc.InodeBitmap, have); !ok {
		return err
	}
	if sum := c.sb.InodeBitmapChecksum(have); c.csum() && sum != g.desc.InodeBitmapCsum {
		c.bitmapProblem(ProblemChecksum, n, g.desc.InodeBitmap, "the checksum of its inode bitmap is wrong")
	}
	if !allSet(have, count) {
		c.bitmapProblem(ProblemInodeBitmap, n, g.desc.InodeBitmap, "the bits behind the end of its inode bitmap are not set")
	}
	c.compareBitmap(ProblemInodeBitmap, n, g.desc.InodeBitmap, "inodes", have, want, count, func(i uint64) uint64 { return uint64(n)*count + i + 1 })
	return nil
}

func (c *checker) bitmapProblem(kind ProblemKind, n uint32, block uint64, format string, args ...any) {
	c.problem(Problem{Kind: kind, Group: n, Block: block, Detail: fmt.Sprintf("group %d: ", n) + fmt.Sprintf(format, args...)})
}

// allSet says whether all bits from one on are set.
func allSet(b []byte, from uint64) bool {
	for from%8 != 0 && from < uint64(len(b))*8 {
		if b[from/8]>>(from%8)&1 == 0 {
			return false
		}
		from++
	}
	for _, x := range b[from/8:] {
		if x != 0xff {
			return false
		}
	}
	return true
}

// maxRuns is how many runs of bits a problem lists.
const maxRuns = 4

// compareBitmap reports bits of a bitmap that differ from what is in use.
func (c *checker) compareBitmap(kind ProblemKind, n uint32, block uint64, what string, have, want []byte, count uint64, number func(uint64) uint64) {
	var leaked, missing []span
	for i := range (count + 7) / 8 {
		h, w := have[i], want[i]
		if h == w {
			continue
		}
		for bit := range min(8, count-8*i) {
			switch at := 8*i + bit; {
			case h>>bit&1 > w>>bit&1:
				leaked = addRun(leaked, at)
			case h>>bit&1 < w>>bit&1:
				missing = addRun(missing, at)
			}
		}
	}
	if len(missing) > 0 {
		c.bitmapProblem(kind, n, block, "%s are marked free and in use: %s", what, runText(missing, number))
	}
	if len(leaked) > 0 {
		c.bitmapProblem(kind, n, block, "%s are marked in use, and nobody has them: %s", what, runText(leaked, number))
	}
}

func addRun(runs []span, at uint64) []span {
	if k := len(runs); k > 0 && runs[k-1].end == at {
		runs[k-1].end++
		return runs
	}
	return append(runs, span{at, at + 1})
}

func runText(runs []span, number func(uint64) uint64) string {
	var b strings.Builder
	for k, r := range runs {
		if k == maxRuns {
			fmt.Fprintf(&b, " and %d more runs", len(runs)-k)
			break
		}
		if k > 0 {
			b.WriteString(", ")
		}
		if fmt.Fprintf(&b, "%d", number(r.start)); r.len() > 1 {
			fmt.Fprintf(&b, " to %d", number(r.end-1))
		}
	}
	return b.String()
}
