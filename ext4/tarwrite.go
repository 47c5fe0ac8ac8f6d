package ext4

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"banger/ext4/internal/disk"
	"banger/ext4/internal/xattr"
)

// The archive is in the pax format (POSIX.1-2017, pax, "ustar Interchange Format"
// and "pax Interchange Format"), with the attributes of star(5) and the sparse files
// of version 1.0 of GNU tar's manual ("Storing Sparse Files"). archive/tar
// does not write the latter.

const (
	tarBlock = 512
	// tarBuffer is how much is given to the underlying writer at once, in bytes.
	tarBuffer = 1 << 20
)

// Type flags of members.
const (
	tarRegular = '0'
	tarLink    = '1'
	tarSymlink = '2'
	tarChar    = '3'
	tarDevice  = '4' // a block device
	tarDir     = '5'
	tarFIFO    = '6'
	tarRecords = 'x'
)

// member is what a header says.
type member struct {
	typ          byte
	name, link   string // in any bytes but NUL
	mode         uint32 // permissions, set-user-ID, set-group-ID, sticky
	uid, gid     uint32
	size         int64 // of what follows
	mtime        disk.Time
	major, minor uint32
	attrs        []xattr.Attr
	// sparse says that what follows begins with a map, and that the file's length
	// is realSize.
	sparse   bool
	realSize int64
}

// tarWriter writes an archive, in large pieces. After an error it does nothing more.
type tarWriter struct {
	w       io.Writer
	buf     []byte
	records []byte
	err     error
}

func newTarWriter(w io.Writer) *tarWriter {
	return &tarWriter{w: w, buf: (*tarBuffers.Get().(*[tarBuffer]byte))[:0]}
}

var tarBuffers = sync.Pool{New: func() any { return new([tarBuffer]byte) }}

// free gives the buffer back. The writer must not be used again.
func (t *tarWriter) free() {
	tarBuffers.Put((*[tarBuffer]byte)(t.buf[:tarBuffer]))
	t.buf = nil
}

// room gives some free part of the buffer, never none.
func (t *tarWriter) room() []byte {
	if len(t.buf) == cap(t.buf) {
		t.flush()
	}
	return t.buf[len(t.buf):cap(t.buf)]
}

func (t *tarWriter) flush() {
	if t.err == nil && len(t.buf) > 0 {
		var n int
		if n, t.err = t.w.Write(t.buf); t.err == nil && n < len(t.buf) {
			t.err = io.ErrShortWrite
		}
	}
	t.buf = t.buf[:0]
}

func (t *tarWriter) write(b []byte) {
	for len(b) > 0 && t.err == nil {
		n := copy(t.room(), b)
		t.buf, b = t.buf[:len(t.buf)+n], b[n:]
	}
}

