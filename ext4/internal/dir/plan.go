package dir

import (
	"fmt"
	"slices"
)

// Plan is the layout of a directory built at once. It holds on to the entries it was
// made of: their inodes and types are read only when blocks are made, their names and
// order must not change.
type Plan struct {
	Self, Parent uint32 // inodes of "." and "..", to be set before blocks are made
	Seed         uint32 // see Params.Seed, from which it is taken; may be set later

	p       Params
	entries []Entry
	order   []uint64 // hash<<32 | place in entries, ascending by hash; nil: as given
	leaves  []int    // place in the order of each leaf's first entry, then their count
	nodes   []int    // blocks of each level of nodes, the highest first
	indexed bool
}

// Plan lays out a directory with these entries, which do not include "." and "..".
// What fits one block becomes that. Else, with index, the entries go into leaves by
// hash under an index; if that would have more levels than the file system allows, and
// without index, they go into blocks as given.
//
// fill is how much of each leaf and node is used, in percent: 100 for an image that is
// only read, less to leave room for names to come; 0 means 100, and one block is always
// filled. Errors: ErrExist for a name given twice, ErrName, ErrFull above 2 GiB without
// large_dir. The work is n log n at worst, and near linear with spread hashes.
func (p *Params) Plan(entries []Entry, index bool, fill int) (*Plan, error) {
	if fill <= 0 || fill > 100 {
		fill = 100
	}
	pl := &Plan{Seed: p.Seed, p: *p, entries: entries}
	total := 0
	for i := range entries {
		if err := checkName(entries[i].Name); err != nil {
			return nil, err
		}
		total += recLen(len(entries[i].Name))
	}
	version := p.HashVersion
	if version > HashTEA {
		index, version = false, HashHalfMD4 // only to find names given twice
	}
	order := p.order(entries, version)
	if err := unique(entries, order); err != nil {
		return nil, err
	}
	end := p.leafEnd()
	if total <= end-2*dotRec {
		pl.leaves = []int{0, len(entries)}
		return pl, nil
	}
	if index {
		pl.order, pl.leaves = order, nil
		for _, fill := range []int{fill, 100} {
			pl.cut(0, end*fill/100)
			if pl.indexed = pl.level(fill); pl.indexed {
				break
			}
		}
	}
	if !pl.indexed {
		pl.order, pl.nodes = nil, nil
		pl.cut(2*dotRec, end*fill/100)
	}
	if uint64(pl.first())+uint64(len(pl.leaves)-1) > uint64(p.maxBlocks()) {
		return nil, ErrFull
	}
	return pl, nil
}

// cut fills leaves up to a number of bytes each; the first has some already.
func (pl *Plan) cut(used, most int) {
	pl.leaves = append(pl.leaves[:0], 0)
	for i := range pl.entries {
		rec := recLen(len(pl.at(i).Name))
		if used+rec > most && used > 0 {
			pl.leaves = append(pl.leaves, i)
			used = 0
		}
		used += rec
	}
	pl.leaves = append(pl.leaves, len(pl.entries))
}

// level finds how many nodes the index needs. It says false if that is too many.
func (pl *Plan) level(fill int) bool {
	pl.nodes = nil
	per := max(2, pl.p.limitOf(node)*fill/100)
	n := len(pl.leaves) - 1
	for n > pl.p.limitOf(root) {
		n = (n + per - 1) / per
		pl.nodes = append([]int{n}, pl.nodes...)
	}
	return len(pl.nodes) <= pl.p.maxLevels()
}

// at is the entry at a place of the order.
func (pl *Plan) at(i int) *Entry {
	if pl.order != nil {
		i = int(uint32(pl.order[i]))
	}
	return &pl.entries[i]
}

// Indexed says that the directory has an index: its inode gets EXT4_INDEX_FL.
func (pl *Plan) Indexed() bool { return pl.indexed }

// Blocks is the length of the file.
func (pl *Plan) Blocks() uint32 { return uint32(pl.first() + len(pl.leaves) - 1) }

// first is the block of the first leaf: root and nodes, by level, come before.
func (pl *Plan) first() int {
	if !pl.indexed {
		return 0
	}
	n := 1
	for _, m := range pl.nodes {
		n += m
	}
	return n
}

// Write makes all blocks in order. b is used again after emit returns.
func (pl *Plan) Write(emit func(i uint32, b []byte) error) error {
	b := make([]byte, pl.p.BlockSize)
	for i := range pl.Blocks() {
		if err := pl.Block(i, b); err != nil {
			return err
		}
		if err := emit(i, b); err != nil {
			return err
		}
	}
	return nil
}

