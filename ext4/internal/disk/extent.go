package disk

import (
	"encoding/binary"

	"banger/ext4/internal/crc"
)

// The extent tree (Documentation/filesystems/ext4/ifork.rst; fs/ext4/ext4_extents.h).
const (
	extentMagic = 0xf30a
	extentSize  = 12 // of the header and of each entry
	// MaxDepth is the largest depth of a tree; the kernel refuses more.
	MaxDepth = 5
	// MaxExtent is the longest extent of written blocks, MaxUnwritten the longest
	// of unwritten ones.
	MaxExtent    = 1 << 15
	MaxUnwritten = MaxExtent - 1
	// MaxLogical bounds the blocks of a file that extents can name.
	MaxLogical = 1<<32 - 1
)

// Extent maps a run of a file's blocks to a run of the file system's.
type Extent struct {
	Logical   uint32
	Len       uint32 // at least 1; in the tree at most MaxExtent, or MaxUnwritten
	Physical  uint64
	Unwritten bool // allocated, but reads as zeros
}

// End is the logical block after the extent.
func (e Extent) End() uint64 { return uint64(e.Logical) + uint64(e.Len) }

// Node is a decoded node of an extent tree: Extents at depth 0, else Children.
type Node struct {
	Depth    uint16
	Extents  []Extent
	Children []Child
}

// Child is an index entry: the node at Block maps the logical blocks from Logical on.
type Child struct {
	Logical uint32
	Block   uint64
}

// DecodeNode reads a node: i_block of an inode, or a block. want is the depth that
// the parent implies, -1 for the root. The checksum of a block is not looked at
// (see VerifyNode). Entries are checked to ascend, not to overlap, and to lie
// within blocks.
func DecodeNode(b []byte, want int, blocks uint64) (Node, error) {
	le := binary.LittleEndian
	if le.Uint16(b) != extentMagic {
		return Node{}, Corrupt("a node of an extent tree has the magic %#x", le.Uint16(b))
	}
	entries, limit, depth := le.Uint16(b[2:]), le.Uint16(b[4:]), le.Uint16(b[6:])
	if depth > MaxDepth || want >= 0 && int(depth) != want {
		return Node{}, Corrupt("a node of an extent tree has the depth %d", depth)
	}
	if entries > limit || int(limit) > len(b)/extentSize-1 || want >= 0 && entries == 0 {
		return Node{}, Corrupt("a node of an extent tree has %d of %d entries", entries, limit)
	}
	n := Node{Depth: depth}
	next := uint64(0)
	for e := b[extentSize:][:int(entries)*extentSize]; len(e) > 0; e = e[extentSize:] {
		logical := le.Uint32(e)
		if uint64(logical) < next {
			return Node{}, Corrupt("the entries of an extent tree do not ascend at block %d of the file", logical)
		}
		if depth > 0 {
			block := uint64(le.Uint32(e[4:])) | uint64(le.Uint16(e[8:]))<<32
			if block == 0 || block >= blocks {
				return Node{}, Corrupt("an extent tree points to block %d", block)
			}
			n.Children = append(n.Children, Child{logical, block})
			next = uint64(logical) + 1
			continue
		}
		x := Extent{Logical: logical, Len: uint32(le.Uint16(e[4:])), Physical: uint64(le.Uint32(e[8:])) | uint64(le.Uint16(e[6:]))<<32}
		if x.Len > MaxExtent {
			x.Len, x.Unwritten = x.Len-MaxExtent, true
		}
		if x.Len == 0 || x.End() > MaxLogical+1 || x.Physical == 0 || x.Physical >= blocks || uint64(x.Len) > blocks-x.Physical {
			return Node{}, Corrupt("an extent maps %d blocks at %d to %d", x.Len, x.Logical, x.Physical)
		}
		n.Extents = append(n.Extents, x)
		next = x.End()
	}
	return n, nil
}

// VerifyNode says whether the checksum of a node in a block of its own is right,
// for metadata_csum; seed is the inode's (InodeSeed).
func VerifyNode(b []byte, seed uint32) bool {
	tail := nodeTail(b)
	return tail+4 <= len(b) && crc.C(seed, b[:tail]) == binary.LittleEndian.Uint32(b[tail:])
}

// nodeTail is where struct ext4_extent_tail lies: behind the room for entries.
func nodeTail(b []byte) int {
	return extentSize * (1 + int(binary.LittleEndian.Uint16(b[4:])))
}

// Tree lays out an extent tree.
type Tree struct {
	BlockSize int
	Checksums bool   // metadata_csum
	Seed      uint32 // the inode's
	// Alloc gives a block for a node; Write stores it, and keeps the slice.
	Alloc func() (uint64, error)
	Write func(block uint64, b []byte) error
}

