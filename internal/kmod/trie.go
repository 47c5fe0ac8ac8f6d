package kmod

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// The binary index files of kmod (libkmod/libkmod-index.c): a trie from keys to
// values. modprobe needs them; it does not read the text files beside them.
//
//	file:  magic, version, root: words (32 bits, big-endian)
//	node:  [prefix NUL]                               if nodePrefix
//	       [first, last: bytes; last-first+1 words]   if nodeChildren
//	       [count: word; count × (priority: word, value NUL)]  if nodeValues
//
// A word that names a node is its offset with the flags on top; 0 is no node.
const (
	indexMagic   = 0xb007f457
	indexVersion = 2<<16 | 1
	nodePrefix   = 0x80000000
	nodeValues   = 0x40000000
	nodeChildren = 0x20000000
)

// entry is a key with one of its values; the lowest priority comes first.
type entry struct {
	key, value string
	priority   uint32
}

// trie returns the index file of entries. A key or value that the format cannot
// hold is left out: a key has ASCII characters other than NUL, a value no NUL.
func trie(entries []entry) []byte {
	entries = slices.DeleteFunc(slices.Clone(entries), func(e entry) bool {
		bad := func(s string, top rune) bool {
			return slices.ContainsFunc([]rune(s), func(r rune) bool { return r == 0 || r > top })
		}
		return bad(e.key, 127) || bad(e.value, 0x10ffff)
	})
	slices.SortStableFunc(entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.priority, b.priority))
	})
	be := binary.BigEndian
	out := be.AppendUint32(nil, indexMagic)
	out = be.AppendUint32(out, indexVersion)
	out = be.AppendUint32(out, 0)
	out, root := appendNode(out, entries, 0)
	be.PutUint32(out[8:], root)
	return out
}

// appendNode appends the node of entries, sorted, whose keys agree in their first
// depth bytes, behind its children, and returns it as a word.
func appendNode(out []byte, entries []entry, depth int) ([]byte, uint32) {
	be := binary.BigEndian
	if len(entries) == 0 { // only the root of an empty file
		return out, uint32(len(out))
	}
	first, last := entries[0].key, entries[len(entries)-1].key
	end := depth
	// The root has no prefix: kmod makes it so.
	for depth > 0 && end < len(first) && end < len(last) && first[end] == last[end] {
		end++
	}
	values := 0
	for values < len(entries) && len(entries[values].key) == end {
		values++
	}
	rest := entries[values:]
	var children []uint32
	for i := 0; i < len(rest); {
		c, from := rest[i].key[end], i
		for i < len(rest) && rest[i].key[end] == c {
			i++
		}
		children = append(children, make([]uint32, int(c)-int(rest[0].key[end])-len(children))...)
		var child uint32
		out, child = appendNode(out, rest[from:i], end+1)
		children = append(children, child)
	}
	node := uint32(len(out))
	if end > depth {
		node |= nodePrefix
		out = append(append(out, first[depth:end]...), 0)
	}
	if len(children) > 0 {
		node |= nodeChildren
		out = append(out, rest[0].key[end], rest[len(rest)-1].key[end])
		for _, c := range children {
			out = be.AppendUint32(out, c)
		}
	}
	if values > 0 {
		node |= nodeValues
		out = be.AppendUint32(out, uint32(values))
		for _, e := range entries[:values] {
			out = be.AppendUint32(out, e.priority)
			out = append(append(out, e.value...), 0)
		}
	}
	return out, node
}
