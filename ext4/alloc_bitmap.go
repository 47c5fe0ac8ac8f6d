package ext4

import "math/bits"

// Bitmaps of blocks and inodes: bit n is bit n%8 of byte n/8. Their length is a
// multiple of eight bytes, as a block's is.

func bitSet(b []byte, n uint32) bool { return b[n/8]>>(n%8)&1 != 0 }

// nextBit returns the first bit from n on, below end, that is set, or clear if not
// set; end if there is none.
func nextBit(b []byte, n, end uint32, set bool) uint32 {
	var flip uint64
	if !set {
		flip = ^flip
	}
	for n < end {
		word := (le.Uint64(b[n/64*8:]) ^ flip) >> (n % 64)
		if word != 0 {
			return min(n+uint32(bits.TrailingZeros64(word)), end)
		}
		n = (n/64 + 1) * 64
	}
	return end
}

// setBits sets the bits from n to before end.
func setBits(b []byte, n, end uint32) {
	for ; n < end && n%8 != 0; n++ {
		b[n/8] |= 1 << (n % 8)
	}
	for ; n+8 <= end; n += 8 {
		b[n/8] = 0xff
	}
	for ; n < end; n++ {
		b[n/8] |= 1 << (n % 8)
	}
}

// clearBits clears the bits from n to before end.
func clearBits(b []byte, n, end uint32) {
	for ; n < end && n%8 != 0; n++ {
		b[n/8] &^= 1 << (n % 8)
	}
	for ; n+8 <= end; n += 8 {
		b[n/8] = 0
	}
	for ; n < end; n++ {
		b[n/8] &^= 1 << (n % 8)
	}
}
