package tarfile

import (
	"bytes"
	"fmt"
	"math"
)

// fields is a set of the fields of a member that pax records may override.
type fields uint8

const (
	fieldPath fields = 1 << iota
	fieldLink
	fieldSize
	fieldUid
	fieldGid
	fieldMtime
	fieldAtime
	fieldCtime
)

// records is what a pax header says (POSIX, "pax Extended Header Keywords").
// The last record of a keyword counts. A record without a value takes back what
// a global header said, so that the member's own header counts again; it does not
// erase that header's field as well, for no writer means this.
type records struct {
	set, deleted fields // apart from one another
	path, link   string
	size         int64
	uid, gid     uint32
	mtime        Time
	atime        Time
	ctime        Time
	// xattrs has each name once. An empty value is either an attribute with an
	// empty value, as GNU tar and star write it, or takes a global one back; what
	// it is turns out as the two are merged.
	xattrs []Xattr
	// encoded is the name of the last LIBARCHIVE.xattr record, as it was written, during parse.
	encoded []byte
	sparse  sparseRecords
}

// reset forgets all records and keeps the memory.
func (p *records) reset() {
	*p = records{xattrs: p.xattrs[:0], sparse: p.sparse.cleared()}
}

// parse adds the records of a pax header. It keeps nothing of b but in strings and
// in what xattrValue makes of a value. The offset is that of the record in b which
// the error is about.
func (p *records) parse(b []byte, names *internedNames, values *arena) (offset int, err error) {
	defer func() { p.encoded = nil }()
	for rest := b; len(rest) > 0; {
		offset = len(b) - len(rest)
		var key, value []byte
		if key, value, rest, err = cutRecord(rest); err != nil {
			return offset, err
		}
		if err := p.record(key, value, names, values); err != nil {
			return offset, fmt.Errorf("pax record %.100q: %w", key, err)
		}
	}
	return 0, nil
}

// cutRecord splits the first record off b: "%d %s=%s\n", where the number is the
// length of the whole record in bytes, its own digits included.
func cutRecord(b []byte) (key, value, rest []byte, err error) {
	n, digits := 0, 0
	for digits < len(b) && '0' <= b[digits] && b[digits] <= '9' && n <= len(b) {
		n = 10*n + int(b[digits]-'0')
		digits++
	}
	if digits == 0 || digits == len(b) || b[digits] != ' ' || n <= digits+1 || n > len(b) {
		return nil, nil, nil, fmt.Errorf("a pax record has no valid length")
	}
	if b[n-1] != '\n' {
		return nil, nil, nil, fmt.Errorf("a pax record of %d bytes does not end in a newline", n)
	}
	key, value, found := bytes.Cut(b[digits+1:n-1], []byte("="))
	if !found || len(key) == 0 || bytes.IndexByte(key, 0) >= 0 {
		return nil, nil, nil, fmt.Errorf("a pax record has no valid keyword")
	}
	return key, value, b[n:], nil
}

// record adds one record. Unknown keywords are ignored, as POSIX wants.
func (p *records) record(key, value []byte, names *internedNames, values *arena) (err error) {
	var f fields
	switch string(key) {
	case "path":
		f = fieldPath
		p.path, err = pathString(value)
	case "linkpath":
		f = fieldLink
		p.link, err = pathString(value)
	case "size":
		f = fieldSize
		p.size, err = optional(value, 0, math.MaxInt64)
	case "uid":
		f = fieldUid
		p.uid, err = optionalID(value)
	case "gid":
		f = fieldGid
		p.gid, err = optionalID(value)
	case "mtime":
		f = fieldMtime
		p.mtime, err = optionalTime(value)
	case "atime":
		f = fieldAtime
		p.atime, err = optionalTime(value)
	case "ctime":
		f = fieldCtime
		p.ctime, err = optionalTime(value)
	default:
		if name, ok := bytes.CutPrefix(key, []byte("GNU.sparse.")); ok {
			return p.sparse.record(name, value)
		}
		return p.xattr(key, value, names, values)
	}
	if len(value) > 0 {
		p.set, p.deleted = p.set|f, p.deleted&^f
	} else {
		p.set, p.deleted = p.set&^f, p.deleted|f
	}
	return err
}

