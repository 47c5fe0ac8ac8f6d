package dir

import (
	"fmt"

	"banger/ext4/internal/crc"
)

// The root of an index is dx_root: "." and ".." in records of which the second covers
// the block, in it dx_root_info (le32 zero, u8 hash version, u8 length 8, u8 levels,
// u8 flags), then entries. Other nodes are dx_node: a free record that covers the
// block, then entries. An entry is le32 hash, le32 block; it leads to names from its
// hash on. The hash of the first is taken as the least the node can have, and its
// place holds le16 limit and le16 count instead (dx_countlimit).
const (
	dxEntry   = 8
	rootInfo  = dotRec + 12 // offset of dx_root_info
	rootFirst = rootInfo + 8
	nodeFirst = 8
	// blockMask: four bits of a block number are reserved.
	blockMask = 1<<28 - 1
)

// index is the entries of one block of an index.
type index struct {
	b     []byte
	first int // offset of the first entry
}

func (x index) limit() int { return int(le.Uint16(x.b[x.first:])) }
func (x index) count() int { return int(le.Uint16(x.b[x.first+2:])) }
func (x index) tail() int  { return x.first + x.limit()*dxEntry }
func (x index) full() bool { return x.count() == x.limit() }

func (x index) setCount(n int) { le.PutUint16(x.b[x.first+2:], uint16(n)) }

// hash of an entry but the first, which has none.
func (x index) hash(i int) uint32  { return le.Uint32(x.b[x.first+i*dxEntry:]) }
func (x index) block(i int) uint32 { return le.Uint32(x.b[x.first+i*dxEntry+4:]) & blockMask }

func (x index) set(i int, hash, block uint32) {
	if i > 0 {
		le.PutUint32(x.b[x.first+i*dxEntry:], hash)
	}
	le.PutUint32(x.b[x.first+i*dxEntry+4:], block)
}

// insert adds an entry at place i, above 0, of an index that is not full.
func (x index) insert(i int, hash, block uint32) {
	n := x.count()
	at, end := x.first+i*dxEntry, x.first+n*dxEntry
	copy(x.b[at+dxEntry:], x.b[at:end])
	x.setCount(n + 1)
	x.set(i, hash, block)
}

