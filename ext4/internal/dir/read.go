package dir

import (
	"errors"
	"io/fs"
)

// Walk calls yield for every entry, "." and ".." included, in the order of the file,
// with the block that has it. indexed says that the inode has EXT4_INDEX_FL and the
// file system dir_index. An error of yield ends the pass and is returned, but
// fs.SkipAll as nil.
//
// The checksum and the records of a block are checked before its entries are yielded.
// The first *CorruptError ends the pass, also that of a name with a slash or a zero
// byte, which is not yielded. Damage of the index alone loses no names: it is
// returned after all of them. Holes are passed over. Whether inode numbers are in range
// and names unique is not checked here. The work is linear in the size of the file.
//
// The names of one block share memory: one kept alive keeps as much as a block.
func (p *Params) Walk(bl Blocks, indexed bool, yield func(block uint32, e Entry) error) error {
	n, err := p.length(bl)
	if err != nil {
		return err
	}
	var damage error
	for i := range n {
		b, k, err := p.read(bl, i, indexed)
		if onlyIndex(err) {
			damage = errors.Join(damage, err)
		} else if err != nil {
			return err
		}
		if b == nil || k == node {
			continue
		}
		if err := p.walkBlock(i, b, p.end(k), yield); err == fs.SkipAll {
			return nil
		} else if err != nil {
			return err
		}
	}
	return damage
}

func (p *Params) walkBlock(i uint32, b []byte, end int, yield func(block uint32, e Entry) error) error {
	last := 0
	err := p.scan(i, b, end, func(d dirent) bool { last = d.off + direntHead + d.name; return true })
	if err != nil || last == 0 {
		return err
	}
	// One string for the block instead of one for each name. It ends with the last.
	names := string(b[:last])
	for off := 0; off < last; {
		d, _ := p.dirent(b, off, end)
		off += d.rec
		if d.ino == 0 {
			continue
		}
		name := names[d.off+direntHead:][:d.name]
		if !plain(name) {
			return corrupt(i, "name has a slash or a zero byte")
		}
		if err := yield(i, Entry{Ino: d.ino, Type: d.typ, Name: name}); err != nil {
			return err
		}
	}
	return nil
}

// Empty says whether the directory has no entries but "." and "..".
func (p *Params) Empty(bl Blocks, indexed bool) (bool, error) {
	empty := true
	err := p.Walk(bl, indexed, func(_ uint32, e Entry) error {
		if isDot(e.Name) {
			return nil
		}
		empty = false
		return fs.SkipAll
	})
	return empty && err == nil, err
}

// Lookup finds a name, through the index where there is one. If the index is damaged
// or has an unknown hash version, the whole file is searched. A name no entry may have
// is not found. "." and ".." are looked for in block 0 only, as the kernel does.
func (p *Params) Lookup(bl Blocks, indexed bool, name string) (Entry, bool, error) {
	w, err := p.locate(bl, indexed, name)
	if err != nil || w.b == nil {
		return Entry{}, false, err
	}
	return Entry{Ino: w.d.ino, Type: w.d.typ, Name: name}, true, nil
}

// place is where an entry is.
type place struct {
	block uint32
	b     []byte // nil: nowhere
	k     kind
	d     dirent
	prev  int // offset of the record before it in the block, or -1
}

func (p *Params) locate(bl Blocks, indexed bool, name string) (place, error) {
	n, err := p.length(bl)
	if err != nil {
		return place{}, err
	}
	if isDot(name) {
		return p.search(bl, indexed, 0, name)
	}
	if checkName(name) != nil {
		return place{}, nil
	}
	if indexed {
		w, err := p.locateIndexed(bl, name)
		if !onlyIndex(err) {
			return w, err
		}
	}
	for i := range n {
		w, err := p.search(bl, indexed, i, name)
		if err != nil && !onlyIndex(err) || w.b != nil {
			return w, err
		}
	}
	return place{}, nil
}

func (p *Params) locateIndexed(bl Blocks, name string) (place, error) {
	t, i, err := p.probe(bl, name)
	for more := true; more && err == nil; i, more, err = t.next() {
		if w, err := p.search(bl, true, i, name); err != nil || w.b != nil {
			return w, err
		}
	}
	return place{}, err
}

// search looks for a name in one block. It stops at the name, so what comes after is
// not checked: with checksums there is no need, without them the kernel does the same.
func (p *Params) search(bl Blocks, indexed bool, i uint32, name string) (place, error) {
	b, k, err := p.read(bl, i, indexed)
	if b == nil || k == node || err != nil {
		return place{}, err
	}
	found, prev := place{}, -1
	end := p.end(k)
	for off := 0; off < end; {
		d, bad := p.dirent(b, off, end)
		if bad != "" {
			return place{}, corrupt(i, bad)
		}
		if d.is(b, name) {
			found = place{block: i, b: b, k: k, d: d, prev: prev}
			break
		}
		prev = off
		off += d.rec
	}
	return found, nil
}
