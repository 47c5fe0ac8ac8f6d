package dir

import (
	"fmt"

	"banger/ext4/internal/crc"
)

// kind is which of the three forms a block has.
type kind uint8

const (
	leaf kind = iota // entries, and a tail with metadata_csum
	root             // block 0 of an indexed directory
	node             // another block of the index
)

const (
	// ext4_dir_entry_tail: looks like a free entry of 12 bytes with file type 0xde.
	tailLen  = 12
	tailType = 0xde
	// dx_tail: le32 reserved, le32 checksum, after the room for entries of the index.
	dxTailLen = 8

	dotRec = 12 // the record of "." where an index follows
)

// leafEnd is where the entries of a leaf end.
func (p *Params) leafEnd() int {
	if p.Checksums {
		return p.BlockSize - tailLen
	}
	return p.BlockSize
}

// end is where the records of a block end. An index is covered by a record, its tail
// included.
func (p *Params) end(k kind) int {
	if k == leaf {
		return p.leafEnd()
	}
	return p.BlockSize
}

// kindOf tells the form of block i by what lets readers without an index pass over it:
// a root is "." and a ".." with all the rest, a node one free record. Without checksums
// an empty leaf looks like a node; neither has entries.
func (p *Params) kindOf(i uint32, b []byte, indexed bool) kind {
	switch {
	case !indexed:
	case i == 0:
		if p.getRec(b, 0) == dotRec && p.getRec(b, dotRec) == p.BlockSize-dotRec {
			return root
		}
	case le.Uint32(b) == 0 && p.getRec(b, 0) == p.BlockSize:
		return node
	}
	return leaf
}

// read gives block i checked: its size, form and checksum. A hole gives nil.
func (p *Params) read(bl Blocks, i uint32, indexed bool) ([]byte, kind, error) {
	b, err := p.raw(bl, i)
	if b == nil || err != nil {
		return nil, leaf, err
	}
	k := p.kindOf(i, b, indexed)
	return b, k, p.verify(i, b, k)
}

func (p *Params) raw(bl Blocks, i uint32) ([]byte, error) {
	b, err := bl.Read(i)
	if err != nil || b == nil {
		return nil, err
	}
	if len(b) != p.BlockSize {
		return nil, corrupt(i, fmt.Sprintf("has %d bytes, not %d", len(b), p.BlockSize))
	}
	return b, nil
}

// length is the number of blocks, refused where no directory can have as many: i_size
// of a damaged inode must not make a pass over holes endless. Without large_dir the
// kernel reads 32 bits of it.
func (p *Params) length(bl Blocks) (uint32, error) {
	n := bl.Len()
	if n == 0 || n > max(p.maxBlocks(), uint32(1<<32/uint64(p.BlockSize))) {
		return 0, corrupt(0, fmt.Sprintf("the directory has %d blocks", n))
	}
	return n, nil
}

func (p *Params) verify(i uint32, b []byte, k kind) error {
	if !p.Checksums {
		return nil
	}
	if k != leaf {
		x, bad := p.indexOf(b, k)
		if bad != "" {
			return corruptIndex(i, bad)
		}
		if at := x.tail(); le.Uint32(b[at+4:]) != p.indexSum(x) {
			return corruptIndex(i, "checksum of the index is wrong")
		}
		return nil
	}
	t := b[p.BlockSize-tailLen:]
	if le.Uint32(t) != 0 || le.Uint16(t[4:]) != tailLen || t[6] != 0 || t[7] != tailType {
		return corrupt(i, "has no checksum")
	}
	if le.Uint32(t[8:]) != crc.C(p.Seed, b[:p.BlockSize-tailLen]) {
		return corrupt(i, "checksum is wrong")
	}
	return nil
}

// seal brings the tail of a block up to date.
func (p *Params) seal(b []byte, k kind) {
	if !p.Checksums {
		return
	}
	if k != leaf {
		// Callers seal only an index they made or that verify has accepted.
		x, _ := p.indexOf(b, k)
		le.PutUint32(b[x.tail()+4:], p.indexSum(x))
		return
	}
	t := b[p.BlockSize-tailLen:]
	clear(t)
	le.PutUint16(t[4:], tailLen)
	t[7] = tailType
	le.PutUint32(t[8:], crc.C(p.Seed, b[:p.BlockSize-tailLen]))
}

// Init gives the one block of a new directory: "." is self, ".." is parent.
func (p *Params) Init(self, parent uint32) []byte {
	b := make([]byte, p.BlockSize)
	p.dots(b, self, parent, p.leafEnd())
	p.seal(b, leaf)
	return b
}

// Blank gives a further block without entries. lost+found has some, so that e2fsck
// need not allocate when it saves a file.
func (p *Params) Blank() []byte {
	b := make([]byte, p.BlockSize)
	p.blank(b)
	p.seal(b, leaf)
	return b
}

func (p *Params) dots(b []byte, self, parent uint32, end int) {
	p.put(b, 0, dotRec, self, TypeDir, ".")
	p.put(b, dotRec, end-dotRec, parent, TypeDir, "..")
}
