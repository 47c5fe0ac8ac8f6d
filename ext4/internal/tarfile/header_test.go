package tarfile

import (
	"fmt"
	"math"
	"strings"
	"testing"
)

func TestNumbers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		field string
		want  int64
		err   error
	}{
		{"0000644\x00", 0o644, nil},
		{"   644 \x00", 0o644, nil},
		{"77777777", 0o77777777, nil}, // no terminator
		{"777777777777", 0o777777777777, nil},
		{"\x00\x00\x00\x00\x00\x00\x00\x00", 0, nil},
		{"        ", 0, nil},
		{"\x00\x00 12\x00xx", 0o12, nil},
		{"12 garb", 0o12, nil},
		{"00008", 0, errNumber},
		{"-1", 0, errNumber},
		{"0x10", 0, errNumber},
		{"\x80\x00\x00\x01", 1, nil},
		{"\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff", math.MaxInt64, nil},
		{"\x80\x00\x00\x00\x80\x00\x00\x00\x00\x00\x00\x00", 0, errRange},
		{"\xff\xff\xff\xff\x80\x00\x00\x00\x00\x00\x00\x00", math.MinInt64, nil},
		{"\xff\xff\xff\xff\x7f\xff\xff\xff\xff\xff\xff\xff", 0, errRange},
		{"\xff\xff\xff\xff\xff\xff\xff\xfe", -2, nil},
		{"\xc0\x00", -1 << 14, nil}, // the second bit is the sign
		{"\xbf\xff", 1<<14 - 1, nil},
	} {
		if got, err := parseNumber([]byte(c.field)); got != c.want && c.err == nil || err != c.err {
			t.Errorf("%q: %d, %v, want %d, %v", c.field, got, err, c.want, c.err)
		}
	}
}

