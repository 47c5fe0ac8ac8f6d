package ext4

import (
	"fmt"
	"syscall"

	"banger/ext4/internal/disk"
	"banger/ext4/internal/xattr"
)

// emptyMap gives an inode a map without blocks.
func (t *Tx) emptyMap(n *editNode) {
	clear(n.Block[:])
	if t.v.sb.Extents() {
		n.Flags |= disk.InodeExtents
		// Without extents nothing is allocated, and nothing can fail.
		n.Block, _, _ = new(disk.Tree).Build(nil)
	} else {
		n.Flags &^= disk.InodeExtents
	}
}

// setMap makes extents, which ascend, the map of an inode, in the form that new files
// have, and sets i_blocks. nodes are the blocks of the old map: they are used
// again, or freed. put is still to be done.
func (t *Tx) setMap(n *editNode, extents []disk.Extent, nodes []uint64) error {
	b := &mapBuilder{t: t, spare: nodes, goal: t.goalOf(n.ino)}
	if len(extents) > 0 {
		b.goal = extents[0].Physical
	}
	var err error
	if t.v.sb.Extents() {
		n.Flags |= disk.InodeExtents
		tree := disk.Tree{
			BlockSize: t.v.bs, Checksums: t.v.sb.MetadataCsum(), Seed: t.v.sb.InodeSeed(n.ino, n.Generation),
			Alloc: b.alloc, Write: b.write,
		}
		n.Block, _, err = tree.Build(extents)
	} else {
		n.Flags &^= disk.InodeExtents
		n.Block, err = b.indirect(extents)
	}
	if err != nil {
		return err
	}
	if err := t.freeBlocks(b.spare); err != nil {
		return err
	}
	blocks := uint64(b.nodes)
	for _, e := range extents {
		blocks += uint64(e.Len)
	}
	if n.FileACL != 0 {
		blocks++
	}
	more, err := t.valueBlocks(n)
	if err != nil {
		return err
	}
	return t.setBlocks(n, blocks+more)
}

// valueBlocks is what i_blocks also counts: attributes in inodes of their own, each as
// often as it is used.
func (t *Tx) valueBlocks(n *editNode) (blocks uint64, err error) {
	if t.v.sb.FeatureIncompat&disk.IncompatEAInode == 0 {
		return 0, nil
	}
	raws, err := t.rawAttrs(n)
	return t.blocksOf(raws), err
}

// blocksOf is how many blocks the values take that are in inodes of their own.
func (t *Tx) blocksOf(attrs []xattr.Raw) (blocks uint64) {
	for _, r := range attrs {
		if r.ValueInode != 0 {
			blocks += (uint64(r.Size) + uint64(t.v.bs) - 1) / uint64(t.v.bs)
		}
	}
	return blocks
}

// setBlocks sets i_blocks.
func (t *Tx) setBlocks(n *editNode, blocks uint64) error {
	n.Sectors = blocks * uint64(t.v.bs/512)
	if n.Sectors >= 1<<32 && t.v.sb.FeatureROCompat&disk.ROCompatHugeFile == 0 {
		return fmt.Errorf("%w: 2 TiB of blocks without the feature huge_file", syscall.EFBIG)
	}
	return nil
}

// goalOf is where blocks of a new file are looked for first.
func (t *Tx) goalOf(ino uint32) uint64 {
	n, _ := t.v.sb.InodePlace(ino)
	return t.v.sb.GroupStart(min(n, t.v.groups-1))
}

// mapBuilder gives blocks to a map.
type mapBuilder struct {
	t     *Tx
	spare []uint64
	goal  uint64
	nodes int
}

func (b *mapBuilder) alloc() (n uint64, err error) {
	b.nodes++
	if k := len(b.spare) - 1; k >= 0 {
		n, b.spare = b.spare[k], b.spare[:k]
		return n, nil
	}
	return b.t.allocOne(b.goal)
}

func (b *mapBuilder) write(n uint64, c []byte) error {
	b.t.setBlock(n, c)
	return nil
}

// indirect lays out the map of ext2 and ext3: 12 pointers to blocks, then one to a
// block of pointers, one to a block of those, and one to a block of these
// (Documentation/filesystems/ext4/blockmap.rst). It has no unwritten blocks.
func (b *mapBuilder) indirect(extents []disk.Extent) (root [60]byte, err error) {
	per := uint64(b.t.v.bs / 4)
	last := uint64(0)
	if n := len(extents); n > 0 {
		last = extents[n-1].End()
	}
	if last > 12+per+per*per+per*per*per {
		return root, fmt.Errorf("%w: beyond what a block map reaches", syscall.EFBIG)
	}
	for _, e := range extents {
		if e.Unwritten || e.Physical+uint64(e.Len) > 1<<32 {
			return root, disk.Corrupt("a block map cannot hold an extent at block %d", e.Physical)
		}
	}
	w := &mapWriter{b: b, rest: extents}
	for n := range uint64(12) {
		p, err := w.pointer(n, n+1, 0)
		if err != nil {
			return root, err
		}
		le.PutUint32(root[4*n:], p)
	}
	logical, span := uint64(12), per
	for level := 1; level <= 3; level++ {
		p, err := w.pointer(logical, logical+span, level)
		if err != nil {
			return root, err
		}
		le.PutUint32(root[4*(11+level):], p)
		logical, span = logical+span, span*per
	}
	return root, nil
}

// mapWriter walks through extents and through the pointers side by side.
type mapWriter struct {
	b    *mapBuilder
	rest []disk.Extent
}

// pointer makes the pointer that stands for the blocks from one to before end of the
// file; 0 where all of them are a hole.
func (w *mapWriter) pointer(from, end uint64, level int) (uint32, error) {
	for len(w.rest) > 0 && w.rest[0].End() <= from {
		w.rest = w.rest[1:]
	}
	if len(w.rest) == 0 || uint64(w.rest[0].Logical) >= end {
		return 0, nil
	}
	if level == 0 {
		return uint32(w.rest[0].Physical + from - uint64(w.rest[0].Logical)), nil
	}
	at, err := w.b.alloc()
	if err != nil {
		return 0, err
	}
	if at>>32 != 0 {
		return 0, fmt.Errorf("%w: a block map reaches 2^32 blocks", syscall.EFBIG)
	}
	c := make([]byte, w.b.t.v.bs)
	step := (end - from) / uint64(len(c)/4)
	for i := range len(c) / 4 {
		p, err := w.pointer(from+uint64(i)*step, from+uint64(i+1)*step, level-1)
		if err != nil {
			return 0, err
		}
		le.PutUint32(c[4*i:], p)
	}
	return uint32(at), w.b.write(at, c)
}
