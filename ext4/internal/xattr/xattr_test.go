package xattr

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// decodeAll reads an encoded pair back, and fails on a name that is there twice.
func decodeAll(t testing.TB, inode, block []byte) map[string]string {
	t.Helper()
	raws, err := ParseInode(inode)
	if err != nil {
		t.Fatal("inode:", err)
	}
	if block != nil {
		more, refs, err := ParseBlock(block)
		if err != nil || refs != 1 {
			t.Fatalf("block: %d references, %v", refs, err)
		}
		if !sorted(more) {
			t.Fatalf("a block out of order: %v", more)
		}
		raws = append(raws, more...)
	}
	got := map[string]string{}
	for _, r := range raws {
		a, err := Decode(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := got[a.Name]; twice {
			t.Fatalf("%q twice", a.Name)
		}
		got[a.Name] = string(a.Value)
	}
	return got
}

func sorted(raws []Raw) bool {
	return slices.IsSortedFunc(raws, func(a, b Raw) int {
		return compareItems(item{index: a.Index, name: a.Name}, item{index: b.Index, name: b.Name})
	})
}

func asMap(attrs []Attr) map[string]string {
	m := map[string]string{}
	for _, a := range attrs {
		m[a.Name] = string(a.Value)
	}
	return m
}

// roundTrip encodes and decodes, and says what was used.
func roundTrip(t testing.TB, attrs []Attr, room, blockSize int) (inode, block []byte) {
	t.Helper()
	inode, block, err := Encode(attrs, room, blockSize)
	if err != nil {
		t.Fatal(err)
	}
	if inode != nil && len(inode) != room || block != nil && len(block) != blockSize {
		t.Fatalf("%d bytes for the inode, %d for the block", len(inode), len(block))
	}
	if got, want := decodeAll(t, inode, block), asMap(attrs); !maps.Equal(got, want) {
		t.Fatalf("got %q\nwant %q", got, want)
	}
	return inode, block
}

func sized(name string, n int) Attr { return Attr{name, bytes.Repeat([]byte{'v'}, n)} }

func TestEdges(t *testing.T) {
	// An attribute "user.x" costs 20 bytes and its value; a room of 96 holds 88, a
	// block of 1024 has 988.
	for _, c := range []struct {
		name         string
		attrs        []Attr
		room         int
		inode, block bool
		fails        bool
	}{
		{"nothing", nil, 96, false, false, false},
		{"empty value", []Attr{{"user.x", nil}}, 96, true, false, false},
		{"inode full", []Attr{sized("user.x", 68)}, 96, true, false, false},
		{"inode full, padded", []Attr{sized("user.x", 65)}, 96, true, false, false},
		{"one byte over", []Attr{sized("user.x", 69)}, 96, false, true, false},
		{"odd room", []Attr{sized("user.x", 68)}, 99, true, false, false},
		{"odd room, one over", []Attr{sized("user.x", 69)}, 99, false, true, false},
		{"smallest room", []Attr{{"user.x", nil}}, 28, true, false, false},
		{"room too small", []Attr{{"user.x", nil}}, 27, false, true, false},
		{"no room", []Attr{{"user.x", nil}}, 0, false, true, false},
		{"block full", []Attr{sized("user.x", 968)}, 96, false, true, false},
		{"block over", []Attr{sized("user.x", 969)}, 96, false, false, true},
		{"both full", []Attr{sized("user.x", 968), sized("user.y", 68)}, 96, true, true, false},
		{"both full, one over", []Attr{sized("user.x", 968), sized("user.y", 69)}, 96, false, false, true},
		{"block full, no room", []Attr{sized("user.x", 968), {"user.y", nil}}, 8, false, false, true},
		// Greed puts user.a in the inode and leaves 1000 for the block.
		{"needs the better split", []Attr{sized("user.a", 24), sized("user.b", 68), sized("user.c", 892)}, 96, true, true, false},
		{"longest name", []Attr{sized("user."+strings.Repeat("n", 255), 9)}, 96, false, true, false},
		{"inline data", []Attr{sized("system.data", 64), sized("security.capability", 20)}, 96, true, true, false},
		{"too much inline data", []Attr{sized("system.data", 69)}, 96, false, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.fails {
				inode, block, err := Encode(c.attrs, c.room, 1024)
				if !errors.Is(err, ErrTooLarge) || inode != nil || block != nil {
					t.Fatalf("%d %d %v", len(inode), len(block), err)
				}
				if last := c.attrs[len(c.attrs)-1].Name; !strings.Contains(err.Error(), last) {
					t.Errorf("%v, without %s", err, last)
				}
				return
			}
			inode, block := roundTrip(t, c.attrs, c.room, 1024)
			if (inode != nil) != c.inode || (block != nil) != c.block {
				t.Errorf("inode %v, block %v", inode != nil, block != nil)
			}
		})
	}
}

func TestLargeBlock(t *testing.T) {
	roundTrip(t, []Attr{sized("user.x", 65536-headerSize-endSize-20), sized("user.y", 3000)}, 4096-160, 65536)
}

