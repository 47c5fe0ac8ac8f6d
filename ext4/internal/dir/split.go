package dir

import (
	"bytes"
	"cmp"
	"slices"
)

// insertIndexed adds an entry to a leaf whose range of hashes has its own.
func (p *Params) insertIndexed(bl Blocks, e Entry) error {
	t, first, err := p.probe(bl, e.Name)
	if err != nil {
		return err
	}
	need := recLen(len(e.Name))
	var room, split place
	i, walk, more := first, t, true
	for more {
		b, err := p.open(bl, true, i, e.Name)
		if err != nil {
			return err
		}
		if b == nil {
			return corrupt(i, "index leads to a hole")
		}
		if i == first {
			split = place{block: i, b: b}
		}
		if room.b == nil {
			if total, _ := p.space(b, need); total >= need {
				room = place{block: i, b: b}
			}
		}
		// All leaves that continue the hash are read, for one may have the name.
		if i, more, err = walk.next(); err != nil {
			return err
		}
	}
	if room.b != nil {
		return p.add(bl, room.block, room.b, e)
	}
	return t.split(split, e)
}

// makeIndex turns a full directory of one block into an index with two leaves.
func (p *Params) makeIndex(bl Blocks, e Entry) error {
	old, err := p.raw(bl, 0)
	if err != nil {
		return err
	}
	if old == nil {
		return corrupt(0, "is a hole")
	}
	// The caller has checked the block. If "." is its last record, the second is bad.
	end := p.leafEnd()
	self, _ := p.dirent(old, 0, end)
	parent, bad := p.dirent(old, self.rec, end)
	if bad != "" || !self.is(old, ".") || !parent.is(old, "..") {
		return corrupt(0, `does not begin with "." and ".."`)
	}
	if bl.Len()+2 > p.maxBlocks() {
		return ErrFull
	}
	all := make([]hashed, 0, p.BlockSize/minRec)
	for off := parent.off + parent.rec; off < end; {
		d, _ := p.dirent(old, off, end)
		if d.ino != 0 {
			all = append(all, p.hashed(p.HashVersion, Entry{d.ino, d.typ, string(old[off+direntHead:][:d.name])}))
		}
		off += d.rec
	}
	all = append(all, p.hashed(p.HashVersion, e))
	low, high, hash := p.halves(all)

	r := make([]byte, p.BlockSize)
	p.dots(r, self.ino, parent.ino, p.BlockSize)
	x := p.newIndex(r, root)
	r[rootInfo+4] = p.HashVersion
	for n, b := range [][]byte{low, high} {
		i, err := bl.Append(b)
		if err != nil {
			return err
		}
		x.setCount(n + 1)
		x.set(n, hash, i)
	}
	p.seal(r, root)
	return bl.Write(0, r)
}

type hashed struct {
	hash uint32
	e    Entry
}

func (p *Params) hashed(version uint8, e Entry) hashed {
	h, _ := Hash(version, p.HashUnsigned, p.HashSeed, e.Name)
	return hashed{h, e}
}

// halves makes two sealed leaves of entries that fit one but for a record: by hash,
// about equal in bytes. hash is the one of the second in the index. Each half has at
// most half the bytes and one record more, which any block holds.
func (p *Params) halves(all []hashed) (low, high []byte, hash uint32) {
	slices.SortStableFunc(all, func(a, b hashed) int { return cmp.Compare(a.hash, b.hash) })
	total := 0
	for _, h := range all {
		total += recLen(len(h.e.Name))
	}
	cut, sum := 0, 0
	for cut < len(all)-1 && sum < total/2 {
		sum += recLen(len(all[cut].e.Name))
		cut++
	}
	if hash = all[cut].hash; cut > 0 && all[cut-1].hash == hash {
		hash |= 1 // continues the leaf before
	}
	return p.leafOf(all[:cut]), p.leafOf(all[cut:]), hash
}

func (p *Params) leafOf(all []hashed) []byte {
	b := make([]byte, p.BlockSize)
	p.blank(b)
	off, end := 0, p.leafEnd()
	for n, h := range all {
		rec := recLen(len(h.e.Name))
		if n == len(all)-1 {
			rec = end - off
		}
		p.put(b, off, rec, h.e.Ino, h.e.Type, h.e.Name)
		off += rec
	}
	p.seal(b, leaf)
	return b
}

