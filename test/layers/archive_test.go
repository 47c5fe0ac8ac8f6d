// Package layers_test holds the way from the layers of an image to a disk against
// others: umoci, an independent implementation of the OCI image specification; the
// kernel, which reads the disk; a model in memory; and people who mean no good.
package layers_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// entry is one entry of a layer. The methods return changed copies.
type entry struct {
	tar.Header
	data string // of a regular file
	raw  []byte // if set, the entry as it is, with its headers and padding
}

// then is when everything happened that has no time of its own: not 1970, so that a
// time that gets lost is noticed.
var then = time.Unix(1_600_000_000, 123_456_789)

func newEntry(kind byte, name string, mode int64) entry {
	return entry{Header: tar.Header{Typeflag: kind, Name: name, Mode: mode, ModTime: then, Format: tar.FormatPAX}}
}

func file(name, data string) entry {
	e := newEntry(tar.TypeReg, name, 0o644)
	e.data, e.Size = data, int64(len(data))
	return e
}

func dir(name string) entry { return newEntry(tar.TypeDir, name, 0o755) }

func symlink(name, target string) entry {
	e := newEntry(tar.TypeSymlink, name, 0o777)
	e.Linkname = target
	return e
}

func hard(name, target string) entry {
	e := newEntry(tar.TypeLink, name, 0o644)
	e.Linkname = target
	return e
}

func fifo(name string) entry { return newEntry(tar.TypeFifo, name, 0o600) }

func device(kind byte, name string, major, minor int64) entry {
	e := newEntry(kind, name, 0o660)
	e.Devmajor, e.Devminor = major, minor
	return e
}

func whiteout(name string) entry {
	i := strings.LastIndexByte(name, '/') + 1
	return file(name[:i]+".wh."+name[i:], "")
}

func opaque(dir string) entry { return file(dir+"/.wh..wh..opq", "") }

func (e entry) chmod(mode int64) entry     { e.Mode = mode; return e }
func (e entry) chown(uid, gid int) entry   { e.Uid, e.Gid = uid, gid; return e }
func (e entry) at(sec, nsec int64) entry   { e.ModTime = time.Unix(sec, nsec); return e }
func (e entry) as(format tar.Format) entry { e.Format = format; return e }
func (e entry) kind(flag byte) entry       { e.Typeflag = flag; return e }
func (e entry) accessed(sec int64) entry   { e.AccessTime = time.Unix(sec, 7); return e }
func (e entry) attr(name, v string) entry  { return e.pax("SCHILY.xattr."+name, v) }
func (e entry) user(names ...string) entry { e.Uname, e.Gname = names[0], names[1]; return e }
func (e entry) sized(declared int64) entry { e.Size = declared; return e }
func verbatim(name string, b []byte) entry { return entry{Header: tar.Header{Name: name}, raw: b} }
func (e entry) pax(name, value string) entry {
	records := map[string]string{name: value}
	for k, v := range e.PAXRecords {
		records[k] = v
	}
	e.PAXRecords = records
	return e
}

// archive is a layer, uncompressed.
func archive(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	for _, e := range entries {
		b.Write(e.bytes(t))
	}
	b.Write(make([]byte, 1024))
	return b.Bytes()
}

// bytes is the entry, whole.
func (e entry) bytes(t testing.TB) []byte {
	t.Helper()
	if e.raw != nil {
		return e.raw
	}
	b := e.header(t)
	b = append(b, e.data...)
	return append(b, make([]byte, -len(b)&511)...)
}

// header is the entry without its data.
func (e entry) header(t testing.TB) []byte {
	t.Helper()
	if e.Format == tar.FormatUSTAR || e.Format == tar.FormatGNU {
		e.ModTime = e.ModTime.Truncate(time.Second)
	}
	var b bytes.Buffer
	if err := tar.NewWriter(&b).WriteHeader(&e.Header); err != nil {
		t.Fatalf("%q: %v", e.Name, err)
	}
	return b.Bytes()
}

// block is a header written by hand, for what archive/tar does not write.
type block struct {
	name, link string
	flag       byte
	mode, size int64
	magic      string // "ustar\x0000" if empty; "v7" for none
	put        map[int]string
}

func (h block) bytes() []byte {
	b := make([]byte, 512)
	octal := func(at, width int, v int64) { copy(b[at:], fmt.Sprintf("%0*o\x00", width-1, v)) }
	copy(b[0:100], h.name)
	octal(100, 8, h.mode)
	octal(108, 8, 0)
	octal(116, 8, 0)
	octal(124, 12, h.size)
	octal(136, 12, then.Unix())
	b[156] = h.flag
	copy(b[157:257], h.link)
	switch h.magic {
	case "":
		copy(b[257:], "ustar\x0000")
	case "v7":
	default:
		copy(b[257:], h.magic)
	}
	for at, s := range h.put {
		copy(b[at:], s)
	}
	copy(b[148:156], "        ")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

// padded is b up to the end of a block.
func padded(b []byte) []byte { return append(b, make([]byte, -len(b)&511)...) }

// joined is pieces in a row.
func joined(pieces ...[]byte) []byte { return bytes.Join(pieces, nil) }

// paxHeader is an extended header with records in their order: keys and values.
func paxHeader(flag byte, keysValues ...string) []byte {
	var body strings.Builder
	for i := 0; i < len(keysValues); i += 2 {
		text := " " + keysValues[i] + "=" + keysValues[i+1] + "\n"
		n := len(text)
		for n != len(fmt.Sprint(n))+len(text) {
			n = len(fmt.Sprint(n)) + len(text)
		}
		fmt.Fprint(&body, n, text)
	}
	return joined(block{name: "PaxHeaders/x", flag: flag, mode: 0o644, size: int64(body.Len())}.bytes(), padded([]byte(body.String())))
}

// gnuLong is GNU tar's header 'L' or 'K' for a long name or link.
func gnuLong(flag byte, name string) []byte {
	return joined(block{name: "././@LongLink", flag: flag, magic: "ustar  \x00", size: int64(len(name) + 1)}.bytes(), padded([]byte(name+"\x00")))
}

// noise is n bytes that do not repeat within a block's length, the same for the same
// seed.
func noise(n, seed int) string {
	b := make([]byte, n)
	x := uint32(seed)*2654435761 + 1
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return string(b)
}

// zeros reads as zeros for ever.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// repeat returns a reader of n copies of b.
func repeat(b []byte, n int) io.Reader {
	return &repeater{b: b, left: int64(n) * int64(len(b))}
}

type repeater struct {
	b    []byte
	at   int
	left int64
}

func (r *repeater) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n := 0
	for n < len(p) && r.left > 0 {
		m := copy(p[n:min(int64(len(p)), int64(n)+r.left)], r.b[r.at:])
		n, r.left, r.at = n+m, r.left-int64(m), (r.at+m)%len(r.b)
	}
	return n, nil
}
