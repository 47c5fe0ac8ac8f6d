package layers_test

import (
	"fmt"
	"io"
	"strings"
	"testing"
)

// TestTenMillionEntries declares more than can be described in the memory there is for
// it. Of files, all of it is taken; of the other kinds, a part that is quicker.
func TestTenMillionEntries(t *testing.T) {
	const n = 10_000_000
	whole := bounds{heap: 150 << 20, disk: small.disk}
	part := bounds{heap: 2*8<<20 + small.heap, disk: small.disk, describe: 8 << 20}
	pieces := bounds{heap: small.heap, disk: 1 << 30, describe: 2 << 20} // 512 MiB of blocks
	if raceEnabled {
		whole = part
	}
	of := func(h block) io.Reader { return newNumbered(h, n) }
	for name, c := range map[string]struct {
		bounds
		r io.Reader
	}{
		"files":                 {whole, of(block{name: "a-directory/a-file-00000000", flag: '0', mode: 0o644})},
		"long names":            {part, of(block{name: strings.Repeat("n", 80) + "00000000", flag: '0', mode: 0o644, put: map[int]string{345: strings.Repeat("p", 150)}})},
		"directories":           {part, of(block{name: "a-directory/00000000", flag: '5', mode: 0o755})},
		"implied directories":   {part, of(block{name: "00000000/a/b", flag: '0', mode: 0o644})},
		"symlinks":              {part, of(block{name: "a-directory/a-link-00000000", flag: '2', link: "target"})},
		"hard links to nothing": {part, of(block{name: "a-directory/a-link-00000000", flag: '1', link: "nothing"})},
		"the same name":         {part, repeat(file("a/b", "").bytes(t), n)},
		"whiteouts":             {part, of(block{name: ".wh.00000000", flag: '0', mode: 0o644})},
		"attributes":            {part, repeat(file("a/b", "").attr("user.a", noise(4000, 1)).bytes(t), n)},
		"long targets":          {part, repeat(symlink("a/b", strings.Repeat("t", 4000)).bytes(t), n)},
		"pieces":                {pieces, repeat(paxSparse("1.0", "a", 1<<40, scattered(2000, 512, 8192), make([]byte, 2000*512)), n)},
	} {
		t.Run(name, func(t *testing.T) {
			most := c.describe >> 20
			if c.describe == 0 {
				most = 128 // diskimage's
			}
			attack(t, c.r, c.bounds, "entry ", fmt.Sprintf("more than %d MiB of memory", most))
		})
	}
}

// scattered is a sparse map of n pieces.
func scattered(n int, length, stride int64) []piece {
	all := make([]piece, n)
	for i := range all {
		all[i] = piece{int64(i) * stride, length}
	}
	return all
}

// numbered reads as n empty files or the like, each with a number in its name.
type numbered struct {
	header []byte
	digits []byte // those in the name
	n, i   int
	at     int
}

// newNumbered takes a header with eight zeros in its name.
func newNumbered(h block, n int) *numbered {
	b := h.bytes()
	i := strings.Index(h.name, "00000000")
	return &numbered{header: b, digits: b[i : i+8], n: n}
}

func (r *numbered) Read(p []byte) (got int, err error) {
	for got < len(p) {
		if r.at == 0 {
			if r.i == r.n {
				return got, io.EOF
			}
			r.number()
			r.i++
		}
		m := copy(p[got:], r.header[r.at:])
		got, r.at = got+m, (r.at+m)%len(r.header)
	}
	return got, nil
}

// number sets the name's digits, and the checksum with them.
func (r *numbered) number() {
	for i, v := len(r.digits)-1, r.i; i >= 0; i, v = i-1, v/10 {
		r.digits[i] = byte('0' + v%10)
	}
	sum := 8 * int(' ')
	for i, c := range r.header {
		if i < 148 || i >= 156 {
			sum += int(c)
		}
	}
	for i := 153; i >= 148; i, sum = i-1, sum/8 {
		r.header[i] = byte('0' + sum%8)
	}
}