// split divides a full leaf, the one the trail leads to, and adds an entry.
func (t *trail) split(full place, e Entry) error {
	p := t.p
	var all []hashed
	p.scan(full.block, full.b, p.leafEnd(), func(d dirent) bool { // checked before
		all = append(all, p.hashed(t.version, Entry{d.ino, d.typ, string(full.b[d.off+direntHead:][:d.name])}))
		return true
	})
	all = append(all, p.hashed(t.version, e))
	if len(all) < 2 {
		return corrupt(full.block, "is full without entries")
	}
	if err := t.makeRoom(); err != nil {
		return err
	}
	low, high, hash := p.halves(all)
	i, err := t.bl.Append(high)
	if err != nil {
		return err
	}
	t.insert(t.n-1, hash, i)
	for j := range t.n {
		if err := t.flush(j); err != nil {
			return err
		}
	}
	return t.bl.Write(full.block, low)
}

// makeRoom sees to it that the lowest node of the trail has room for an entry: nodes
// that are full are halved, from the highest with room above down; if the root is full
// too, its entries move to a new node below it. Nothing is written before ErrFull.
func (t *trail) makeRoom() error {
	above := t.n - 1
	for above >= 0 && t.f[above].x.full() {
		above--
	}
	if above < 0 && t.n > t.p.maxLevels() {
		return ErrFull
	}
	more := uint32(t.n - above) // nodes, and the leaf
	if t.bl.Len()+more > t.p.maxBlocks() {
		return ErrFull
	}
	if above < 0 {
		if err := t.grow(); err != nil {
			return err
		}
		above = 1 // a node has room for more entries than a root
	}
	for j := above + 1; j < t.n; j++ {
		if err := t.halve(j); err != nil {
			return err
		}
	}
	return nil
}

// grow puts a node between the root and what is below.
func (t *trail) grow() error {
	t.own(0)
	r := &t.f[0]
	n := r.x.count()
	b := make([]byte, t.p.BlockSize)
	x := t.p.newIndex(b, node)
	x.setCount(n)
	x.set(0, 0, r.x.block(0))
	copy(b[x.first+dxEntry:], r.x.b[r.x.first+dxEntry:r.x.first+n*dxEntry])
	i, err := t.appendNode(x)
	if err != nil {
		return err
	}
	clear(r.x.b[r.x.first+dxEntry : r.x.first+n*dxEntry])
	r.x.setCount(1)
	r.x.set(0, 0, i)
	setLevels(r.x.b, levels(r.x.b)+1)
	copy(t.f[2:t.n+1], t.f[1:t.n])
	t.f[1] = frame{block: i, x: x, at: r.at}
	r.at = 0
	t.n++
	return nil
}

// halve moves the upper half of a full node into a new one, beside it; its parent has
// room for that.
func (t *trail) halve(j int) error {
	t.own(j)
	f := &t.f[j]
	n := f.x.count()
	m := n / 2
	b := make([]byte, t.p.BlockSize)
	x := t.p.newIndex(b, node)
	x.setCount(n - m)
	hash := f.x.hash(m)
	x.set(0, 0, f.x.block(m))
	copy(b[x.first+dxEntry:], f.x.b[f.x.first+(m+1)*dxEntry:f.x.first+n*dxEntry])
	i, err := t.appendNode(x)
	if err != nil {
		return err
	}
	clear(f.x.b[f.x.first+m*dxEntry : f.x.first+n*dxEntry])
	f.x.setCount(m)
	t.insert(j-1, hash, i)
	if f.at < m {
		return nil
	}
	if err := t.flush(j); err != nil {
		return err
	}
	*f = frame{block: i, x: x, at: f.at - m}
	t.f[j-1].at++
	return nil
}

// insert adds an entry to frame j behind the one followed.
func (t *trail) insert(j int, hash, block uint32) {
	t.own(j)
	t.f[j].x.insert(t.f[j].at+1, hash, block)
}

// own makes the block of frame j the trail's to change.
func (t *trail) own(j int) {
	if f := &t.f[j]; !f.owned {
		f.x.b, f.owned = bytes.Clone(f.x.b), true
	}
}

func (t *trail) flush(j int) error {
	f := &t.f[j]
	if !f.owned {
		return nil
	}
	k := node
	if j == 0 {
		k = root
	}
	t.p.seal(f.x.b, k)
	f.owned = false
	return t.bl.Write(f.block, f.x.b)
}

func (t *trail) appendNode(x index) (uint32, error) {
	t.p.seal(x.b, node)
	return t.bl.Append(x.b)
}
