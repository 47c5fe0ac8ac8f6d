package tarfile

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
)

func TestPax(t *testing.T) {
	t.Parallel()
	h := rawHeader('2', "name", 0)
	copy(h[157:], "link")
	copy(h[108:], "xxxxxxxxxxxxxxxx") // ids that do not fit are garbage to some writers
	w := new(raw).pax('x',
		"path", "a\nb=c \xff",
		"linkpath", "to\n\xfe",
		"uid", "4294967295", "gid", "0",
		"mtime", "-1.25", "atime", "5", "ctime", "1.0000000019",
		"comment", "nothing", "hdrcharset", "BINARY", "uname", "root\x00", "VENDOR.unknown", "\x00\n\x00",
	).add(h, "").add(rawHeader('0', "next", 0), "")
	got := mustRead(t, w.end())
	if len(got) != 2 {
		t.Fatalf("%d members", len(got))
	}
	m := got[0]
	if m.Name != "a\nb=c \xff" || m.Link != "to\n\xfe" || m.Uid != math.MaxUint32 || m.Gid != 0 ||
		m.Mtime != (Time{-2, 750_000_000, true}) || m.Atime != (Time{5, 0, true}) || m.Ctime != (Time{1, 1, true}) {
		t.Errorf("%+v", m)
	}
	if n := got[1]; n.Name != "next" || n.Uid != 1 || n.Atime.Set || n.Mtime.Sec != 1234567890 {
		t.Errorf("the records count for the next member too: %+v", n)
	}
}

// Extended headers may be empty.
func TestEmptyExtendedHeaders(t *testing.T) {
	t.Parallel()
	var w raw
	for _, flag := range []byte("xgLK") {
		w.add(rawHeader(flag, "empty", 0), "")
	}
	if m := mustReadOne(t, w.add(rawHeader('0', "name", 0), "").end()); m.Name != "name" || m.Uid != 1 {
		t.Errorf("%+v", m)
	}
}

func TestPaxSizeCounts(t *testing.T) {
	t.Parallel()
	w := new(raw).pax('X', "size", "3").add(rawHeader('0', "a", 0), "abc").add(rawHeader('0', "b", 0), "")
	got := mustRead(t, w.end())
	if len(got) != 2 || got[0].Size != 3 || string(got[0].data) != "abc" || got[1].Size != 0 {
		t.Errorf("%+v", got)
	}
}

func TestPaxGlobal(t *testing.T) {
	t.Parallel()
	w := new(raw).
		pax('g', "comment", "0123456789abcdef", "uid", "7", "gid", "8", "mtime", "9", "SCHILY.xattr.user.a", "A", "SCHILY.xattr.user.b", "B").
		add(rawHeader('0', "first", 0), "").
		pax('x', "uid", "70", "gid", "", "SCHILY.xattr.user.a", "", "SCHILY.xattr.user.b", "own", "SCHILY.xattr.user.empty", "").
		pax('g', "mtime", "", "gid", "80", "GNU.sparse.major", "1"). // between the two, where it should not be
		add(rawHeader('0', "second", 0), "").
		pax('g', "SCHILY.xattr.user.a", "", "SCHILY.xattr.user.b", "").
		add(rawHeader('0', "third", 0), "")
	var lines []string
	for _, m := range mustRead(t, w.end()) {
		slices.SortFunc(m.Xattrs, func(a, b Xattr) int { return strings.Compare(a.Name, b.Name) })
		lines = append(lines, fmt.Sprintf("%c %s %d %d %d %s", m.Type, m.Name, m.Uid, m.Gid, m.Mtime.Sec, m.Xattrs))
	}
	want := []string{
		"0 first 7 8 9 [{user.a A} {user.b B}]",
		"0 second 70 2 1234567890 [{user.b own} {user.empty }]",
		"0 third 7 80 1234567890 []",
	}
	if !slices.Equal(lines, want) {
		t.Errorf("\n got %q\nwant %q", lines, want)
	}
}

// The last record of a keyword counts, also one without a value.
func TestPaxRepeated(t *testing.T) {
	t.Parallel()
	m := mustReadOne(t, new(raw).
		pax('x', "uid", "99").
		pax('x', "path", "", "path", "p", "gid", "5", "gid", "", "SCHILY.xattr.u", "1", "SCHILY.xattr.u", "2").
		add(rawHeader('0', "name", 0), "").end())
	if m.Name != "p" || m.Uid != 1 || m.Gid != 2 || len(m.Xattrs) != 1 || string(m.Xattrs[0].Value) != "2" {
		t.Errorf("%+v", m)
	}
}