// Build makes the shortest tree of the extents, which must ascend and not
// overlap; extents longer than a tree can hold are split. It returns i_block, and
// how many blocks it allocated for nodes.
func (t *Tree) Build(extents []Extent) (root [60]byte, nodes int, err error) {
	extents = split(extents)
	const inRoot = len(root)/extentSize - 1
	if len(extents) <= inRoot {
		putExtents(root[:], inRoot, extents)
		return root, 0, nil
	}
	perBlock := t.BlockSize/extentSize - 1
	var level []Child
	for len(extents) > 0 {
		n := min(perBlock, len(extents))
		b := make([]byte, t.BlockSize)
		putExtents(b, perBlock, extents[:n])
		c, err := t.store(b, extents[0].Logical)
		if err != nil {
			return root, nodes, err
		}
		level, extents, nodes = append(level, c), extents[n:], nodes+1
	}
	for depth := uint16(1); ; depth++ {
		if len(level) <= inRoot {
			putChildren(root[:], inRoot, depth, level)
			return root, nodes, nil
		}
		var above []Child
		for len(level) > 0 {
			n := min(perBlock, len(level))
			b := make([]byte, t.BlockSize)
			putChildren(b, perBlock, depth, level[:n])
			c, err := t.store(b, level[0].Logical)
			if err != nil {
				return root, nodes, err
			}
			above, level, nodes = append(above, c), level[n:], nodes+1
		}
		level = above
	}
}

// NodeCount is how many blocks Build will allocate.
func (t *Tree) NodeCount(extents []Extent) (n int) {
	const inRoot = 60/extentSize - 1
	perBlock := t.BlockSize/extentSize - 1
	for level := len(split(extents)); level > inRoot; {
		level = (level + perBlock - 1) / perBlock
		n += level
	}
	return n
}

func (t *Tree) store(b []byte, logical uint32) (Child, error) {
	block, err := t.Alloc()
	if err != nil {
		return Child{}, err
	}
	if t.Checksums {
		tail := nodeTail(b)
		binary.LittleEndian.PutUint32(b[tail:], crc.C(t.Seed, b[:tail]))
	}
	return Child{logical, block}, t.Write(block, b)
}

// split cuts extents to the length that a tree can hold, and joins neighbours.
func split(extents []Extent) []Extent {
	simple := true
	for i, e := range extents {
		if e.Len > MaxUnwritten || i > 0 && joins(extents[i-1], e) {
			simple = false
			break
		}
	}
	if simple {
		return extents
	}
	var out []Extent
	for _, e := range extents {
		if n := len(out); n > 0 && joins(out[n-1], e) {
			// Fill the last one up as far as it goes.
			last := &out[n-1]
			more := min(e.Len, limit(e)-last.Len)
			last.Len += more
			e.Logical, e.Physical, e.Len = e.Logical+more, e.Physical+uint64(more), e.Len-more
		}
		for e.Len > 0 {
			piece := e
			piece.Len = min(e.Len, limit(e))
			out = append(out, piece)
			e.Logical, e.Physical, e.Len = e.Logical+piece.Len, e.Physical+uint64(piece.Len), e.Len-piece.Len
		}
	}
	return out
}

func limit(e Extent) uint32 {
	if e.Unwritten {
		return MaxUnwritten
	}
	return MaxExtent
}

func joins(a, b Extent) bool {
	return a.End() == uint64(b.Logical) && a.Physical+uint64(a.Len) == b.Physical && a.Unwritten == b.Unwritten && a.Len < limit(a)
}

func putHeader(b []byte, entries, limit int, depth uint16) {
	le := binary.LittleEndian
	le.PutUint16(b, extentMagic)
	le.PutUint16(b[2:], uint16(entries))
	le.PutUint16(b[4:], uint16(limit))
	le.PutUint16(b[6:], depth)
}

func putExtents(b []byte, limit int, extents []Extent) {
	putHeader(b, len(extents), limit, 0)
	le := binary.LittleEndian
	for i, e := range extents {
		at := b[extentSize*(1+i):]
		length := e.Len
		if e.Unwritten {
			length += MaxExtent
		}
		le.PutUint32(at, e.Logical)
		le.PutUint16(at[4:], uint16(length))
		le.PutUint16(at[6:], uint16(e.Physical>>32))
		le.PutUint32(at[8:], uint32(e.Physical))
	}
}

func putChildren(b []byte, limit int, depth uint16, children []Child) {
	putHeader(b, len(children), limit, depth)
	le := binary.LittleEndian
	for i, c := range children {
		at := b[extentSize*(1+i):]
		le.PutUint32(at, c.Logical)
		le.PutUint32(at[4:], uint32(c.Block))
		le.PutUint16(at[8:], uint16(c.Block>>32))
	}
}