func TestManySmall(t *testing.T) {
	var attrs []Attr
	for i := range 80 {
		attrs = append(attrs, Attr{fmt.Sprintf("user.%s%d", strings.Repeat("k", i%7), i), fmt.Appendf(nil, "v%d", i)})
	}
	inode, block := roundTrip(t, attrs, 96, 4096)
	for range 5 {
		rand.Shuffle(len(attrs), func(i, j int) { attrs[i], attrs[j] = attrs[j], attrs[i] })
		i2, b2, err := Encode(attrs, 96, 4096)
		if err != nil || !bytes.Equal(inode, i2) || !bytes.Equal(block, b2) {
			t.Fatal("the result depends on the order:", err)
		}
	}
}

// What the kernel reads by itself is to be in the inode.
func TestPreferred(t *testing.T) {
	attrs := []Attr{sized("user.a", 30), sized("trusted.b", 30), sized("security.capability", 20),
		{"system.posix_acl_access", testACL}, sized("security.ima", 12)}
	inode, _ := roundTrip(t, attrs, 104, 4096)
	in := decodeAll(t, inode, nil)
	if in["security.capability"] == "" || in["system.posix_acl_access"] == "" || len(in) != 2 {
		t.Errorf("in the inode: %q", in)
	}
}

// The split is compared with all splits.
func TestSplitIsComplete(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		var its []item
		total := 0
		for i := range 1 + r.IntN(8) {
			it := item{name: string(rune('a' + i)), value: make([]byte, r.IntN(60)), wanted: 1 + r.IntN(3)}
			if i == 0 && r.IntN(3) == 0 {
				it.wanted = 0
			}
			its = append(its, it)
			total += it.cost()
		}
		inRoom := 4 * r.IntN(total/4+1)
		outRoom := max(0, total-inRoom+4*(r.IntN(12)-4))
		possible := false
		for set := range 1 << len(its) {
			in, ok := 0, true
			for i := range its {
				if set>>i&1 != 0 {
					in += its[i].cost()
				} else if its[i].wanted == 0 {
					ok = false
				}
			}
			possible = possible || ok && in <= inRoom && total-in <= outRoom
		}
		in, out, err := split(its, inRoom, outRoom)
		if (err == nil) != possible {
			t.Fatalf("possible %v, split says %v", possible, err)
		}
		if err != nil {
			continue
		}
		sum := func(its []item) (n int) {
			for i := range its {
				n += its[i].cost()
			}
			return n
		}
		if len(in)+len(out) != len(its) || sum(in) > inRoom || sum(out) > outRoom {
			t.Fatalf("%d of %d in the inode, %d of %d in the block", sum(in), inRoom, sum(out), outRoom)
		}
	}
}

func TestNames(t *testing.T) {
	for _, name := range []string{"", "x", "user", "user.", "nfs.x", "system.", "user.a\x00b", "USER.x",
		"lustre.lov", "user." + strings.Repeat("n", 256)} {
		if _, _, err := Encode([]Attr{{name, nil}}, 96, 1024); !errors.Is(err, ErrName) {
			t.Errorf("%.20q: %v", name, err)
		}
	}
	twice := []Attr{{"user.a", nil}, {"user.b", nil}, {"user.a", []byte{1}}}
	if _, _, err := Encode(twice, 96, 1024); !errors.Is(err, ErrName) || !strings.Contains(err.Error(), "user.a") {
		t.Error(err)
	}
	for _, name := range []string{"user.x", "user.\xff\xfe", "trusted.overlay.opaque", "security.selinux",
		"system.data", "system.posix_acl_accessory", "system.richacl", "system.richaclx", "gnu.translator"} {
		roundTrip(t, []Attr{{name, []byte("v")}}, 96, 1024)
	}
	for _, r := range []Raw{{Index: 0, Name: "a"}, {Index: IndexLustre, Name: "a"}, {Index: IndexEncryption, Name: "c"},
		{Index: 77}, {Index: IndexUser}, {Index: IndexACLAccess, Name: "x"}, {Index: IndexRichACL, Name: "x"},
		{Index: IndexSystem, Name: "posix_acl_access"}, {Index: IndexSystem, Name: "richacl"}} {
		if a, err := Decode(r); !errors.Is(err, ErrName) {
			t.Errorf("%v: %v %v", r, a, err)
		}
	}
	if _, err := Decode(Raw{Index: 1, Name: "x", ValueInode: 12, Size: 5}); !errors.Is(err, ErrNotFetched) {
		t.Error(err)
	}
	a, err := Decode(Raw{Index: 1, Name: "x", ValueInode: 12, Size: 2, Value: []byte("hi")})
	if err != nil || a.Name != "user.x" || string(a.Value) != "hi" {
		t.Error(a, err)
	}
}

func TestBadArguments(t *testing.T) {
	for _, c := range [][2]int{{96, 0}, {96, 512}, {96, 1025}, {96, 131072}, {-1, 1024}, {2048, 1024}} {
		if _, _, err := Encode(nil, c[0], c[1]); err == nil {
			t.Errorf("no error for %v", c)
		}
	}
}