// Block makes block i in b, which has BlockSize bytes of any content. Blocks may be
// made in any order, and at the same time. An entry without an inode is an error.
func (pl *Plan) Block(i uint32, b []byte) error {
	p := pl.p
	p.Seed = pl.Seed
	if pl.Self == 0 || pl.Parent == 0 {
		return errInode
	}
	clear(b)
	k := leaf
	if first := pl.first(); int(i) >= first {
		if err := pl.leaf(b, int(i)-first); err != nil {
			return err
		}
	} else if k = node; i == 0 {
		k = root
		p.dots(b, pl.Self, pl.Parent, p.BlockSize)
		x := p.newIndex(b, root)
		b[rootInfo+4] = p.HashVersion
		setLevels(b, len(pl.nodes))
		pl.children(x, 0, 0, 1)
	} else {
		level, n := 0, int(i)-1
		for ; n >= pl.nodes[level]; level++ {
			n -= pl.nodes[level]
		}
		pl.children(p.newIndex(b, node), level+1, n, pl.nodes[level])
	}
	p.seal(b, k)
	return nil
}

// children fills a node, the n-th of those of a level, with its share of the blocks of
// the level below; levels count from the highest below the root, the leaves last.
func (pl *Plan) children(x index, level, n, of int) {
	base, count := 1, 0
	for _, m := range pl.nodes[:level] {
		base += m
	}
	if count = len(pl.leaves) - 1; level < len(pl.nodes) {
		count = pl.nodes[level]
	}
	from, to := share(n, count, of), share(n+1, count, of)
	x.setCount(to - from)
	for c := from; c < to; c++ {
		x.set(c-from, pl.least(level, c), uint32(base+c))
	}
}

// share is where the n-th of parts begins when count things are dealt out evenly.
func share(n, count, parts int) int { return int(int64(n) * int64(count) / int64(parts)) }

// least is the hash an index has for a block: of its first entry, marked if the entry
// before has the same.
func (pl *Plan) least(level, c int) uint32 {
	for ; level < len(pl.nodes); level++ {
		below := len(pl.leaves) - 1
		if level+1 < len(pl.nodes) {
			below = pl.nodes[level+1]
		}
		c = share(c, below, pl.nodes[level])
	}
	if c == 0 {
		return 0
	}
	i := pl.leaves[c]
	hash := uint32(pl.order[i] >> 32)
	if uint32(pl.order[i-1]>>32) == hash {
		hash |= 1
	}
	return hash
}

func (pl *Plan) leaf(b []byte, c int) error {
	p, off, end, last := &pl.p, 0, pl.p.leafEnd(), 0
	if c == 0 && !pl.indexed {
		p.dots(b, pl.Self, pl.Parent, 2*dotRec)
		off, last = 2*dotRec, dotRec
	}
	for i := pl.leaves[c]; i < pl.leaves[c+1]; i++ {
		e := pl.at(i)
		if e.Ino == 0 {
			return fmt.Errorf("%q: %w", e.Name, errInode)
		}
		rec := recLen(len(e.Name))
		p.put(b, off, rec, e.Ino, e.Type, e.Name)
		last = off
		off += rec
	}
	putRec(b, last, end-last)
	return nil
}

// order gives hash<<32 | place for all entries, ascending.
func (p *Params) order(entries []Entry, version uint8) []uint64 {
	order := make([]uint64, len(entries))
	for i := range entries {
		h, _ := Hash(version, p.HashUnsigned, p.HashSeed, entries[i].Name)
		order[i] = uint64(h)<<32 | uint64(uint32(i))
	}
	if len(order) < 512 {
		slices.Sort(order)
		return order
	}
	// The places ascend already: three stable passes over the 31 bits of the hash.
	const width = 11
	from, to := order, make([]uint64, len(order))
	for shift := 32; shift < 64; shift += width {
		var start [1 << width]int
		for _, v := range from {
			start[v>>shift&(1<<width-1)]++
		}
		sum := 0
		for i, n := range start {
			start[i], sum = sum, sum+n
		}
		for _, v := range from {
			s := &start[v>>shift&(1<<width-1)]
			to[*s] = v
			*s++
		}
		from, to = to, from
	}
	return from
}

// unique refuses a name given twice: only among equal hashes can there be one.
func unique(entries []Entry, order []uint64) error {
	for i := 0; i < len(order); {
		j := i + 1
		for j < len(order) && order[j]>>32 == order[i]>>32 {
			j++
		}
		if j-i > 1 {
			names := make([]string, 0, j-i)
			for _, v := range order[i:j] {
				names = append(names, entries[uint32(v)].Name)
			}
			slices.Sort(names)
			for k := range names[1:] {
				if names[k] == names[k+1] {
					return fmt.Errorf("%q is given twice: %w", names[k], ErrExist)
				}
			}
		}
		i = j
	}
	return nil
}
