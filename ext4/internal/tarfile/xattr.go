package tarfile

import (
	"bytes"
	"encoding/base64"
	"fmt"
)

// internedNames keeps strings of extended attributes' names, of which an archive
// has few and many times.
type internedNames map[string]string

func (m *internedNames) get(b []byte) string {
	if s, ok := (*m)[string(b)]; ok {
		return s
	}
	s := string(b)
	if *m == nil {
		*m = internedNames{}
	}
	if len(*m) < 256 && len(s) < 256 {
		(*m)[s] = s
	}
	return s
}

// arena is memory for the values of a member's extended attributes.
type arena []byte

// reserve makes room for n bytes, so that nothing moves until they are used.
func (a *arena) reserve(n int) {
	if cap(*a) < n {
		*a = make([]byte, 0, n)
	}
	*a = (*a)[:0]
}

// add copies b.
func (a *arena) add(b []byte) []byte {
	start := len(*a)
	*a = append(*a, b...)
	return (*a)[start:len(*a):len(*a)]
}

// xattr adds the record of an extended attribute; any other is ignored.
//
// star, and archive/tar's users, write SCHILY.xattr.NAME with name and value as they
// are (star(5)). GNU tar writes %3D and %25 for "=", which would end the keyword, and "%",
// and reads these alone as such (its src/xheader.c, xattr_encode_keyword): it is followed in
// both, as nothing tells whose a record is, and names with these letters are nobody else's.
// libarchive writes LIBARCHIVE.xattr.NAME, with the name URL-encoded and the value in
// base64 (its tar(5)), and behind it SCHILY.xattr with the same encoded name
// (libarchive/archive_write_set_format_pax.c).
func (p *records) xattr(key, value []byte, names *internedNames, values *arena) error {
	name, ok := bytes.CutPrefix(key, []byte("SCHILY.xattr."))
	if ok {
		name = unescape(name, bytes.Equal(name, p.encoded))
		value = values.add(value)
	} else {
		if name, ok = bytes.CutPrefix(key, []byte("LIBARCHIVE.xattr.")); !ok {
			return nil
		}
		p.encoded = name
		name = unescape(name, true)
		// libarchive writes no padding.
		value = bytes.TrimRight(value, "=")
		start := len(*values)
		decoded, err := base64.RawStdEncoding.AppendDecode(*values, value)
		if err != nil {
			return fmt.Errorf("not base64: %w", err)
		}
		*values = decoded
		value = decoded[start:len(decoded):len(decoded)]
	}
	if len(name) == 0 || bytes.IndexByte(name, 0) >= 0 {
		return fmt.Errorf("an extended attribute has no valid name")
	}
	p.xattrs = putXattr(p.xattrs, names.get(name), value)
	if len(p.xattrs) > maxXattrs {
		return fmt.Errorf("more than %d extended attributes", maxXattrs)
	}
	return nil
}

// unescape decodes %XX, or if not all only %3D and %25; any other % stands for itself.
func unescape(b []byte, all bool) []byte {
	if bytes.IndexByte(b, '%') < 0 {
		return b
	}
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] == '%' && i+2 < len(b) {
			hi, lo := hexDigit(b[i+1]), hexDigit(b[i+2])
			if code := string(b[i+1 : i+3]); hi >= 0 && lo >= 0 && (all || code == "3D" || code == "25") {
				out = append(out, byte(hi<<4|lo))
				i += 2
				continue
			}
		}
		out = append(out, b[i])
	}
	return out
}

func hexDigit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// putXattr sets an attribute in a list that has each name once.
func putXattr(list []Xattr, name string, value []byte) []Xattr {
	for i := range list {
		if list[i].Name == name {
			list[i].Value = value
			return list
		}
	}
	return append(list, Xattr{Name: name, Value: value})
}

// mergeXattrs appends to dst the global attributes that local ones do not replace,
// and the local ones, but for those whose empty value takes a global one back.
func mergeXattrs(dst, global, local []Xattr) []Xattr {
	find := func(list []Xattr, name string) bool {
		for i := range list {
			if list[i].Name == name {
				return true
			}
		}
		return false
	}
	for _, x := range global {
		if !find(local, x.Name) {
			dst = append(dst, x)
		}
	}
	for _, x := range local {
		if len(x.Value) > 0 || !find(global, x.Name) {
			dst = append(dst, x)
		}
	}
	return dst
}