func TestLibarchiveXattrs(t *testing.T) {
	t.Parallel()
	m := mustReadOne(t, new(raw).pax('x',
		"SCHILY.xattr.user.both", "v\x00\xff",
		"LIBARCHIVE.xattr.user.both", "dgD/",
		"LIBARCHIVE.xattr.user.%3D%25%zz%4", "YQ",
		"LIBARCHIVE.xattr.user.padded", "YQ==",
		"LIBARCHIVE.creationtime", "5",
	).add(rawHeader('0', "name", 0), "").end())
	if got, want := fmt.Sprintf("%q", m.Xattrs), `[{"user.both" "v\x00\xff"} {"user.=%%zz%4" "a"} {"user.padded" "a"}]`; got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

func TestBadPax(t *testing.T) {
	t.Parallel()
	many := make([]string, 0, 2*maxXattrs+2)
	for i := range maxXattrs + 1 {
		many = append(many, fmt.Sprintf("SCHILY.xattr.user.%d", i), "")
	}
	for _, c := range []struct{ payload, says string }{
		{"x", "no valid length"},
		{"10", "no valid length"},
		{"-10 path=a\n", "no valid length"},
		{"11 path=a\n", "no valid length"},                         // longer than there is
		{"3 path=a\n", "does not end in a newline"},                // within the keyword
		{"2 path=a\n", "no valid length"},                          // within itself
		{"99999999999999999999999999 path=a\n", "no valid length"}, // overflows
		{paxPayload("path", "a") + "8 path=a\n", "byte 521: "},     // the second record
		{"10 path=a\x00", "does not end in a newline"},
		{"7 path\n", "no valid keyword"},
		{"5 =a\n", "no valid keyword"},
		{paxPayload("pa\x00th", "a"), "no valid keyword"},
		{paxPayload("path", "a\x00b"), `pax record "path": a NUL in a name`},
		{paxPayload("linkpath", "\x00"), `pax record "linkpath": a NUL`},
		{paxPayload("GNU.sparse.name", "\x00"), `a NUL`},
		{paxPayload("size", "-1"), `pax record "size": a number out of range`},
		{paxPayload("size", "9223372036854775808"), "out of range"},
		{paxPayload("size", "0x1"), "not a number"},
		{paxPayload("uid", "4294967296"), `pax record "uid": a number out of range`},
		{paxPayload("gid", "+1"), "not a number"},
		{paxPayload("mtime", "1.5e3"), "not a number"},
		{paxPayload("mtime", "-"), "not a number"},
		{paxPayload("mtime", ".5"), "not a number"},
		{paxPayload("atime", "-9223372036854775808.1"), "out of range"},
		{paxPayload("LIBARCHIVE.xattr.user.a", "!"), "not base64"},
		{paxPayload("LIBARCHIVE.xattr.%00", "YQ"), "no valid name"},
		{paxPayload("SCHILY.xattr.", "YQ"), "no valid name"},
		{paxPayload(many...), "more than 4096 extended attributes"},
	} {
		for _, flag := range []byte("xg") {
			w := new(raw).add(rawHeader(flag, "p", int64(len(c.payload))), c.payload).add(rawHeader('0', "name", 0), "")
			wantErr(t, w.end(), ErrFormat, c.says)
		}
	}
}

// Global headers must not add up to more than one may hold.
func TestGlobalXattrsAreBounded(t *testing.T) {
	t.Parallel()
	var w raw
	value := strings.Repeat("v", 300_000)
	for i := range 4 {
		w.pax('g', fmt.Sprintf("SCHILY.xattr.user.%d", i), value)
	}
	wantErr(t, w.end(), ErrFormat, "above the limits of 4096 and 1048576")
}

func TestDecimals(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]int64{
		"0": 0, "-0": 0, "007": 7, "9223372036854775807": math.MaxInt64, "-9223372036854775808": math.MinInt64,
	} {
		if got, err := parseDecimal([]byte(s)); got != want || err != nil {
			t.Errorf("%q: %d, %v", s, got, err)
		}
	}
	for s, want := range map[string]Time{
		"1.":                   {1, 0, true},
		"-0.5":                 {-1, 500_000_000, true},
		"-3.000000000":         {-3, 0, true},
		"1.123456789":          {1, 123456789, true},
		"1.99999999999":        {1, 999999999, true},
		"-9223372036854775808": {math.MinInt64, 0, true},
		"":                     {},
	} {
		if got, err := optionalTime([]byte(s)); got != want || err != nil {
			t.Errorf("%q: %v, %v, want %v", s, got, err, want)
		}
	}
}

// What GNU tar and libarchive escape in the names of attributes is undone, and nothing
// else.
func TestEscapedXattrNames(t *testing.T) {
	t.Parallel()
	m := mustReadOne(t, new(raw).pax('x',
		"SCHILY.xattr.user.a%25b%3Dc", "gnu",
		"SCHILY.xattr.user.%253D", "gnu",
		"SCHILY.xattr.user.50%", "star",
		"SCHILY.xattr.user.%3d%41%2%", "star",
		// As bsdtar 3.6.2 writes them.
		"LIBARCHIVE.xattr.user.%C3%BC%20q", "dg",
		"SCHILY.xattr.user.%C3%BC%20q", "v",
		"LIBARCHIVE.xattr.user.y%2525", "dg",
		"SCHILY.xattr.user.y%2525", "v",
		"SCHILY.xattr.user.%C3%BC%20q", "not behind its like",
	).add(rawHeader('0', "name", 0), "").end())
	want := `[{"user.a%b=c" "gnu"} {"user.%3D" "gnu"} {"user.50%" "star"} {"user.%3d%41%2%" "star"} {"user.ü q" "v"} {"user.y%25" "v"}` +
		` {"user.%C3%BC%20q" "not behind its like"}]`
	if got := fmt.Sprintf("%q", m.Xattrs); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}