// copyFrom writes size bytes of r from off on.
func (t *tarWriter) copyFrom(r io.ReaderAt, off, size int64) error {
	for size > 0 && t.err == nil {
		b := t.room()
		// A small rest of the buffer would cut a file into small reads.
		if int64(len(b)) < size && len(b) < tarBuffer/4 {
			t.flush()
			continue
		}
		b = b[:min(int64(len(b)), size)]
		n, err := r.ReadAt(b, off)
		if n < len(b) {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		t.buf = t.buf[:len(t.buf)+n]
		off, size = off+int64(n), size-int64(n)
	}
	return t.err
}

var tarZeros [2 * tarBlock]byte

// pad fills up the block in which n bytes end.
func (t *tarWriter) pad(n int64) { t.write(tarZeros[:-n&(tarBlock-1)]) }

// close writes the end of the archive.
func (t *tarWriter) close() error {
	t.write(tarZeros[:])
	t.flush()
	return t.err
}

// header writes a member's header, with the records in front of it that it needs.
func (t *tarWriter) header(m *member) error {
	t.records = t.records[:0]
	name, prefix := m.name, ""
	if m.sparse {
		t.record("GNU.sparse.major", "1")
		t.record("GNU.sparse.minor", "0")
		t.record("GNU.sparse.name", m.name)
		t.record("GNU.sparse.realsize", strconv.FormatInt(m.realSize, 10))
		// Who does not know sparse files shall not take the map for the file.
		i := strings.LastIndexByte(m.name, '/') + 1
		name = cutTo(m.name[:i]+"GNUSparseFile.0/"+m.name[i:], 100)
	} else {
		name, prefix = t.path("path", name, 155)
	}
	link, _ := t.path("linkpath", m.link, 0)
	var b [tarBlock]byte
	copy(b[0:100], name)
	copy(b[157:257], link)
	copy(b[345:500], prefix)
	octal(b[100:108], int64(m.mode))
	t.number("uid", b[108:116], int64(m.uid))
	t.number("gid", b[116:124], int64(m.gid))
	t.number("size", b[124:136], m.size)
	if !octal(b[136:148], m.mtime.Sec) || m.mtime.Nsec != 0 {
		t.record("mtime", timeText(m.mtime))
	}
	b[156] = m.typ
	copy(b[257:], "ustar\x0000")
	octal(b[329:337], int64(m.major))
	octal(b[337:345], int64(m.minor))
	for _, a := range m.attrs {
		t.record("SCHILY.xattr."+attrKey(a.Name), string(a.Value))
	}
	if len(t.records) > 0 {
		t.extended(m.name)
	}
	seal(&b)
	t.write(b[:])
	return t.err
}

// extended writes the records as a member of their own.
func (t *tarWriter) extended(name string) {
	var b [tarBlock]byte
	copy(b[0:100], cutTo("PaxHeaders/"+strings.TrimLeft(baseName(strings.TrimRight(name, "/")), "."), 100))
	octal(b[100:108], 0o644)
	octal(b[108:116], 0)
	octal(b[116:124], 0)
	octal(b[124:136], int64(len(t.records)))
	octal(b[136:148], 0)
	b[156] = tarRecords
	copy(b[257:], "ustar\x0000")
	seal(&b)
	t.write(b[:])
	t.write(t.records)
	t.pad(int64(len(t.records)))
}

// path splits a name over the two fields of a header, the second of which takes up
// to prefixLen bytes, and adds a record where it does not fit, or is beyond ASCII:
// old readers take such bytes for what they like.
// Bytes that are no UTF-8 have no place in a record, unless there is no other.
func (t *tarWriter) path(key, name string, prefixLen int) (field, prefix string) {
	field, prefix, fits := splitName(name, prefixLen)
	plain := true
	for i := range len(name) {
		plain = plain && name[i] < utf8.RuneSelf
	}
	valid := utf8.ValidString(name)
	if fits && (plain || !valid) {
		return field, prefix
	}
	if !valid {
		t.record("hdrcharset", "BINARY")
	}
	t.record(key, name)
	if !fits {
		return cutTo(name, 100), ""
	}
	return field, prefix
}

func splitName(name string, prefixLen int) (field, prefix string, fits bool) {
	if len(name) <= 100 {
		return name, "", true
	}
	// The slash between the two is in neither; the field must not be empty.
	for i := len(name) - 101; i > 0 && i <= min(prefixLen, len(name)-2); i++ {
		if name[i] == '/' {
			return name[i+1:], name[:i], true
		}
	}
	return "", "", false
}

func cutTo(s string, n int) string { return s[:min(n, len(s))] }

// number fills a field, or adds a record if the number is too large for it.
func (t *tarWriter) number(key string, field []byte, n int64) {
	if !octal(field, n) {
		t.record(key, strconv.FormatInt(n, 10))
	}
}

// record adds "LENGTH KEY=VALUE\n", where the length is in bytes and counts itself.
func (t *tarWriter) record(key, value string) {
	n := len(key) + len(value) + 3
	digits := len(strconv.Itoa(n))
	if len(strconv.Itoa(n+digits)) > digits {
		digits++
	}
	t.records = fmt.Appendf(t.records, "%d %s=%s\n", n+digits, key, value)
}

// octal fills a field that ends in NUL; with zeros if the number does not fit.
func octal(field []byte, n int64) bool {
	digits := len(field) - 1
	fits := n >= 0 && n < 1<<(3*digits)
	if !fits {
		n = 0
	}
	for i := digits - 1; i >= 0; i-- {
		field[i] = '0' + byte(n&7)
		n >>= 3
	}
	return fits
}

// seal sets the checksum of a header.
func seal(b *[tarBlock]byte) {
	copy(b[148:156], "        ")
	sum := int64(0)
	for _, c := range b {
		sum += int64(c)
	}
	octal(b[148:155], sum)
}

// timeText is a time as decimal seconds. Nanoseconds of an inode count forwards
// from the second, a negative number's fraction counts backwards.
func timeText(t disk.Time) string {
	sec, nsec, sign := t.Sec, int64(t.Nsec), ""
	if sec < 0 && nsec > 0 {
		sec, nsec = sec+1, 1e9-nsec
		if sec == 0 {
			sign = "-"
		}
	}
	if nsec == 0 {
		return strconv.FormatInt(sec, 10)
	}
	return sign + strings.TrimRight(fmt.Sprintf("%d.%09d", sec, nsec), "0")
}

// attrKey writes an attribute's name so that no "=" of its ends the keyword, as
// GNU tar does. Only names that GNU tar would else read as others are changed: not all
// readers know of it.
func attrKey(name string) string {
	if !strings.Contains(name, "=") && !strings.Contains(name, "%3D") && !strings.Contains(name, "%25") {
		return name
	}
	return strings.NewReplacer("%", "%25", "=", "%3D").Replace(name)
}
