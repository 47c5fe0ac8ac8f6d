package layers_test

import (
	"archive/tar"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
)

// tarImages say the same in all the ways that tar has, or should not have.
func tarImages(t testing.TB) map[string]image {
	all := map[string]image{
		"ustar": one(file("f", "1").as(tar.FormatUSTAR), dir("d").as(tar.FormatUSTAR), symlink("s", "f").as(tar.FormatUSTAR), hard("h", "f").as(tar.FormatUSTAR), fifo("p").as(tar.FormatUSTAR)),
		"gnu":   one(file("f", "1").as(tar.FormatGNU).chown(1<<31, 1<<30), file("neg", "").as(tar.FormatGNU).at(-5, 0), device(tar.TypeChar, "c", 1, 3).as(tar.FormatGNU)),
		"v7":    one(verbatim("f", joined(block{name: "f", magic: "v7", mode: 0o644, size: 4}.bytes(), padded([]byte("data")))), verbatim("d/", block{name: "d/", magic: "v7", mode: 0o755}.bytes()), verbatim("l", block{name: "l", magic: "v7", link: "f", flag: '1'}.bytes()), verbatim("s", block{name: "s", magic: "v7", link: "f", flag: '2', mode: 0o777}.bytes())),
		"records win": one(verbatim("f", joined(paxHeader('x', "path", "right", "uid", "70000", "gid", "4294967294", "size", "4", "mtime", "-1.25", "atime", "9.000000001", "comment", "no"),
			block{name: "wrong", flag: '0', mode: 0o644, size: 99}.bytes(), padded([]byte("data")))),
			verbatim("l", joined(paxHeader('x', "linkpath", "right"), block{name: "l", link: "wrong", flag: '1', mode: 0o644}.bytes()))),
		"size of a directory":   one(verbatim("d", block{name: "d", flag: '5', mode: 0o755, size: 4096}.bytes()), file("f", "1")),
		"times with few digits": one(verbatim("f", joined(paxHeader('x', "mtime", "5.1"), block{name: "f", flag: '0', mode: 0o600}.bytes())), verbatim("g", joined(paxHeader('x', "mtime", "5.123456789123"), block{name: "g", flag: '0', mode: 0o600}.bytes())), verbatim("h", joined(paxHeader('x', "mtime", "-5.1"), block{name: "h", flag: '0', mode: 0o600}.bytes()))),
		"type of mode":          one(verbatim("f", block{name: "f", flag: '0', mode: 0o100644}.bytes()), verbatim("d", block{name: "d", flag: '5', mode: 0o40711}.bytes())),
		"a socket":              one(verbatim("s", block{name: "s", flag: '0', mode: 0o140755}.bytes()), file("f", "1")).but("sockets", "s: =nothing"),
		"contiguous":            one(verbatim("f", joined(block{name: "f", flag: '7', mode: 0o644, size: 4}.bytes(), padded([]byte("data"))))).alone("few types").have("f", `100644 0:0 content "data"`),
		"a global header": one(
			verbatim("g", paxHeader('g', "comment", "a commit", "uid", "77")), file("f", "1").as(tar.FormatUSTAR),
			verbatim("u", joined(paxHeader('x', "uid", "78"), block{name: "u", flag: '0', mode: 0o600}.bytes())),
		).alone("few types").have("f", `100644 77:0 content "1"`, "u", `100600 78:0 content ""`, "pax_global_header", missing),
		"zeros behind the end": one(file("f", "1"), verbatim("", make([]byte, 20*512))),
		"a name twice":         one(verbatim("f", joined(paxHeader('x', "path", "first"), paxHeader('x', "path", "second"), block{name: "f", flag: '0', mode: 0o600}.bytes()))),
	}
	for _, flag := range "DMVNQ" {
		all[fmt.Sprintf("type %c", flag)] = one(verbatim("odd", block{name: "odd", flag: byte(flag), mode: 0o644}.bytes())).refuse(`entry "odd"`)
	}
	for _, s := range sparseFiles(t) {
		im := one(dir("d"), s.entry, file("d/after", "x")).have("d/after", `100644 0:0 content "x"`, s.Name, "100644 0:0 content "+s.want)
		switch {
		case s.size > 1<<30:
			im = im.alone("holes in full")
			im.unasked = true
		case strings.HasPrefix(s.Name, "d/old"):
			im = im.alone("few types")
		}
		all["sparse, "+s.Name[2:]] = im
	}
	return all
}

// piece is a part of a sparse file that holds data.
type piece struct{ at, n int64 }

