package tarfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
)

// format is what the magic of a header says about the layout of its second half.
type format byte

const (
	formatV7    format = iota // nothing behind the link name
	formatUstar               // names, device numbers, 155 bytes of prefix (POSIX)
	formatGNU                 // atime, ctime and a sparse map in the prefix's place
	formatStar                // 131 bytes of prefix, then atime and ctime (star(5))
)

// header is a block that is a member's header. Its methods read the fields of
// POSIX's table "ustar Header Block" and of the variants.
type header [blockSize]byte

func (h *header) typeflag() byte   { return h[156] }
func (h *header) linkname() []byte { return cString(h[157:257]) }

func (h *header) format() format {
	switch {
	case string(h[257:263]) == "ustar\x00" && string(h[508:512]) == "tar\x00":
		return formatStar
	case string(h[257:263]) == "ustar\x00":
		return formatUstar
	case string(h[257:265]) == "ustar  \x00":
		return formatGNU
	}
	return formatV7
}

// verdict is what check finds a block to be.
type verdict byte

const (
	isHeader verdict = iota
	isZero           // of zeros only: the end of the archive
	isBad            // the checksum does not match
)

// check adds up the block. The sum of POSIX counts bytes as unsigned, the one of
// old SunOS tars as signed; either will do. The checksum's own field counts as
// spaces.
func (h *header) check() verdict {
	// Four sums of 16 bits side by side: at most 128 bytes of 255 each.
	const even = 0x00ff00ff00ff00ff
	var sums uint64
	for b := h[:]; len(b) >= 8; b = b[8:] {
		x := binary.LittleEndian.Uint64(b)
		sums += x&even + x>>8&even
	}
	total := int64(sums&0xffff + sums>>16&0xffff + sums>>32&0xffff + sums>>48)
	if total == 0 {
		return isZero
	}
	field := h[148:156]
	want, err := parseOctal(field)
	if err != nil {
		return isBad
	}
	total += int64(len(field)) * ' '
	for _, c := range field {
		total -= int64(c)
	}
	if total == want {
		return isHeader
	}
	for i, c := range h {
		if c >= 0x80 && (i < 148 || i >= 156) {
			total -= 0x100
		}
	}
	if total == want {
		return isHeader
	}
	return isBad
}

// name returns the name with its prefix, if the format has one.
func (h *header) name() string {
	name := cString(h[:100])
	var prefix []byte
	switch h.format() {
	case formatUstar:
		prefix = cString(h[345:500])
	case formatStar:
		prefix = cString(h[345:476])
	case formatGNU:
		// Go before 1.8 wrote a prefix into GNU headers, where there is none: the
		// place is that of the times. If they are not numbers, it was such a
		// writer; archive/tar reads it so as well.
		if _, _, err := h.times(); err != nil {
			if p := cString(h[345:500]); isASCII(p) {
				prefix = p
			}
		}
	}
	if len(prefix) == 0 {
		return string(name)
	}
	var buf [256]byte
	return string(append(append(append(buf[:0], prefix...), '/'), name...))
}

// times returns the times of access and of change.
func (h *header) times() (atime, ctime Time, err error) {
	var fields [2][]byte
	switch h.format() {
	case formatGNU:
		fields = [2][]byte{h[345:357], h[357:369]}
	case formatStar:
		fields = [2][]byte{h[476:488], h[488:500]}
	default:
		return Time{}, Time{}, nil
	}
	var got [2]Time
	for i, b := range fields {
		if b[0] == 0 {
			continue // not used
		}
		sec, err := parseNumber(b)
		if err != nil {
			return Time{}, Time{}, err
		}
		got[i] = Time{Sec: sec, Set: true}
	}
	return got[0], got[1], nil
}

func (h *header) mode() (uint32, error)  { return parseUint32(h[100:108]) }
func (h *header) uid() (uint32, error)   { return parseUint32(h[108:116]) }
func (h *header) gid() (uint32, error)   { return parseUint32(h[116:124]) }
func (h *header) major() (uint32, error) { return parseUint32(h[329:337]) }
func (h *header) minor() (uint32, error) { return parseUint32(h[337:345]) }

func (h *header) size() (int64, error) {
	n, err := parseNumber(h[124:136])
	if err == nil && n < 0 {
		err = errRange
	}
	return n, err
}

func (h *header) mtime() (Time, error) {
	sec, err := parseNumber(h[136:148])
	return Time{Sec: sec, Set: true}, err
}

var (
	errNumber = errors.New("not a number")
	errRange  = errors.New("a number out of range")
)

// parseOctal reads octal digits, between spaces and NULs on either side; what is
// behind those is ignored, a field of nothing else is 0. b has at most 12 bytes.
func parseOctal(b []byte) (int64, error) {
	for len(b) > 0 && (b[0] == ' ' || b[0] == 0) {
		b = b[1:]
	}
	var n int64
	for _, c := range b {
		d := c - '0'
		if d > 7 {
			if c == ' ' || c == 0 {
				break
			}
			return 0, errNumber
		}
		n = n<<3 | int64(d)
	}
	return n, nil
}

// parseNumber reads octal digits or, where the first bit is set, a big-endian
// two's complement number in all the bits behind it ("base-256" in GNU tar's
// manual, "Extensions"; star(5) has it too).
func parseNumber(b []byte) (int64, error) {
	if b[0]&0x80 == 0 {
		return parseOctal(b)
	}
	// The second bit is the sign; spread it over the first.
	var n, sign int64
	first := b[0] & 0x7f
	if first&0x40 != 0 {
		first |= 0x80
		sign = -1
	}
	n = int64(int8(first))
	for _, c := range b[1:] {
		if n>>55 != sign { // the next shift would lose bits
			return 0, errRange
		}
		n = n<<8 | int64(c)
	}
	return n, nil
}

func parseUint32(b []byte) (uint32, error) {
	n, err := parseNumber(b)
	if err == nil && (n < 0 || n > math.MaxUint32) {
		err = errRange
	}
	return uint32(n), err
}

// cString returns b up to its first NUL.
func cString(b []byte) []byte {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		return b[:i]
	}
	return b
}

func isASCII(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 {
			return false
		}
	}
	return true
}