// override has the records of later headers replace those of p, which are global.
// The values of extended attributes are copied.
func (p *records) override(by *records) error {
	kept := p.xattrs
	for _, x := range by.xattrs {
		kept = putXattr(kept, x.Name, bytes.Clone(x.Value))
	}
	// An empty value has done its work now: there is nothing more global to take
	// back.
	n, total := 0, 0
	for _, x := range kept {
		if len(x.Value) > 0 {
			kept[n] = x
			n++
			total += len(x.Name) + len(x.Value)
		}
	}
	clear(kept[n:])
	kept = kept[:n]

	set := (p.set | by.set) &^ by.deleted
	pick := func(f fields) *records {
		if by.set&f != 0 {
			return by
		}
		return p
	}
	*p = records{
		set:    set,
		path:   pick(fieldPath).path,
		link:   pick(fieldLink).link,
		size:   pick(fieldSize).size,
		uid:    pick(fieldUid).uid,
		gid:    pick(fieldGid).gid,
		mtime:  pick(fieldMtime).mtime,
		atime:  pick(fieldAtime).atime,
		ctime:  pick(fieldCtime).ctime,
		xattrs: kept,
	}
	if total > maxPayload || n > maxXattrs {
		return fmt.Errorf("the global headers hold %d extended attributes of %d bytes, above the limits of %d and %d",
			n, total, maxXattrs, maxPayload)
	}
	return nil
}

func pathString(b []byte) (string, error) {
	if bytes.IndexByte(b, 0) >= 0 {
		return "", fmt.Errorf("a NUL in a name")
	}
	return string(b), nil
}

// optional reads a decimal number, or nothing, which is 0.
func optional(b []byte, lo, hi int64) (int64, error) {
	if len(b) == 0 {
		return 0, nil
	}
	n, err := parseDecimal(b)
	if err == nil && (n < lo || n > hi) {
		err = errRange
	}
	return n, err
}

func optionalID(b []byte) (uint32, error) {
	n, err := optional(b, 0, math.MaxUint32)
	return uint32(n), err
}

// optionalTime reads decimal seconds with or without a fraction, of which what is
// finer than nanoseconds is cut off; nothing is the time not set.
func optionalTime(b []byte) (Time, error) {
	if len(b) == 0 {
		return Time{}, nil
	}
	whole, frac, _ := bytes.Cut(b, []byte("."))
	t := Time{Set: true}
	var err error
	if t.Sec, err = parseDecimal(whole); err != nil {
		return Time{}, err
	}
	unit := uint32(100_000_000)
	for _, c := range frac {
		if c < '0' || c > '9' {
			return Time{}, errNumber
		}
		t.Nsec += uint32(c-'0') * unit
		unit /= 10
	}
	// The sign is the whole number's: -1.25 is 0.75 after -2.
	if whole[0] == '-' && t.Nsec > 0 {
		if t.Sec == math.MinInt64 {
			return Time{}, errRange
		}
		t.Sec, t.Nsec = t.Sec-1, 1_000_000_000-t.Nsec
	}
	return t, nil
}

// parseDecimal reads digits with or without a minus before them.
func parseDecimal(b []byte) (int64, error) {
	digits, negative := bytes.CutPrefix(b, []byte("-"))
	if len(digits) == 0 {
		return 0, errNumber
	}
	// Counting down reaches the lowest number too.
	var n int64
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, errNumber
		}
		d := int64(c - '0')
		if n < (math.MinInt64+d)/10 {
			return 0, errRange
		}
		n = 10*n - d
	}
	if negative {
		return n, nil
	}
	if n == math.MinInt64 {
		return 0, errRange
	}
	return -n, nil
}
