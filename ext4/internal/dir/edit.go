package dir

import (
	"bytes"
	"errors"
	"fmt"
)

var errInode = errors.New("an entry needs an inode")

// Insert adds an entry. It uses the free space of the block the entry belongs to, and
// moves entries together there if that helps. Otherwise a leaf of an index is split, a
// directory of one full block gets an index if Params.Index allows, and any other grows
// by a block. nowIndexed is whether the directory has an index afterwards: if that
// changes, the caller sets EXT4_INDEX_FL. Errors: ErrExist; ErrName; ErrFull, with
// nothing written; *CorruptError, also for a damaged index, which is not edited.
//
// An inode with EXT4_INDEX_FL in a file system without dir_index is to be treated as
// not indexed; its flag must be cleared, because the entry may overwrite the index.
func (p *Params) Insert(bl Blocks, indexed bool, e Entry) (nowIndexed bool, err error) {
	if err := checkName(e.Name); err != nil {
		return indexed, err
	}
	if e.Ino == 0 {
		return indexed, fmt.Errorf("%q: %w", e.Name, errInode)
	}
	n, err := p.length(bl)
	if err != nil {
		return indexed, err
	}
	if indexed {
		return true, p.insertIndexed(bl, e)
	}
	need := recLen(len(e.Name))
	var room place
	for i := range n {
		b, err := p.open(bl, false, i, e.Name)
		if err != nil {
			return false, err
		}
		if room.b != nil || b == nil {
			continue
		}
		if total, _ := p.space(b, need); total >= need {
			room = place{block: i, b: b}
		}
	}
	switch {
	case room.b != nil:
		return false, p.add(bl, room.block, room.b, e)
	case n == 1 && p.Index && p.HashVersion <= HashTEA:
		return true, p.makeIndex(bl, e)
	case n >= p.maxBlocks():
		return false, ErrFull
	}
	b := make([]byte, p.BlockSize)
	p.blank(b)
	p.place(b, e)
	p.seal(b, leaf)
	_, err = bl.Append(b)
	return false, err
}

// open reads a leaf to edit, checks all of it, and refuses a name it has. A hole is nil.
func (p *Params) open(bl Blocks, indexed bool, i uint32, name string) ([]byte, error) {
	b, k, err := p.read(bl, i, indexed)
	if b == nil || err != nil {
		return nil, err
	}
	if k == root || k == node && p.Checksums {
		return nil, corruptIndex(i, "index leads to a block of the index")
	}
	exists := false
	if err := p.scan(i, b, p.leafEnd(), func(d dirent) bool {
		exists = exists || d.is(b, name)
		return true
	}); err != nil {
		return nil, err
	}
	if exists {
		return nil, fmt.Errorf("%q: %w", name, ErrExist)
	}
	return b, nil
}

// add writes a leaf with an entry more; it has room for it.
func (p *Params) add(bl Blocks, i uint32, b []byte, e Entry) error {
	b = bytes.Clone(b)
	p.place(b, e)
	p.seal(b, leaf)
	return bl.Write(i, b)
}

// Remove takes an entry out and returns it. Its space goes to the entry before it in
// the block; the index and the length of the file stay as they are. Errors:
// ErrNotExist; ErrName for "." and ".."; *CorruptError.
func (p *Params) Remove(bl Blocks, indexed bool, name string) (Entry, error) {
	if err := checkName(name); err != nil {
		return Entry{}, err
	}
	w, err := p.locate(bl, indexed, name)
	if err != nil {
		return Entry{}, err
	}
	if w.b == nil {
		return Entry{}, fmt.Errorf("%q: %w", name, ErrNotExist)
	}
	b := bytes.Clone(w.b)
	free(b, w.d)
	if w.prev >= 0 {
		putRec(b, w.prev, p.getRec(b, w.prev)+w.d.rec)
		clear(b[w.d.off:][:direntHead])
	}
	p.seal(b, w.k)
	return Entry{Ino: w.d.ino, Type: w.d.typ, Name: name}, bl.Write(w.block, b)
}

// Set changes the inode and type of an entry; the name may be "..", whose inode
// changes when a directory moves. Errors: ErrNotExist, *CorruptError.
func (p *Params) Set(bl Blocks, indexed bool, name string, ino uint32, typ uint8) error {
	if ino == 0 {
		return fmt.Errorf("%q: %w", name, errInode)
	}
	w, err := p.locate(bl, indexed, name)
	if err != nil {
		return err
	}
	if w.b == nil {
		return fmt.Errorf("%q: %w", name, ErrNotExist)
	}
	b := bytes.Clone(w.b)
	p.setTarget(b, w.d.off, ino, typ)
	p.seal(b, w.k)
	return bl.Write(w.block, b)
}
