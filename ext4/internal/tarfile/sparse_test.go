package tarfile

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// sparseInData is an archive of one sparse file of version 1.0.
func sparseInData() []byte {
	return new(raw).pax('x',
		"GNU.sparse.major", "1", "GNU.sparse.minor", "0",
		"GNU.sparse.name", "real", "GNU.sparse.realsize", "5000",
	).add(rawHeader('0', "GNUSparseFile.0/real", 512+10), inBlocks("3\n0\n4\n1000\n6\n5000\n0\n")+"abcdefghij").end()
}

func inBlocks(s string) string { return s + strings.Repeat("\x00", -len(s)&(blockSize-1)) }

// oldSparseArchive has one file of type 'S' with n regions of 2 bytes, 10 apart.
func oldSparseArchive(n int) []byte {
	h := rawHeader('S', "old", int64(2*n)).gnu()
	copy(h[483:], fmt.Sprintf("%011o\x00", 10*n))
	h[482] = regions(h[386:482], 0, n)
	w := new(raw).add(h, "")
	for at := 4; at < n; at += 21 {
		var b [blockSize]byte
		b[504] = regions(b[:504], at, n)
		w.Write(b[:])
	}
	w.WriteString(inBlocks(strings.Repeat("xy", n)))
	return w.end()
}

// regions writes the regions from at on, and returns whether there are more than
// fit.
func regions(b []byte, at, n int) byte {
	for ; len(b) > 0 && at < n; b, at = b[24:], at+1 {
		copy(b, fmt.Sprintf("%011o\x00%011o\x00", 10*at, 2))
	}
	if at < n {
		return 1
	}
	return 0
}

