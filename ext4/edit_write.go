package ext4

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"syscall"

	"banger/ext4/internal/disk"
)

// contents is what a file is to contain: a list of extents, some of which were
// allocated for it (fresh) and are written in place, while those of the old contents are
// never written. Blocks between extents are holes. Bytes of a block behind the
// end of the file are zeros.
type contents struct {
	t       *Tx
	extents []freshExtent
	nodes   []uint64 // of the map that install replaces
	size    int64
	goal    uint64
	blocks  uint64        // allocated so far
	spare   run           // allocated, and not used yet
	dead    []freshExtent // no longer in the file
}

type freshExtent struct {
	disk.Extent
	fresh bool
}

// newContents is empty, for the inode ino.
func (t *Tx) newContents(ino uint32) *contents {
	return &contents{t: t, goal: t.goalOf(ino)}
}

// oldContents is what an inode contains now. It must not change before install.
func (t *Tx) oldContents(n *editNode) (*contents, error) {
	c := t.newContents(n.ino)
	if n.Size > math.MaxInt64 {
		return nil, disk.Corrupt("inode %d has %d bytes", n.ino, n.Size)
	}
	if n.Flags&disk.InodeInlineData != 0 {
		b, err := t.v.inlineContent(n.ino, &n.Inode, nil)
		if err != nil {
			return nil, err
		}
		return c, c.write(b, 0, 1)
	}
	m, err := t.v.fileMap(n.ino, &n.Inode)
	if err != nil {
		return nil, err
	}
	for _, e := range m.extents {
		c.extents = append(c.extents, freshExtent{Extent: e})
	}
	c.nodes, c.size = m.nodes, int64(n.Size)
	return c, c.cleanTail()
}

// cleanTail makes the rest of the last block zeros: a program that had the file
// mapped into memory may have left something there.
func (c *contents) cleanTail() error {
	bs := int64(c.t.v.bs)
	if c.size%bs == 0 {
		return nil
	}
	b, err := c.old(uint64(c.size / bs))
	if err != nil {
		return err
	}
	rest := b[c.size%bs:]
	if !slices.ContainsFunc(rest, func(x byte) bool { return x != 0 }) {
		return nil
	}
	size := c.size
	err = c.write(make([]byte, len(rest)), size, 0)
	c.size = size
	return err
}

// at returns the index of the extent that has a block, or of the next one.
func (c *contents) at(block uint64) int {
	if n := len(c.extents); n == 0 || c.extents[n-1].End() <= block {
		return n // the end of a file is where most is written
	}
	return sort.Search(len(c.extents), func(i int) bool { return c.extents[i].End() > block })
}

// old returns what a block contains now.
func (c *contents) old(block uint64) ([]byte, error) {
	b := make([]byte, c.t.v.bs)
	i := c.at(block)
	if i == len(c.extents) || uint64(c.extents[i].Logical) > block || c.extents[i].Unwritten {
		return b, nil
	}
	e := c.extents[i]
	return b, c.t.v.readData(b, e.Physical+block-uint64(e.Logical), 0)
}

// write writes bytes at an offset. more is how many blocks are likely to follow
// at the end of these, so that they come to lie together. After an error the contents are
// still consistent, but not those that were wanted.
func (c *contents) write(p []byte, off int64, more uint64) error {
	t, bs := c.t, uint64(c.t.v.bs)
	if off > math.MaxInt64-int64(len(p)) || (uint64(off)+uint64(len(p))+bs-1)/bs > disk.MaxLogical {
		return syscall.EFBIG
	}
	for len(p) > 0 {
		block, in := uint64(off)/bs, uint64(off)%bs
		i := c.at(block)
		n := uint64(len(p))
		if i < len(c.extents) && c.extents[i].fresh && uint64(c.extents[i].Logical) <= block {
			e := c.extents[i]
			n = min(n, (e.End()-block)*bs-in)
			at := (e.Physical+block-uint64(e.Logical))*bs + in
			if _, err := t.f.WriteAt(p[:n], int64(at)); err != nil {
				return err
			}
			t.dropCached(at/bs, (in+n+bs-1)/bs)
		} else {
			end := block + (in+n+bs-1)/bs
			for ; i < len(c.extents) && uint64(c.extents[i].Logical) < end; i++ {
				if c.extents[i].fresh {
					end = uint64(c.extents[i].Logical)
				}
			}
			// A block that is written in part is written alone.
			if in != 0 || n < bs {
				end = block + 1
				n = min(n, bs-in)
			} else {
				end = min(end, block+n/bs)
				n = (end - block) * bs
			}
			r, err := c.take(uint32(min(end-block, 1<<20)), more)
			if err != nil {
				return err
			}
			n = min(n, uint64(r.n)*bs)
			b := p[:n]
			if n%bs != 0 {
				whole, err := c.old(block)
				if err != nil {
					return err
				}
				copy(whole[in:], b)
				b = whole
			}
			c.put(block, r)
			if err := t.writeData(r.start, b); err != nil {
				return err
			}
		}
		p, off = p[n:], off+int64(n)
		c.size = max(c.size, off)
	}
	return nil
}