// sparse is a sparse file, and what its content is.
type sparse struct {
	entry
	size int64
	want string
}

// sparseFiles are made by hand in the four ways of GNU tar's manual ("Storing Sparse
// Files").
func sparseFiles(t testing.TB) (all []sparse) {
	for name, s := range map[string]struct {
		size   int64
		pieces []piece
	}{
		"a hole before":  {100_000, []piece{{50_000, 50_000}}},
		"a hole behind":  {100_000, []piece{{0, 3}, {100_000, 0}}},
		"all a hole":     {70_000, []piece{{70_000, 0}}},
		"nothing":        {0, []piece{{0, 0}}},
		"many":           {1 << 20, []piece{{0, 1}, {4095, 2}, {8192, 512}, {10_000, 1}, {10_002, 5000}, {65_536, 65_536}, {1<<20 - 1, 1}}},
		"no hole at all": {5000, []piece{{0, 2000}, {2000, 3000}}},
		"far":            {1 << 40, []piece{{512, 100}, {1<<40 - 512, 512}}},
	} {
		data := &pieces{t: t, of: s.pieces}
		want, err := content(data, s.size)
		must(t, err)
		for _, way := range []string{"0.0", "0.1", "1.0", "old"} {
			path := "d/" + way + ", " + name
			var raw []byte
			if way == "old" {
				raw = oldSparse(path, s.size, s.pieces, data.stored())
			} else {
				raw = paxSparse(way, path, s.size, s.pieces, data.stored())
			}
			all = append(all, sparse{verbatim(path, raw), s.size, want})
		}
	}
	return all
}

// pieces is a sparse file as it reads: each piece has noise of its own.
type pieces struct {
	t  testing.TB
	of []piece
}

func (p *pieces) stored() []byte {
	var b []byte
	for i, r := range p.of {
		b = append(b, noise(int(r.n), i)...)
	}
	return b
}

func (p *pieces) ReadAt(b []byte, at int64) (int, error) {
	clear(b)
	for i, r := range p.of {
		if from, to := max(at, r.at), min(at+int64(len(b)), r.at+r.n); from < to {
			copy(b[from-at:to-at], noise(int(r.n), i)[from-r.at:])
		}
	}
	return len(b), nil
}

func paxSparse(way, name string, size int64, runs []piece, stored []byte) []byte {
	var pairs, listed []string
	text := fmt.Sprintf("%d\n", len(runs))
	for _, r := range runs {
		pairs = append(pairs, "GNU.sparse.offset", fmt.Sprint(r.at), "GNU.sparse.numbytes", fmt.Sprint(r.n))
		listed = append(listed, fmt.Sprint(r.at), fmt.Sprint(r.n))
		text += fmt.Sprintf("%d\n%d\n", r.at, r.n)
	}
	records := []string{"GNU.sparse.size", fmt.Sprint(size), "GNU.sparse.numblocks", fmt.Sprint(len(runs))}
	switch way {
	case "0.0":
		records = append(append(records, pairs...), "path", name)
	case "0.1":
		records = append(records, "GNU.sparse.name", name, "GNU.sparse.map", strings.Join(listed, ","))
	case "1.0":
		records = []string{"GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.name", name, "GNU.sparse.realsize", fmt.Sprint(size)}
		stored = append(padded([]byte(text)), stored...)
	}
	return joined(paxHeader('x', records...), block{name: "GNUSparseFile.0/x", flag: '0', mode: 0o644, size: int64(len(stored))}.bytes(), padded(stored))
}

// oldSparse has the map in the header and, of more than four pieces, in blocks behind
// it.
func oldSparse(name string, size int64, runs []piece, stored []byte) []byte {
	number := func(v int64) string {
		if v < 1<<33 {
			return fmt.Sprintf("%011o\x00", v)
		}
		return "\x80\x00\x00\x00" + string(binary.BigEndian.AppendUint64(nil, uint64(v)))
	}
	put := map[int]string{483: number(size)}
	var blocks []byte
	for i, r := range runs {
		if i < 4 {
			put[386+24*i] = number(r.at) + number(r.n)
			continue
		}
		if (i-4)%21 == 0 {
			blocks = append(blocks, make([]byte, 512)...)
		}
		copy(blocks[len(blocks)-512+24*((i-4)%21):], number(r.at)+number(r.n))
	}
	if len(runs) > 4 {
		put[482] = "\x01"
	}
	return joined(block{name: name, flag: 'S', mode: 0o644, magic: "ustar  \x00", size: int64(len(stored)), put: put}.bytes(), blocks, padded(stored))
}