func TestSparse(t *testing.T) {
	t.Parallel()
	pairs := []string{"GNU.sparse.size", "100", "GNU.sparse.numblocks", "2", "GNU.sparse.unknown", "x",
		"GNU.sparse.offset", "10", "GNU.sparse.numbytes", "2", "GNU.sparse.offset", "12", "GNU.sparse.numbytes", "1"}
	for name, c := range map[string]struct {
		archive []byte
		want    read
	}{
		"0.0": {new(raw).pax('x', pairs...).add(rawHeader('0', "f", 3), "abc").end(),
			read{Entry: Entry{Name: "f", Size: 100, Sparse: []Run{{10, 3}}}, data: []byte("abc")}},
		"0.1": {new(raw).pax('x', "GNU.sparse.size", "100", "GNU.sparse.numblocks", "3", "GNU.sparse.name", "g", "GNU.sparse.map", "0,0,10,2,98,2").
			add(rawHeader('0', "f", 4), "abcd").end(),
			read{Entry: Entry{Name: "g", Size: 100, Sparse: []Run{{10, 2}, {98, 2}}}, data: []byte("abcd")}},
		"1.0": {sparseInData(),
			read{Entry: Entry{Name: "real", Size: 5000, Sparse: []Run{{0, 4}, {1000, 6}}}, data: []byte("abcdefghij")}},
		"one hole": {new(raw).pax('x', "GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.realsize", "7").
			add(rawHeader('0', "f", 512), inBlocks("0\n")).end(),
			read{Entry: Entry{Name: "f", Size: 7, Sparse: []Run{}}}},
		"old hole": {oldSparseArchive(0), read{Entry: Entry{Name: "old", Sparse: []Run{}}}},
		"no map":   {new(raw).pax('x', "GNU.sparse.size", "100").add(rawHeader('0', "f", 3), "abc").end(), read{Entry: Entry{Name: "f", Size: 3}, data: []byte("abc")}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, size := range []int{100, bufSize} {
				all, err := readAll(strings.NewReader(string(c.archive)), size)
				if err != nil || len(all) != 1 {
					t.Fatalf("%d members, %v", len(all), err)
				}
				got := read{Entry: Entry{Name: all[0].Name, Size: all[0].Size, Sparse: all[0].Sparse}, data: all[0].data}
				if !reflect.DeepEqual(got, c.want) {
					t.Errorf("\n got %+v\nwant %+v", got, c.want)
				}
				if _, err := compareWithGo(c.archive, all); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for _, n := range []int{1, 4, 5, 25, 26, 100, 3000} {
		m := mustReadOne(t, oldSparseArchive(n))
		want := make([]Run, n)
		for i := range want {
			want[i] = Run{int64(10 * i), 2}
		}
		if m.Type != TypeReg || m.Size != int64(10*n) || !slices.Equal(m.Sparse, want) || len(m.data) != 2*n {
			t.Errorf("%d old regions: %+v", n, m)
		}
		if compared, err := compareWithGo(oldSparseArchive(n), []read{m}); err != nil || !compared {
			t.Errorf("%d old regions: %v", n, err)
		}
	}
}

func TestBadSparse(t *testing.T) {
	t.Parallel()
	in := func(realSize, size, data string, n int) []byte {
		return new(raw).pax('x', "GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.realsize", realSize, "size", size).
			add(rawHeader('0', "f", 0), inBlocks(data)+strings.Repeat("d", n)).end()
	}
	ext := func(pairs ...string) []byte {
		return new(raw).pax('x', pairs...).add(rawHeader('0', "f", 3), "abc").end()
	}
	old := func(change func(h *header)) []byte {
		h := rawHeader('S', "old", 2).gnu()
		copy(h[483:], "00000000012\x00")
		regions(h[386:482], 0, 1)
		change(h)
		return new(raw).add(h, "xy").end()
	}
	for name, c := range map[string]struct {
		archive []byte
		says    string
	}{
		"version":              {ext("GNU.sparse.major", "2", "GNU.sparse.minor", "0"), "sparse format 2.0 is not known"},
		"half a version":       {ext("GNU.sparse.major", "1"), "is not known"},
		"no size":              {ext("GNU.sparse.map", "0,3", "GNU.sparse.numblocks", "1"), "no record of its size"},
		"no count":             {ext("GNU.sparse.map", "0,3", "GNU.sparse.size", "3"), "has 1 regions"},
		"count":                {ext("GNU.sparse.map", "0,3", "GNU.sparse.size", "3", "GNU.sparse.numblocks", "2"), "has 1 regions, its header says 2"},
		"half a pair":          {ext("GNU.sparse.map", "0,3,3", "GNU.sparse.size", "3", "GNU.sparse.numblocks", "2"), "not a number"},
		"half an offset":       {ext("GNU.sparse.offset", "0", "GNU.sparse.size", "3", "GNU.sparse.numblocks", "1"), "has no numbytes"},
		"two offsets":          {ext("GNU.sparse.offset", "0", "GNU.sparse.offset", "0"), "an offset without its numbytes"},
		"offset":               {ext("GNU.sparse.offset", ""), `pax record "GNU.sparse.offset": not a number`},
		"numbytes":             {ext("GNU.sparse.offset", "0", "GNU.sparse.numbytes", "x"), `pax record "GNU.sparse.numbytes": not a number`},
		"no offset":            {ext("GNU.sparse.numbytes", "0"), "no offset is before it"},
		"less data":            {ext("GNU.sparse.map", "0,4", "GNU.sparse.size", "4", "GNU.sparse.numblocks", "1"), "has 4 bytes of data, the member 3"},
		"beyond the size":      {ext("GNU.sparse.map", "1,3", "GNU.sparse.size", "3", "GNU.sparse.numblocks", "1"), "has 3 bytes at 1 of a file of 3"},
		"overflow":             {ext("GNU.sparse.map", "9223372036854775807,3", "GNU.sparse.size", "9223372036854775807", "GNU.sparse.numblocks", "1"), "has 3 bytes at 9223372036854775807"},
		"negative":             {ext("GNU.sparse.map", "-1,3", "GNU.sparse.size", "3", "GNU.sparse.numblocks", "1"), "has 3 bytes at -1"},
		"overlap":              {ext("GNU.sparse.map", "0,2,1,1", "GNU.sparse.size", "3", "GNU.sparse.numblocks", "2"), "before the end of the region in front of it, 2"},
		"unsorted":             {ext("GNU.sparse.map", "2,1,0,2", "GNU.sparse.size", "3", "GNU.sparse.numblocks", "2"), "before the end"},
		"of a directory":       {new(raw).pax('x', "GNU.sparse.map", "0,0", "GNU.sparse.size", "3", "GNU.sparse.numblocks", "1").add(rawHeader('5', "d", 0), "").end(), `of type '5' has a sparse map`},
		"map in data":          {in("3", "512", "x\n", 0), "not a number"},
		"empty number":         {in("3", "512", "\n", 0), "not a number"},
		"large number":         {in("3", "512", "9223372036854775808\n", 0), "out of range"},
		"many regions":         {in("3", "512", "1048577\n", 0), "above the limit of 1048576"},
		"endless map":          {in("3", "1024", "2\n"+strings.Repeat("0", 1022), 0), "does not end within the member's data"},
		"no room for a map":    {in("3", "511", "0\n", 0), "does not end within the member's data"},
		"more data":            {in("3", "516", "1\n0\n3\n", 4), "has 3 bytes of data, the member 4"},
		"old without magic":    {old(func(h *header) { copy(h[257:], "ustar\x0000") }), "has no GNU header"},
		"old size":             {old(func(h *header) { base256(h[483:495], -1) }), "the size of a sparse file"},
		"old offset":           {old(func(h *header) { h[386] = 'x' }), "the sparse map: not a number"},
		"old length":           {old(func(h *header) { h[400] = 'x' }), "the sparse map: not a number"},
		"old, less data":       {old(func(h *header) { copy(h[124:], "00000000003\x00") }), "has 2 bytes of data, the member 3"},
		"old, its map gone on": {old(func(h *header) { h[482] = 1; copy(h[124:], "00000000001\x00") }), "the sparse map"},
	} {
		t.Log(name)
		wantErr(t, c.archive, ErrFormat, c.says)
	}
}

// The map's bound holds where nothing else ends it.
func TestOldSparseIsBounded(t *testing.T) {
	t.Parallel()
	h := rawHeader('S', "old", 0).gnu()
	h[482] = 1
	var b [blockSize]byte
	for at := 0; at < 504; at += 12 {
		copy(b[at:], "00000000000\x00")
	}
	b[504] = 1
	archive := append(h.sum()[:], bytes.Repeat(b[:], maxRuns/21+1)...)
	wantErr(t, archive, ErrFormat, "more than 1048576 regions")
}
