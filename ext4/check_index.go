package ext4

import (
	"banger/ext4/internal/crc"
	"banger/ext4/internal/dir"
	"banger/ext4/internal/disk"
)

// indexScan is the check of a directory's hashed index (directory.rst): a root in
// block 0, nodes, and leaves, the blocks with the entries. Every block is one of these,
// once, and each name has a hash within the range of its leaf.
type indexScan struct {
	r       *dirScan
	version uint8
	// blocks has what each block of the directory is.
	blocks []indexBlock
	// at is the leaf whose names come.
	at       uint64
	reported bool
}

// indexBlock is a block of an indexed directory: names in it have hashes from lo to hi,
// and with shared also hi itself, whose names go on in the next leaf.
type indexBlock struct {
	lo, hi uint64
	shared bool
	kind   uint8
}

const (
	indexNone = iota
	indexNode
	indexLeaf
)

const (
	indexEntry     = 8 // le32 hash, le32 block
	indexRootInfo  = 24
	indexRootFirst = 32
	indexNodeFirst = 8
	indexTail      = 8
	indexMask      = 1<<28 - 1
)

func (x *indexScan) is(n uint64, kind uint8) bool {
	return n < uint64(len(x.blocks)) && x.blocks[n].kind == kind
}

func (r *dirScan) indexProblem(at uint64, format string, args ...any) {
	r.problem(ProblemIndex, at, "is a directory "+format, args...)
}

// readIndex reads the index; nil if its root makes no sense.
func (r *dirScan) readIndex() (*indexScan, error) {
	b := make([]byte, r.c.bs)
	at, ok := r.find(0)
	if !ok {
		return nil, nil
	}
	if ok, err := r.c.read(at, b); !ok {
		return nil, err
	}
	info := b[indexRootInfo:]
	levels := 1
	if r.c.sb.FeatureIncompat&disk.IncompatLargeDir != 0 {
		levels = 2
	}
	const sipHash = 6 // of casefold directories that are encrypted
	switch {
	case r.record(b, 0) != 12 || r.record(b, 12) != int(r.c.bs)-12:
		r.indexProblem(at, "with the flag of an index, and has none")
		return nil, nil
	case le.Uint32(info) != 0 || info[5] != 8 || info[7]&1 != 0:
		r.indexProblem(at, "whose index has an unknown form")
		return nil, nil
	case info[4] > dir.HashTEA && !(info[4] == sipHash && r.i.Flags&disk.InodeCasefold != 0):
		r.indexProblem(at, "whose index has the unknown hash %d", info[4])
		return nil, nil
	case int(info[6]) > levels:
		r.indexProblem(at, "whose index has %d levels", info[6])
		return nil, nil
	}
	x := &indexScan{r: r, version: info[4], blocks: make([]indexBlock, r.n)}
	x.blocks[0] = indexBlock{kind: indexNode, hi: 1 << 32}
	ok, err := x.node(0, at, b, indexRootFirst, int(info[6]))
	if !ok {
		return nil, err
	}
	return x, nil
}

// node goes through a block of the index, level levels above the leaves. It is false
// where that is no block of an index.
func (x *indexScan) node(n, at uint64, b []byte, first, level int) (bool, error) {
	r := x.r
	limit, count := int(le.Uint16(b[first:])), int(le.Uint16(b[first+2:]))
	room := len(b) - first
	if r.c.csum() {
		room -= indexTail
	}
	if limit != room/indexEntry || count == 0 || count > limit {
		r.indexProblem(at, "whose index has %d of %d entries, with room for %d, in its block %d", count, limit, room/indexEntry, n)
		return false, nil
	}
	if r.c.csum() {
		tail := b[first+limit*indexEntry:]
		sum := crc.C(crc.C(r.sum, b[:first+count*indexEntry]), tail[:4])
		if sum = crc.C(sum, make([]byte, 4)); sum != le.Uint32(tail[4:]) {
			r.problem(ProblemChecksum, at, "is a directory whose index has a wrong checksum in its block %d", n)
		}
	}
	own := x.blocks[n]
	lo := own.lo
	for k := range count {
		e := b[first+k*indexEntry:]
		if k > 0 {
			hash := uint64(le.Uint32(e))
			if hash < lo || hash&^1 >= own.hi && !(own.shared && hash&^1 == own.hi) {
				r.indexProblem(at, "whose index is out of order at entry %d of its block %d", k, n)
				return true, nil
			}
			lo = hash
		}
		child := indexBlock{lo: lo &^ 1, hi: own.hi, shared: own.shared}
		if k+1 < count {
			hash := uint64(le.Uint32(e[indexEntry:]))
			child.hi, child.shared = hash&^1, hash&1 != 0
		}
		if err := x.child(at, uint64(le.Uint32(e[4:])&indexMask), level, child); err != nil {
			return true, err
		}
	}
	return true, nil
}

// child takes a block that the index names.
func (x *indexScan) child(above, n uint64, level int, child indexBlock) error {
	r := x.r
	at, ok := r.find(n)
	switch {
	case n == 0 || n >= uint64(len(x.blocks)) || !ok:
		r.indexProblem(above, "whose index leads to block %d, which it has not", n)
		return nil
	case x.blocks[n].kind != indexNone:
		r.indexProblem(above, "whose index leads to its block %d twice", n)
		return nil
	}
	child.kind = indexLeaf
	if level == 0 {
		x.blocks[n] = child
		return nil
	}
	b := make([]byte, r.c.bs)
	if ok, err := r.c.read(at, b); !ok {
		return err
	}
	if le.Uint32(b) != 0 || r.record(b, 0) != int(r.c.bs) {
		r.indexProblem(at, "whose block %d should be a node of its index", n)
		x.blocks[n] = child
		return nil
	}
	child.kind = indexNode
	x.blocks[n] = child
	_, err := x.node(n, at, b, indexNodeFirst, level-1)
	return err
}

// leaf begins a block of entries.
func (x *indexScan) leaf(n, at uint64) {
	x.at, x.reported = n, false
	if !x.is(n, indexLeaf) {
		x.r.indexProblem(at, "whose index does not lead to its block %d", n)
		x.reported = true
	}
}

// name checks that a name is in the leaf in which it will be looked for.
func (x *indexScan) name(at uint64, name string) {
	r := x.r
	if x.reported || r.opaque || r.i.Flags&disk.InodeCasefold != 0 {
		return
	}
	sb := r.c.sb
	major, _ := dir.Hash(x.version, sb.Flags&disk.FlagUnsignedHash != 0, sb.HashSeed, name)
	b := &x.blocks[x.at]
	if h := uint64(major); h < b.lo || h > b.hi || h == b.hi && !b.shared {
		r.indexProblem(at, "whose entry %q, with hash %#x, is in a block for hashes from %#x to %#x", name, h, b.lo, b.hi)
		x.reported = true // one a block says it
	}
}