// find gives the entry that leads to a hash: the last whose own is not above it.
func (x index) find(hash uint32) int {
	lo, hi := 1, x.count()
	for lo < hi {
		if mid := (lo + hi) / 2; x.hash(mid) > hash {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo - 1
}

// limitOf is how many entries a block of an index has room for.
func (p *Params) limitOf(k kind) int {
	n := p.BlockSize - nodeFirst
	if k == root {
		n = p.BlockSize - rootFirst
	}
	if p.Checksums {
		n -= dxTailLen
	}
	return n / dxEntry
}

// indexOf gives the entries of a root or node whose limit and count hold. bad is why
// they do not.
func (p *Params) indexOf(b []byte, k kind) (x index, bad string) {
	x = index{b, nodeFirst}
	if k == root {
		if le.Uint32(b[rootInfo:]) != 0 || b[rootInfo+5] != 8 {
			return x, "root of the index has an unknown form"
		}
		x.first = rootFirst
	}
	if x.limit() != p.limitOf(k) {
		return x, fmt.Sprintf("limit of the index is %d, not %d", x.limit(), p.limitOf(k))
	}
	if n := x.count(); n == 0 || n > x.limit() {
		return x, fmt.Sprintf("index counts %d entries of at most %d", n, x.limit())
	}
	return x, ""
}

// newIndex makes b, a zeroed block, an index without entries; its records are the
// caller's to write for a root.
func (p *Params) newIndex(b []byte, k kind) index {
	x := index{b, nodeFirst}
	if k == root {
		x.first = rootFirst
		b[rootInfo+5] = 8
	} else {
		putRec(b, 0, p.BlockSize)
	}
	le.PutUint16(b[x.first:], uint16(p.limitOf(k)))
	return x
}

// indexSum covers the entries in use, then the tail with its checksum as zero; the
// room between is left out.
func (p *Params) indexSum(x index) uint32 {
	c := crc.C(p.Seed, x.b[:x.first+x.count()*dxEntry])
	at := x.tail()
	c = crc.C(c, x.b[at:at+4])
	return crc.C(c, make([]byte, 4))
}

func levels(rootBlock []byte) int       { return int(rootBlock[rootInfo+6]) }
func setLevels(rootBlock []byte, n int) { rootBlock[rootInfo+6] = byte(n) }

// trail is the way from the root of an index to a leaf. It holds blocks read, not
// copies: whoever changes one owns it first.
type trail struct {
	p       *Params
	bl      Blocks
	version uint8 // of the hash
	hash    uint32
	n       int // frames in use, the root's first
	f       [3]frame
	steps   uint32
}

type frame struct {
	block uint32
	x     index
	at    int  // the entry followed
	owned bool // x.b is ours and has changed
}

// probe follows the index to the leaf in which a name begins to be looked for.
// Damage is reported as damage of the index alone.
func (p *Params) probe(bl Blocks, name string) (t trail, leafBlock uint32, err error) {
	b, err := p.raw(bl, 0)
	if err != nil {
		return t, 0, err
	}
	if b == nil || p.kindOf(0, b, true) != root {
		return t, 0, corruptIndex(0, "has no root of an index")
	}
	x, bad := p.indexOf(b, root)
	if bad != "" {
		return t, 0, corruptIndex(0, bad)
	}
	if err := p.verify(0, b, root); err != nil {
		return t, 0, err
	}
	t = trail{p: p, bl: bl, version: b[rootInfo+4]}
	switch {
	case t.version > HashTEA:
		return t, 0, corruptIndex(0, fmt.Sprintf("index has unknown hash version %d", t.version))
	case b[rootInfo+7]&1 != 0:
		return t, 0, corruptIndex(0, "index has unknown flags")
	case levels(b) > p.maxLevels():
		return t, 0, corruptIndex(0, fmt.Sprintf("index has %d levels, more than %d", levels(b), p.maxLevels()))
	}
	t.hash, _ = Hash(t.version, p.HashUnsigned, p.HashSeed, name)
	t.f[0] = frame{x: x, at: x.find(t.hash)}
	t.n = 1
	for range levels(b) {
		if x, err = t.child(t.n - 1); err != nil {
			return t, 0, err
		}
		t.f[t.n] = frame{block: t.below(t.n - 1), x: x, at: x.find(t.hash)}
		t.n++
	}
	leafBlock, err = t.target(t.n - 1)
	return t, leafBlock, err
}

func (t *trail) below(j int) uint32 { return t.f[j].x.block(t.f[j].at) }

// target is the block frame j leads to, which must be in the file and not on the way
// to itself.
func (t *trail) target(j int) (uint32, error) {
	b := t.below(j)
	if b == 0 || b >= t.bl.Len() {
		return 0, corruptIndex(t.f[j].block, fmt.Sprintf("index leads to block %d", b))
	}
	for _, f := range t.f[:j+1] {
		if f.block == b {
			return 0, corruptIndex(t.f[j].block, fmt.Sprintf("index leads back to block %d", b))
		}
	}
	return b, nil
}

// child reads the node frame j leads to.
func (t *trail) child(j int) (index, error) {
	i, err := t.target(j)
	if err != nil {
		return index{}, err
	}
	b, err := t.p.raw(t.bl, i)
	if err != nil {
		return index{}, err
	}
	if b == nil || t.p.kindOf(i, b, true) != node {
		return index{}, corruptIndex(i, "is not the node of the index it should be")
	}
	x, bad := t.p.indexOf(b, node)
	if bad != "" {
		return index{}, corruptIndex(i, bad)
	}
	return x, t.p.verify(i, b, node)
}

// next gives the next leaf if it continues the hash looked for: if its own hash is the
// same, with the low bit that marks a continuation. A damaged index cannot make this go
// on for more leaves than the file has blocks.
func (t *trail) next() (leafBlock uint32, ok bool, err error) {
	j := t.n - 1
	for t.f[j].at++; t.f[j].at >= t.f[j].x.count(); t.f[j].at++ {
		if j == 0 {
			return 0, false, nil
		}
		j--
	}
	if t.f[j].x.hash(t.f[j].at)&^1 != t.hash {
		return 0, false, nil
	}
	if t.steps++; t.steps > t.bl.Len() {
		return 0, false, corruptIndex(t.f[j].block, "index leads to one hash endlessly")
	}
	for ; j < t.n-1; j++ {
		x, err := t.child(j)
		if err != nil {
			return 0, false, err
		}
		t.f[j+1] = frame{block: t.below(j), x: x}
	}
	leafBlock, err = t.target(t.n - 1)
	return leafBlock, err == nil, err
}
