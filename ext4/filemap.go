package ext4

import (
	"math"
	"sort"

	"banger/ext4/internal/disk"
)

// fileMap says where the blocks of a file lie.
type fileMap struct {
	// extents ascend and do not overlap; what they leave out is a hole.
	extents []disk.Extent
	// nodes are the blocks of the map itself: those of the extent tree, or the
	// indirect ones.
	nodes []uint64
}

// find returns the extent that maps block n of the file.
func (m *fileMap) find(n uint32) (disk.Extent, bool) {
	i := sort.Search(len(m.extents), func(i int) bool { return m.extents[i].End() > uint64(n) })
	if i == len(m.extents) || m.extents[i].Logical > n {
		return disk.Extent{}, false
	}
	return m.extents[i], true
}

// fileMap reads the map of a file whose data lies in blocks. Time and memory are
// bounded by the blocks that the map takes.
func (v *volume) fileMap(ino uint32, i *disk.Inode) (*fileMap, error) {
	m := new(fileMap)
	if i.Flags&disk.InodeExtents != 0 {
		t := treeReader{v: v, m: m, seed: v.sb.InodeSeed(ino, i.Generation)}
		return m, t.node(i.Block[:], -1)
	}
	return m, v.indirect(i, m)
}

type treeReader struct {
	v    *volume
	m    *fileMap
	seed uint32
	next uint64 // the first block of the file that may come
}

// node reads a node and what is below it. Since extents must ascend over the whole
// tree, no node can be reached twice, whatever the pointers say.
func (t *treeReader) node(b []byte, depth int) error {
	n, err := disk.DecodeNode(b, depth, t.v.sb.Blocks())
	if err != nil {
		return err
	}
	for _, e := range n.Extents {
		if uint64(e.Logical) < t.next {
			return disk.Corrupt("the extents of a file overlap at its block %d", e.Logical)
		}
		t.next = e.End()
	}
	t.m.extents = append(t.m.extents, n.Extents...)
	for _, c := range n.Children {
		if uint64(c.Logical) < t.next {
			return disk.Corrupt("the extents of a file overlap at its block %d", c.Logical)
		}
		b, err := t.v.block(c.Block)
		if err != nil {
			return err
		}
		if t.v.sb.MetadataCsum() && !disk.VerifyNode(b, t.seed) {
			return disk.Corrupt("the checksum of block %d, a node of an extent tree, is wrong", c.Block)
		}
		t.m.nodes = append(t.m.nodes, c.Block)
		if err := t.node(b, int(n.Depth)-1); err != nil {
			return err
		}
		t.next = max(t.next, uint64(c.Logical)+1)
	}
	return nil
}

// indirect reads the map of ext2 and ext3: 12 blocks, then blocks of pointers one,
// two and three levels deep (Documentation/filesystems/ext4/blockmap.rst).
func (v *volume) indirect(i *disk.Inode, m *fileMap) error {
	per := uint64(v.bs / 4)
	blocks := (i.Size + uint64(v.bs) - 1) / uint64(v.bs)
	if i.IsDir() || i.IsRegular() {
		// A file may have blocks behind its end; the kernel reserves them so.
		blocks = max(blocks, i.Sectors/uint64(v.bs/512))
	}
	w := &indirectReader{v: v, m: m, end: min(blocks, math.MaxUint32), seen: map[uint64]bool{}}
	logical := uint64(0)
	for n := range 12 {
		if err := w.pointer(uint64(le.Uint32(i.Block[4*n:])), logical, 0, 1); err != nil {
			return err
		}
		logical++
	}
	span := per
	for level := 1; level <= 3; level++ {
		if err := w.pointer(uint64(le.Uint32(i.Block[4*(11+level):])), logical, level, span); err != nil {
			return err
		}
		logical += span
		span *= per
	}
	return nil
}

type indirectReader struct {
	v    *volume
	m    *fileMap
	end  uint64 // the file's blocks from here on are not looked at
	seen map[uint64]bool
}

// pointer follows one pointer of a block map, which stands for span blocks of the
// file from logical on.
func (w *indirectReader) pointer(p, logical uint64, level int, span uint64) error {
	if p == 0 || logical >= w.end {
		return nil
	}
	if p >= w.v.sb.Blocks() {
		return disk.Corrupt("a block map points to block %d", p)
	}
	if level == 0 {
		if n := len(w.m.extents); n > 0 {
			if last := &w.m.extents[n-1]; last.End() == logical && last.Physical+uint64(last.Len) == p {
				last.Len++
				return nil
			}
		}
		w.m.extents = append(w.m.extents, disk.Extent{Logical: uint32(logical), Len: 1, Physical: p})
		return nil
	}
	// A block of pointers in two places of one map could make a small image
	// take for ever to read.
	if w.seen[p] {
		return disk.Corrupt("block %d is twice in one block map", p)
	}
	w.seen[p] = true
	w.m.nodes = append(w.m.nodes, p)
	b, err := w.v.block(p)
	if err != nil {
		return err
	}
	below := span / uint64(w.v.bs/4)
	for i := range w.v.bs / 4 {
		if err := w.pointer(uint64(le.Uint32(b[4*i:])), logical+uint64(i)*below, level-1, below); err != nil {
			return err
		}
	}
	return nil
}