func TestHeader(t *testing.T) {
	t.Parallel()
	type change func(h *header)
	for name, c := range map[string]struct {
		flag   byte
		change change
		want   string // of the fields that matter
	}{
		"v7": {0, func(h *header) { clear(h[257:]); copy(h[345:], "no/prefix") },
			`0 "name" "" 644 1.2 0.0 1234567890`},
		"v7 directory": {0, func(h *header) { clear(h[257:]); copy(h[:], "name/") },
			`5 "name/" "" 644 1.2 0.0 1234567890`},
		"a regular file's slash": {'0', func(h *header) { copy(h[:], "name/") },
			`5 "name/" "" 644 1.2 0.0 1234567890`},
		"a contiguous file's slash": {'7', func(h *header) { copy(h[:], "name/") },
			`5 "name/" "" 644 1.2 0.0 1234567890`},
		"a link's slash": {'1', func(h *header) { copy(h[:], "name/") },
			`1 "name/" "" 644 1.2 0.0 1234567890`},
		"prefix": {'0', func(h *header) { copy(h[345:], "a/b") },
			`0 "a/b/name" "" 644 1.2 0.0 1234567890`},
		"full fields": {'2', func(h *header) {
			copy(h[:], strings.Repeat("n", 100))
			copy(h[157:], strings.Repeat("l", 100))
			copy(h[345:], strings.Repeat("p", 155))
		}, fmt.Sprintf(`2 "%s/%s" "%s" 644 1.2 0.0 1234567890`, strings.Repeat("p", 155), strings.Repeat("n", 100), strings.Repeat("l", 100))},
		"star": {'0', func(h *header) {
			copy(h[345:], strings.Repeat("p", 131)+"00000000007\x0000000000010\x00")
			copy(h[508:], "tar\x00")
		}, `0 "` + strings.Repeat("p", 131) + `/name" "" 644 1.2 0.0 1234567890 atime 7 ctime 8`},
		"gnu times": {'0', func(h *header) { h.gnu(); copy(h[345:], "00000000007\x0000000000010\x00") },
			`0 "name" "" 644 1.2 0.0 1234567890 atime 7 ctime 8`},
		"gnu times before 1970": {'0', func(h *header) { h.gnu(); base256(h[136:148], -5); base256(h[345:357], -6) },
			`0 "name" "" 644 1.2 0.0 -5 atime -6`},
		"go's gnu prefix": {'0', func(h *header) { h.gnu(); copy(h[345:], "a/b") },
			`0 "a/b/name" "" 644 1.2 0.0 1234567890`},
		"gnu garbage": {'0', func(h *header) { h.gnu(); copy(h[345:], "a/\xff") },
			`0 "name" "" 644 1.2 0.0 1234567890`},
		"any bytes": {'0', func(h *header) { copy(h[:], "\xff\x01\n/\\") },
			`0 "\xff\x01\n/\\" "" 644 1.2 0.0 1234567890`},
		"device": {'3', func(h *header) { copy(h[329:], "0000010\x000000020\x00") },
			`3 "name" "" 644 1.2 8.16 1234567890`},
		"v7 device": {'3', func(h *header) { clear(h[257:]); copy(h[329:], "0000010\x000000020\x00") },
			`3 "name" "" 644 1.2 0.0 1234567890`},
		"garbage that does not matter": {'0', func(h *header) {
			copy(h[157:], "link")
			copy(h[329:], "xxxxxxxxyyyyyyyy")
		}, `0 "name" "" 644 1.2 0.0 1234567890`},
		"contiguous": {'7', func(h *header) {}, `0 "name" "" 644 1.2 0.0 1234567890`},
		"volume":     {'V', func(h *header) {}, `V "name" "" 644 1.2 0.0 1234567890`},
		"large ids": {'0', func(h *header) { base256(h[108:116], math.MaxUint32); base256(h[116:124], 1<<31) },
			`0 "name" "" 644 4294967295.2147483648 0.0 1234567890`},
		"mode with a type": {'0', func(h *header) { copy(h[100:], "0100755\x00") },
			`0 "name" "" 100755 1.2 0.0 1234567890`},
		"empty name": {'0', func(h *header) { clear(h[:100]) }, `0 "" "" 644 1.2 0.0 1234567890`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := rawHeader(c.flag, "name", 0)
			c.change(h)
			m := mustReadOne(t, new(raw).add(h, "").end())
			got := fmt.Sprintf("%c %q %q %o %d.%d %d.%d %d", m.Type, m.Name, m.Link, m.Mode, m.Uid, m.Gid, m.Major, m.Minor, m.Mtime.Sec)
			if m.Atime.Set {
				got += fmt.Sprint(" atime ", m.Atime.Sec)
			}
			if m.Ctime.Set {
				got += fmt.Sprint(" ctime ", m.Ctime.Sec)
			}
			if got != c.want || !m.Mtime.Set {
				t.Errorf("\n got %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestBadHeader(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		flag   byte
		change func(h *header)
		says   string
	}{
		"mode":          {'0', func(h *header) { copy(h[100:], "rw-r--r-") }, `byte 512: mode of "name": not a number`},
		"negative uid":  {'0', func(h *header) { base256(h[108:116], -1) }, `uid of "name": a number out of range`},
		"large gid":     {'0', func(h *header) { base256(h[116:124], 1<<32) }, `gid of "name": a number out of range`},
		"negative size": {'0', func(h *header) { base256(h[124:136], -1) }, `size of "name": a number out of range`},
		"mtime":         {'0', func(h *header) { h[136] = 'x' }, `mtime of "name": not a number`},
		"major":         {'3', func(h *header) { h[329] = 'x' }, `device number of "name": not a number`},
		"minor":         {'4', func(h *header) { h[337] = 'x' }, `device number of "name": not a number`},
		"star times":    {'0', func(h *header) { copy(h[508:], "tar\x00"); h[476] = 'x' }, `times of "name": not a number`},
		"long name":     {'L', func(h *header) { base256(h[124:136], 1<<20+1) }, "above the limit of 1048576"},
		"pax size":      {'x', func(h *header) { h[124] = 'x' }, `the size of an extended header 'x': not a number`},
	} {
		h := rawHeader(c.flag, "name", 0)
		c.change(h)
		t.Log(name)
		wantErr(t, new(raw).add(rawHeader('0', "first", 0), "").add(h, "").end(), ErrFormat, c.says)
	}
	// A size up to the highest is only more than there is.
	h := rawHeader('0', "name", 0)
	base256(h[124:136], math.MaxInt64)
	wantErr(t, new(raw).add(h, "").end(), ErrTruncated, "byte 1536")
}

func TestChecksum(t *testing.T) {
	t.Parallel()
	h := rawHeader('0', "\xff\x80\x7f", 0).sum()
	if h.check() != isHeader {
		t.Error("the unsigned sum is refused")
	}
	signed := 0
	for i, c := range h {
		if i >= 148 && i < 156 {
			c = ' '
		}
		signed += int(int8(c))
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", signed))
	if h.check() != isHeader {
		t.Error("the signed sum is refused")
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", signed+1))
	if h.check() != isBad {
		t.Error("a wrong sum is taken")
	}
	for i := range h {
		h[i] = 0xff // the highest sum
	}
	h.sum()
	if h.check() != isHeader {
		t.Error("the highest sum is refused")
	}
	*h = header{}
	if h.check() != isZero {
		t.Error("zeros are not zeros")
	}
	h[511] = 1
	if h.check() != isBad {
		t.Error("one bit is zeros")
	}
}

// The types 1 to 6 have no data, whatever their size is; others do.
func TestSizeOfTypes(t *testing.T) {
	t.Parallel()
	for flag := byte('1'); flag <= '6'; flag++ {
		w := new(raw).add(rawHeader(flag, "a", 12345), "").add(rawHeader('0', "b", 3), "abc")
		got := mustRead(t, w.end())
		if len(got) != 2 || got[0].Type != flag || got[0].Size != 0 || string(got[1].data) != "abc" {
			t.Errorf("%c: %+v", flag, got)
		}
	}
	for _, flag := range []byte("DMNVA") {
		got := mustRead(t, new(raw).add(rawHeader(flag, "a", 3), "abc").end())
		if len(got) != 1 || got[0].Type != flag || got[0].Size != 3 || string(got[0].data) != "abc" {
			t.Errorf("%c: %+v", flag, got)
		}
	}
}

func TestGNULongNames(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("\xff", 70000)
	w := new(raw).
		add(rawHeader('K', "././@LongLink", 70001).gnu(), long+"\x00").
		add(rawHeader('L', "././@LongLink", 4).gnu(), "old\x00").
		add(rawHeader('L', "././@LongLink", 9).gnu(), "new\x00trash").
		pax('x', "path", "pax", "linkpath", "pax").
		add(rawHeader('2', "short", 0).gnu(), "").
		add(rawHeader('2', "after", 0).gnu(), "")
	got := mustRead(t, w.end())
	if len(got) != 2 || got[0].Name != "new" || got[0].Link != long || got[1].Name != "after" || got[1].Link != "" {
		t.Errorf("%+v", got)
	}
}

// A regular file whose name ends in a slash is a directory. The data that it says it
// has is stepped over, as by those who take it for a file.
func TestSlashOfRegularFile(t *testing.T) {
	t.Parallel()
	for flag, size := range map[byte]int64{'0': 600, '7': 3, 0: 0} {
		w := new(raw).add(rawHeader(flag, "d/", size), strings.Repeat("x", int(size))).add(rawHeader('0', "f", 1), "y")
		got := mustRead(t, w.end())
		if len(got) != 2 || got[0].Type != TypeDir || got[0].Size != 0 || len(got[0].data) > 0 || string(got[1].data) != "y" {
			t.Errorf("%q: %+v", flag, got)
		}
	}
	w := new(raw).pax('x', "path", "long/", "size", "5").add(rawHeader('0', "cut", 0), "12345").add(rawHeader('0', "f", 1), "y")
	if got := mustRead(t, w.end()); len(got) != 2 || got[0].Type != TypeDir || string(got[1].data) != "y" {
		t.Errorf("%+v", got)
	}
	h := rawHeader('0', "d/", 0)
	base256(h[124:136], math.MaxInt64)
	wantErr(t, new(raw).add(h, "").end(), ErrTruncated, "byte 1536")
}