func TestChecksum(t *testing.T) {
	_, block := roundTrip(t, []Attr{sized("user.x", 500)}, 0, 1024)
	SetBlockChecksum(block, 0x1234, 77)
	SetRefcount(block, 3)
	if VerifyBlockChecksum(block, 0x1234, 77) {
		t.Error("right after a change")
	}
	SetBlockChecksum(block, 0x1234, 77)
	if !VerifyBlockChecksum(block, 0x1234, 77) || VerifyBlockChecksum(block, 0x1234, 78) ||
		VerifyBlockChecksum(block, 0x1235, 77) || VerifyBlockChecksum(block[:31], 0x1234, 77) {
		t.Error("wrong answers")
	}
	if _, refs, err := ParseBlock(block); refs != 3 || err != nil {
		t.Error(refs, err)
	}
}

func TestCorrupt(t *testing.T) {
	_, good, err := Encode([]Attr{sized("user.a", 9), sized("user.bc", 10)}, 0, 1024)
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	second := headerSize + 20
	for _, c := range []struct {
		reason string
		change func(b []byte)
	}{
		{"magic", func(b []byte) { b[0]++ }},
		{"h_blocks", func(b []byte) { b[8]++ }},
		{"runs past the end", func(b []byte) { le.PutUint16(b[headerSize+2:], 1020) }},
		{"overlaps", func(b []byte) { copy(b[second+2:second+4], b[headerSize+2:]) }},
		{"overlaps", func(b []byte) { le.PutUint16(b[headerSize+2:], uint16(second)) }},
		{"overlaps", func(b []byte) { le.PutUint16(b[headerSize+2:], 0) }},
		// The word that ends the entries is theirs.
		{"overlaps", func(b []byte) { le.PutUint16(b[headerSize+2:], uint16(second+20)) }},
		{"has 4294967295 bytes", func(b []byte) { le.PutUint32(b[headerSize+8:], 1<<32-1) }},
		{"runs past the end", func(b []byte) { le.PutUint32(b[headerSize+8:], 1<<24) }},
		{"NUL", func(b []byte) { b[headerSize+entrySize] = 0 }},
		{"runs past the end", func(b []byte) {
			for i := headerSize; i < len(b); i += entrySize {
				copy(b[i:], "\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
			}
		}},
	} {
		b := bytes.Clone(good)
		c.change(b)
		if _, _, err := ParseBlock(b); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%v, want %q", err, c.reason)
		}
	}
	inode, _, err := Encode([]Attr{sized("user.a", 68)}, 96, 1024)
	if err != nil {
		t.Fatal(err)
	}
	if raws, err := ParseInode(inode); len(raws) != 1 || err != nil {
		t.Error(raws, err)
	}
	for n := range inode { // any cut is an error, or too short for a magic number
		if raws, err := ParseInode(inode[:n]); len(raws) != 0 || n >= magicSize && !errors.Is(err, ErrCorrupt) {
			t.Errorf("cut to %d: %v %v", n, raws, err)
		}
	}
	for n := range good[:headerSize+endSize] {
		if _, _, err := ParseBlock(good[:n]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("cut to %d: %v", n, err)
		}
	}
	if raws, err := ParseInode(make([]byte, 96)); raws != nil || err != nil {
		t.Error(raws, err)
	}
}

// Entries whose values stay in inodes of their own keep what they had, beside others.
func TestEncodeKeeping(t *testing.T) {
	t.Parallel()
	kept := []Raw{
		{Index: IndexUser, Name: "far", ValueInode: 77, Size: 60_000, Hash: 0x12345678},
		{Index: IndexTrusted, Name: "zero", ValueInode: 78, Size: 5, Hash: 0},
	}
	for _, room := range []int{0, 60, 200} {
		in, block, err := EncodeKeeping([]Attr{sized("user.a", 9), sized("user.b", 500)}, kept, room, 1024)
		if err != nil {
			t.Fatal(err)
		}
		raws, err := ParseInode(in)
		if err != nil {
			t.Fatal(err)
		}
		more, _, err := ParseBlock(block)
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for _, r := range append(raws, more...) {
			for _, k := range kept {
				if r.Index == k.Index && r.Name == k.Name && r.ValueInode == k.ValueInode && r.Size == k.Size && r.Hash == k.Hash {
					found++
				}
			}
		}
		if found != 2 || len(raws)+len(more) != 4 {
			t.Errorf("%d bytes of room: %+v, %+v", room, raws, more)
		}
	}
	if _, _, err := EncodeKeeping([]Attr{sized("user.far", 1)}, kept, 0, 1024); !errors.Is(err, ErrName) {
		t.Error(err)
	}
	if _, _, err := EncodeKeeping(nil, []Raw{{Index: IndexLustre, Name: "a", ValueInode: 1}}, 0, 1024); !errors.Is(err, ErrName) {
		t.Error(err)
	}
}
