package ext4

import (
	"banger/ext4/internal/disk"
)

// mapWalk goes through the map of one inode as far as it makes sense, past what does
// not. Unless it is quiet, it reports damage and takes the blocks.
type mapWalk struct {
	c   *checker
	ino uint32
	s   *inodeCheck
	i   *disk.Inode
	// quiet is set when the map has been checked before. data then gets the extents;
	// node, if not nil, the map's own blocks.
	quiet bool
	data  func(e disk.Extent)
	node  func(block uint64)

	blocks uint64 // what i_blocks should count, in blocks
	// end is the first block of the file behind all mapped ones, written behind those
	// that are written; first is where the first one lies.
	end, written, first uint64
	bad                 bool

	run     disk.Extent // of a block map, so far
	cluster uint64      // taken last, plus one
	wrong   int         // pointers that led nowhere
}

// maxWrong is how many bad pointers a map may have before the rest of it is taken for
// something else.
const maxWrong = 12

func (w *mapWalk) walk() error {
	if w.i.Flags&disk.InodeExtents != 0 {
		return w.extents(w.i.Block[:], 0, -1, 0, disk.MaxLogical+1)
	}
	if le.Uint16(w.i.Block[:]) == 0xf30a && w.c.sb.Extents() && le.Uint16(w.i.Block[4:]) == 4 && w.i.Mode != 0 {
		w.damage(ProblemMap, 0, "has an extent tree and not its flag")
		return nil
	}
	return w.indirect()
}

func (w *mapWalk) damage(kind ProblemKind, block uint64, format string, args ...any) {
	w.bad = true
	if !w.quiet {
		w.c.blockProblem(kind, w.ino, block, format, args...)
	}
}

// outside reports a run of blocks that is not in the file system.
func (w *mapWalk) outside(start, n uint64) bool {
	if start > uint64(w.c.sb.FirstDataBlock) && start < w.c.sb.Blocks() && n <= w.c.sb.Blocks()-start {
		return false
	}
	w.damage(ProblemBadBlock, start, "has the blocks %d to %d, outside the file system", start, start+n-1)
	w.wrong++
	return true
}

// take takes blocks for the inode, and says whether nobody had them.
func (w *mapWalk) take(start, n uint64) (free bool) {
	c := w.c
	from, to := c.cluster(start), c.cluster(start+n-1)+1
	if c.bits > 0 && from+1 == w.cluster {
		from++ // blocks of one file may share a cluster
	}
	w.cluster = to
	w.blocks += (to - from) << c.bits
	if w.quiet {
		return w.s.state&inodeSharing == 0
	}
	free = true
	if to > from {
		c.used.add(from, to-from, func(at, n uint64) {
			free = false
			c.share(w.ino, w.s, at, n)
		})
	}
	return free
}

// enter takes a block of the map itself, and says whether to go on into it.
func (w *mapWalk) enter(block uint64) bool {
	if w.node != nil {
		w.node(block)
	}
	if w.take(block, 1) {
		return true
	}
	// The way through blocks with other uses is long at worst, but not endless.
	w.c.again--
	return w.c.again > 0
}

// extent takes a run of the file's blocks.
func (w *mapWalk) extent(e disk.Extent) {
	w.take(e.Physical, uint64(e.Len))
	if w.end == 0 {
		w.first = e.Physical
	}
	w.end = e.End()
	if !e.Unwritten {
		w.written = e.End()
	}
	if w.data != nil {
		w.data(e)
	}
}

// extents goes through a node of an extent tree (ifork.rst). lo and hi bound the
// file's blocks that may be below it.
func (w *mapWalk) extents(b []byte, block uint64, want int, lo, hi uint64) error {
	const entry = 12
	entries, limit, depth := int(le.Uint16(b[2:])), int(le.Uint16(b[4:])), int(le.Uint16(b[6:]))
	switch room := len(b)/entry - 1; {
	case le.Uint16(b) != 0xf30a:
		w.damage(ProblemMap, block, "has a node of an extent tree with the magic %#x", le.Uint16(b))
		return nil
	case depth > disk.MaxDepth, want >= 0 && depth != want:
		w.damage(ProblemMap, block, "has a node of an extent tree with the depth %d", depth)
		return nil
	case limit > room || limit < room-2 || entries > limit:
		w.damage(ProblemMap, block, "has a node of an extent tree with %d of %d entries", entries, limit)
		return nil
	case entries == 0 && (want >= 0 || depth > 0):
		w.damage(ProblemMap, block, "has a node of an extent tree without entries")
		return nil
	}
	next := lo
	for n := range entries {
		e := b[entry*(1+n):][:entry]
		if w.wrong > maxWrong {
			return nil
		}
		logical := uint64(le.Uint32(e))
		if logical < next || logical >= hi {
			w.damage(ProblemMap, block, "has extents out of order, at its block %d", logical)
			continue
		}
		if depth == 0 {
			next = w.leafEntry(e, block, logical, hi, next)
			continue
		}
		next = logical + 1
		if err := w.child(e, depth, logical, childEnd(b, n, entries, hi)); err != nil {
			return err
		}
	}
	return nil
}