// take allocates up to want blocks, after those that were allocated last if that
// can be.
func (c *contents) take(want uint32, more uint64) (r run, err error) {
	if c.spare.n == 0 {
		ask := uint32(min(uint64(want)+more, 1<<20))
		err := c.t.nested(func() (err error) {
			c.spare, err = c.t.alloc(c.goal, ask)
			return err
		})
		if err != nil {
			return run{}, err
		}
	}
	r = run{c.spare.start, min(want, c.spare.n)}
	c.spare = run{c.spare.start + uint64(r.n), c.spare.n - r.n}
	c.goal = r.start + uint64(r.n)
	c.blocks += uint64(r.n)
	return r, nil
}

// put maps blocks of the file to a fresh run.
func (c *contents) put(block uint64, r run) {
	e := freshExtent{disk.Extent{Logical: uint32(block), Len: r.n, Physical: r.start}, true}
	i := c.cut(block, e.End())
	if i > 0 {
		if l := &c.extents[i-1]; l.fresh && l.End() == block && l.Physical+uint64(l.Len) == r.start {
			l.Len += r.n
			return
		}
	}
	c.extents = slices.Insert(c.extents, i, e)
}

// cut makes the blocks from one to before another a hole, and returns where in the
// list it is.
func (c *contents) cut(from, end uint64) int {
	i := c.at(from)
	for i < len(c.extents) && uint64(c.extents[i].Logical) < end {
		e := c.extents[i]
		low, high := max(from, uint64(e.Logical)), min(end, e.End())
		part := func(a, b uint64) freshExtent {
			p := e
			p.Logical, p.Len, p.Physical = uint32(a), uint32(b-a), e.Physical+a-uint64(e.Logical)
			return p
		}
		c.dead = append(c.dead, part(low, high))
		var keep []freshExtent
		if low > uint64(e.Logical) {
			keep = append(keep, part(uint64(e.Logical), low))
		}
		if high < e.End() {
			keep = append(keep, part(high, e.End()))
		}
		c.extents = slices.Replace(c.extents, i, i+1, keep...)
		if low > uint64(e.Logical) {
			i++
		}
		if high == end {
			break
		}
	}
	return i
}

// truncate sets the size. What it adds is a hole.
func (c *contents) truncate(size int64) error {
	bs := int64(c.t.v.bs)
	if size < 0 {
		return syscall.EINVAL
	}
	if size > math.MaxInt64-bs || uint64(size/bs) >= disk.MaxLogical {
		return syscall.EFBIG
	}
	if size < c.size {
		c.cut(uint64((size+bs-1)/bs), disk.MaxLogical+1)
	}
	less := size < c.size
	c.size = size
	if less {
		return c.cleanTail()
	}
	return nil
}

// install makes the contents those of an inode, whose old ones must be freed
// already but for what oldContents took over. put is still to be done.
func (c *contents) install(n *editNode) error {
	t := c.t
	for _, e := range c.dead {
		if err := t.free(e.Physical, e.Len); err != nil {
			return err
		}
	}
	if err := t.giveBack(c.spare); err != nil {
		return err
	}
	extents := make([]disk.Extent, len(c.extents))
	for i, e := range c.extents {
		extents[i] = e.Extent
	}
	if n.Flags&disk.InodeInlineData != 0 {
		if err := t.dropInline(n); err != nil {
			return err
		}
	}
	if err := t.setMap(n, extents, c.nodes); err != nil {
		return err
	}
	n.Size = uint64(c.size)
	if c.size > 1<<31-1 {
		t.v.sb.FeatureROCompat |= disk.ROCompatLargeFile
	}
	return nil
}

// discard frees what was allocated.
func (c *contents) discard() error {
	for _, e := range slices.Concat(c.extents, c.dead) {
		if e.fresh {
			if err := c.t.free(e.Physical, e.Len); err != nil {
				return err
			}
		}
	}
	return c.t.giveBack(c.spare)
}

// replace frees the contents of a regular file that are to be replaced whole.
func (t *Tx) replace(n *editNode) error {
	if err := t.writable(n); err != nil {
		return err
	}
	return t.freeContents(n)
}

// writable refuses what has no contents that can be changed.
func (t *Tx) writable(n *editNode) error {
	switch {
	case n.IsDir():
		return errIsDir
	case !n.IsRegular():
		return errNotFile
	case t.locked[n.ino]:
		return errBusy
	case n.Flags&disk.InodeVerity != 0:
		return fmt.Errorf("it is sealed: %w", &FeatureError{Op: "edit", Features: []string{"verity"}})
	case n.Flags&(disk.InodeEncrypted|disk.InodeCompressed) != 0:
		return fmt.Errorf("it is encrypted or compressed: %w", &FeatureError{Op: "edit", Features: []string{"encrypt"}})
	case n.ino < t.v.sb.FirstIno:
		return errPerm
	}
	return nil
}

// nested runs f as an operation of its own, or as a part of the one that runs.
func (t *Tx) nested(f func() error) error {
	if t.inOp {
		return f()
	}
	return t.atomically(f)
}

// writeData writes whole blocks of files.
func (t *Tx) writeData(block uint64, b []byte) error {
	if _, err := t.f.WriteAt(b, int64(block)*int64(t.v.bs)); err != nil {
		return err
	}
	t.dropCached(block, uint64(len(b)/t.v.bs))
	return nil
}

// dropCached forgets what the cache may have of blocks that were written.
func (t *Tx) dropCached(block, n uint64) {
	for i := range n {
		t.v.cache.drop(block + i)
	}
}
