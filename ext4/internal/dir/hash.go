package dir

import "math/bits"

// hashEOF marks the end of a directory for readers in the kernel; no name has it.
const hashEOF = 0xfffffffe

// Hash gives the hash of a name by which an index orders entries (kernel fs/ext4/hash.c).
// version is HashLegacy, HashHalfMD4 or HashTEA, or one of these plus 3, which implies
// unsigned. Unsigned tells how bytes from 0x80 up count: the kernel used C's char, so
// images made on different machines differ. The lowest bit of major is always 0: an
// index marks with it that a block continues the hash of the block before. The legacy
// hash has no minor. Of an unknown version both are 0.
func Hash(version uint8, unsigned bool, seed [4]uint32, name string) (major, minor uint32) {
	if version >= 3 && version <= 5 {
		version, unsigned = version-3, true
	}
	s := seed
	if s == ([4]uint32{}) {
		s = [4]uint32{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476} // MD4's initial state
	}
	switch version {
	case HashLegacy:
		major = legacy(name, unsigned)
	case HashHalfMD4:
		var in [8]uint32
		for ; len(name) > 0; name = name[min(32, len(name)):] {
			words(in[:], name, unsigned)
			halfMD4(&s, &in)
		}
		major, minor = s[1], s[2]
	case HashTEA:
		var in [4]uint32
		for ; len(name) > 0; name = name[min(16, len(name)):] {
			words(in[:], name, unsigned)
			tea(&s, &in)
		}
		major, minor = s[0], s[1]
	default:
		return 0, 0
	}
	major &^= 1
	if major == hashEOF {
		major = hashEOF - 2
	}
	return major, minor
}

func legacy(name string, unsigned bool) uint32 {
	h0, h1 := uint32(0x12a3fe2d), uint32(0x37abe8f9)
	for i := range len(name) {
		c := uint32(name[i])
		if !unsigned {
			c = uint32(int8(name[i]))
		}
		h := h1 + (h0 ^ c*7152373)
		if h>>31 != 0 {
			h -= 0x7fffffff
		}
		h0, h1 = h, h0
	}
	return h0 << 1
}

// words cuts the head of a name into big-endian words. What the name does not fill is
// filled with bytes of its remaining length.
func words(dst []uint32, name string, unsigned bool) {
	pad := uint32(len(name)) * 0x01010101
	for i := range dst {
		w, shift := uint32(0), min(4, len(name))
		if shift == 4 {
			w = uint32(name[0])<<24 | uint32(name[1])<<16 | uint32(name[2])<<8 | uint32(name[3])
		} else {
			for j := range shift {
				w = w<<8 | uint32(name[j])
			}
			w += pad << (8 * shift)
		}
		if !unsigned {
			// A byte from 0x80 up was added as itself minus 256: one less in the byte
			// above it. The padding was not added as bytes, so it is left out.
			high := uint32(0x80808080) & w
			if shift < 4 {
				high &= 1<<(8*shift) - 1
			}
			w -= high << 1
		}
		dst[i] = w
		name = name[shift:]
	}
}

// halfMD4 is the compression of MD4 (RFC 1320) with three rounds of eight steps over
// eight words, in the order and with the rotations ext4 chose.
func halfMD4(s *[4]uint32, in *[8]uint32) {
	const k2, k3 = 0x5a827999, 0x6ed9eba1 // square roots of 2 and 3, as in MD4
	a, b, c, d := s[0], s[1], s[2], s[3]

	a = bits.RotateLeft32(a+(d^b&(c^d))+in[0], 3)
	d = bits.RotateLeft32(d+(c^a&(b^c))+in[1], 7)
	c = bits.RotateLeft32(c+(b^d&(a^b))+in[2], 11)
	b = bits.RotateLeft32(b+(a^c&(d^a))+in[3], 19)
	a = bits.RotateLeft32(a+(d^b&(c^d))+in[4], 3)
	d = bits.RotateLeft32(d+(c^a&(b^c))+in[5], 7)
	c = bits.RotateLeft32(c+(b^d&(a^b))+in[6], 11)
	b = bits.RotateLeft32(b+(a^c&(d^a))+in[7], 19)

	a = bits.RotateLeft32(a+((b&c)+(b^c)&d)+in[1]+k2, 3)
	d = bits.RotateLeft32(d+((a&b)+(a^b)&c)+in[3]+k2, 5)
	c = bits.RotateLeft32(c+((d&a)+(d^a)&b)+in[5]+k2, 9)
	b = bits.RotateLeft32(b+((c&d)+(c^d)&a)+in[7]+k2, 13)
	a = bits.RotateLeft32(a+((b&c)+(b^c)&d)+in[0]+k2, 3)
	d = bits.RotateLeft32(d+((a&b)+(a^b)&c)+in[2]+k2, 5)
	c = bits.RotateLeft32(c+((d&a)+(d^a)&b)+in[4]+k2, 9)
	b = bits.RotateLeft32(b+((c&d)+(c^d)&a)+in[6]+k2, 13)

	a = bits.RotateLeft32(a+(b^c^d)+in[3]+k3, 3)
	d = bits.RotateLeft32(d+(a^b^c)+in[7]+k3, 9)
	c = bits.RotateLeft32(c+(d^a^b)+in[2]+k3, 11)
	b = bits.RotateLeft32(b+(c^d^a)+in[6]+k3, 15)
	a = bits.RotateLeft32(a+(b^c^d)+in[1]+k3, 3)
	d = bits.RotateLeft32(d+(a^b^c)+in[5]+k3, 9)
	c = bits.RotateLeft32(c+(d^a^b)+in[0]+k3, 11)
	b = bits.RotateLeft32(b+(c^d^a)+in[4]+k3, 15)

	s[0] += a
	s[1] += b
	s[2] += c
	s[3] += d
}

func tea(s, in *[4]uint32) {
	const delta = 0x9e3779b9
	x, y, sum := s[0], s[1], uint32(0)
	for range 16 {
		sum += delta
		x += (y<<4 + in[0]) ^ (y + sum) ^ (y>>5 + in[1])
		y += (x<<4 + in[2]) ^ (x + sum) ^ (x>>5 + in[3])
	}
	s[0] += x
	s[1] += y
}
