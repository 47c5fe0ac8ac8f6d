package xattr

import (
	"bytes"
	"errors"
	"maps"
	"testing"
)

// FuzzParse: no bytes make parsing panic, and what decodes and can be encoded comes
// back the same.
func FuzzParse(f *testing.F) {
	attrs := []Attr{sized("user.a", 9), sized("user.\xe9", 0), sized("security.capability", 20),
		sized("trusted.overlay.opaque", 1), {"system.posix_acl_access", testACL}, {"system.posix_acl_default", testACL},
		sized("system.data", 8), sized("gnu.x", 3), sized("system.richacl", 5)}
	for _, room := range []int{0, 96, 352} {
		inode, block, err := Encode(attrs, room, 1024)
		if err != nil {
			continue // room for inline data is missing
		}
		f.Add(inode, block)
	}
	_, block, err := Encode(attrs[:6], 0, 1024)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{}, block)
	f.Fuzz(func(t *testing.T, inode, block []byte) {
		raws, err := ParseInode(inode)
		if err != nil && (raws != nil || !errors.Is(err, ErrCorrupt)) {
			t.Fatal(raws, err)
		}
		more, _, err := ParseBlock(block)
		if err != nil && (more != nil || !errors.Is(err, ErrCorrupt)) {
			t.Fatal(more, err)
		}
		total := 0
		var attrs []Attr
		seen := map[string]bool{}
		for _, r := range append(raws, more...) {
			total += len(r.Value) + len(r.Name) + entrySize
			a, err := Decode(r)
			if err != nil || seen[a.Name] {
				continue
			}
			if isACL(r.Index) {
				if _, err := aclToDisk(a.Value); err != nil {
					continue // readable, but not to be written
				}
			}
			seen[a.Name] = true
			attrs = append(attrs, a)
		}
		if total > len(inode)+len(block) {
			t.Fatalf("%d bytes of attributes from %d and %d", total, len(inode), len(block))
		}
		// The same set fits where it was, if the areas are possible ones.
		room := len(inode)
		if room > 1024 || len(block) != 1024 {
			return
		}
		i2, b2, err := Encode(attrs, room, 1024)
		if err != nil {
			// An odd room, or inline data in a block, may be too little.
			if room%4 == 0 && !errors.Is(err, ErrTooLarge) || room%4 == 0 && !seen["system.data"] {
				t.Fatal(err)
			}
			return
		}
		if got := decodeAll(t, i2, b2); !maps.Equal(got, asMap(attrs)) {
			t.Fatalf("%q, want %q", got, attrs)
		}
		i3, b3, err := Encode(attrs, room, 1024)
		if err != nil || !bytes.Equal(i2, i3) || !bytes.Equal(b2, b3) {
			t.Fatal("not deterministic", err)
		}
	})
}