// childEnd is where the part of the file ends that entry n of an index node maps: at
// the next entry, if that is in order.
func childEnd(b []byte, n, entries int, hi uint64) uint64 {
	if n+1 == entries {
		return hi
	}
	next := uint64(le.Uint32(b[12*(2+n):]))
	if next <= uint64(le.Uint32(b[12*(1+n):])) {
		return hi
	}
	return min(next, hi)
}

// leafEntry takes an extent, and returns the first block of the file that may follow.
func (w *mapWalk) leafEntry(e []byte, block, logical, hi, next uint64) uint64 {
	x := disk.Extent{Logical: uint32(logical), Len: uint32(le.Uint16(e[4:])), Physical: uint64(le.Uint32(e[8:])) | uint64(le.Uint16(e[6:]))<<32}
	if x.Len > disk.MaxExtent {
		x.Len, x.Unwritten = x.Len-disk.MaxExtent, true
	}
	if x.Len == 0 {
		w.damage(ProblemMap, block, "has an extent of no blocks, at its block %d", logical)
		return next
	}
	if w.outside(x.Physical, uint64(x.Len)) {
		return next
	}
	if x.End() > hi {
		w.damage(ProblemMap, block, "has an extent that runs into the next one, at its block %d", logical)
		return next
	}
	w.extent(x)
	return x.End()
}

// child goes through a node in a block of its own.
func (w *mapWalk) child(e []byte, depth int, lo, hi uint64) error {
	block := uint64(le.Uint32(e[4:])) | uint64(le.Uint16(e[8:]))<<32
	if w.outside(block, 1) || !w.enter(block) {
		return nil
	}
	b := make([]byte, w.c.bs)
	if ok, err := w.readNode(block, b); !ok {
		return err
	}
	if w.c.csum() && !w.quiet && !disk.VerifyNode(b, w.c.sb.InodeSeed(w.ino, w.i.Generation)) {
		w.c.blockProblem(ProblemChecksum, w.ino, block, "has a node of an extent tree with a wrong checksum, block %d", block)
	}
	// What a damaged node says of the blocks below is taken for what it is.
	if !w.quiet && le.Uint16(b) == 0xf30a && le.Uint16(b[2:]) > 0 && uint64(le.Uint32(b[12:])) != lo {
		w.damage(ProblemMap, block, "has a node of an extent tree that begins with its block %d, not %d", le.Uint32(b[12:]), lo)
	}
	return w.extents(b, block, depth-1, lo, hi)
}

func (w *mapWalk) readNode(block uint64, b []byte) (bool, error) {
	err := w.c.v.readData(b, block, 0)
	ok, err2 := w.c.silent(err)
	if !ok && err2 == nil {
		w.damage(ProblemTruncated, block, "has a map that cannot be read: %v", err)
	}
	return ok, err2
}

// indirect goes through the map of ext2 and ext3 (blockmap.rst).
func (w *mapWalk) indirect() error {
	for n := range uint64(12) {
		w.pointer(uint64(le.Uint32(w.i.Block[4*n:])), n)
	}
	logical, span := uint64(12), w.c.bs/4
	for level := 1; level <= 3; level++ {
		if err := w.pointers(uint64(le.Uint32(w.i.Block[4*(11+level):])), logical, level, span); err != nil {
			return err
		}
		logical += span
		span *= w.c.bs / 4
	}
	w.flush()
	return nil
}

// pointers goes through a block of pointers, which stand for span blocks in all.
func (w *mapWalk) pointers(block, logical uint64, level int, span uint64) error {
	if block == 0 || w.wrong > maxWrong || logical > disk.MaxLogical {
		return nil
	}
	w.flush()
	if w.outside(block, 1) || !w.enter(block) {
		return nil
	}
	b := make([]byte, w.c.bs)
	if ok, err := w.readNode(block, b); !ok {
		return err
	}
	below := span / (w.c.bs / 4)
	for n := range w.c.bs / 4 {
		p, at := uint64(le.Uint32(b[4*n:])), logical+n*below
		if level == 1 {
			w.pointer(p, at)
		} else if err := w.pointers(p, at, level-1, below); err != nil {
			return err
		}
	}
	return nil
}

// pointer takes one block of the file; runs are taken at once.
func (w *mapWalk) pointer(p, logical uint64) {
	if p == 0 || w.wrong > maxWrong || logical > disk.MaxLogical || w.outside(p, 1) {
		return
	}
	if w.run.Len > 0 && w.run.End() == logical && w.run.Physical+uint64(w.run.Len) == p {
		w.run.Len++
		return
	}
	w.flush()
	w.run = disk.Extent{Logical: uint32(logical), Len: 1, Physical: p}
}

func (w *mapWalk) flush() {
	if w.run.Len > 0 {
		w.extent(w.run)
		w.run = disk.Extent{}
	}
}
