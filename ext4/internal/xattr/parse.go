package xattr

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
)

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}

// ParseInode reads the attributes in an inode. area is the inode from byte
// 128+i_extra_isize to its end; without the magic number there are none. The
// values in the result alias area. The error is ErrCorrupt, with the reason.
func ParseInode(area []byte) ([]Raw, error) {
	if len(area) < magicSize || binary.LittleEndian.Uint32(area) != magic {
		return nil, nil
	}
	// Offsets count from the first entry (struct ext4_xattr_ibody_header).
	return parse(area[magicSize:], 0)
}

// ParseBlock reads an attribute block, which must be whole: values are placed from
// its end. It also gives the number of inodes that share the block, as stored,
// without judging it. The values in the result alias block. Hashes and
// the checksum are not looked at (see VerifyBlockChecksum), and entries may be in any
// order. The error is ErrCorrupt, with the reason.
func ParseBlock(block []byte) (attrs []Raw, refcount uint32, err error) {
	if len(block) < headerSize+endSize {
		return nil, 0, corrupt("a block of %d bytes", len(block))
	}
	if m := binary.LittleEndian.Uint32(block); m != magic {
		return nil, 0, corrupt("magic number %#x in a block", m)
	}
	if n := binary.LittleEndian.Uint32(block[hdrBlocks:]); n != 1 {
		return nil, 0, corrupt("h_blocks is %d", n)
	}
	attrs, err = parse(block, headerSize)
	return attrs, binary.LittleEndian.Uint32(block[hdrRefcount:]), err
}

// parse reads the entries that start at first; offsets of values count from area.
func parse(area []byte, first int) ([]Raw, error) {
	le := binary.LittleEndian
	type span struct{ start, end int }
	var (
		raws  []Raw
		spans []span
		pos   = first
	)
	for {
		if pos+endSize > len(area) {
			return nil, corrupt("no end of the entries")
		}
		if le.Uint32(area[pos:]) == 0 {
			break
		}
		if pos+entrySize > len(area) {
			return nil, corrupt("the entry at %d is cut off", pos)
		}
		e := area[pos : pos+entrySize]
		// The zero word that ends the list must also have room.
		next := pos + entrySize + pad4(int(e[0]))
		if next+endSize > len(area) {
			return nil, corrupt("the entry at %d, with a name of %d bytes, runs past the end", pos, e[0])
		}
		name := area[pos+entrySize:][:e[0]]
		if bytes.IndexByte(name, 0) >= 0 {
			return nil, corrupt("the name at %d has a NUL byte", pos)
		}
		r := Raw{Index: e[1], Name: string(name), ValueInode: le.Uint32(e[4:]), Size: le.Uint32(e[8:]), Hash: le.Uint32(e[12:])}
		if r.Size > maxValue {
			return nil, corrupt("the value of entry %d has %d bytes", len(raws), r.Size)
		}
		if r.ValueInode == 0 {
			r.Value = []byte{}
			if r.Size > 0 {
				start, size := int(le.Uint16(e[2:])), int(r.Size)
				if start+pad4(size) > len(area) {
					return nil, corrupt("the value of entry %d, %d bytes at %d, runs past the end", len(raws), size, start)
				}
				r.Value = area[start : start+size : start+size]
				spans = append(spans, span{start, start + pad4(size)})
			}
		}
		raws = append(raws, r)
		pos = next
	}
	// A byte has one use: what is written to a value must not change another
	// value or an entry. It also bounds the sum of all values by the area.
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.start, b.start) })
	used := pos + endSize
	for _, s := range spans {
		if s.start < used {
			return nil, corrupt("the value at %d overlaps what is before it, up to %d", s.start, used)
		}
		used = s.end
	}
	return raws, nil
}
