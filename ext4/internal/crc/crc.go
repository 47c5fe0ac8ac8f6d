// Package crc computes the checksums of ext4 and JBD2.
package crc

import "hash/crc32"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// C extends the CRC32C seed by b, without the usual inversions before and after:
// the convention of the kernel's crc32c(), on which every checksum of ext4's
// metadata is built (Documentation/filesystems/ext4/checksums.rst). A checksum of
// nothing before it starts at ^uint32(0).
func C(seed uint32, b []byte) uint32 {
	return ^crc32.Update(^seed, castagnoli, b)
}

// U32 extends seed by n, as it is on the disk, as C does. Unlike a slice of bytes for C it
// takes no memory of its own.
func U32(seed, n uint32) uint32 {
	for range 4 {
		seed, n = castagnoli[byte(seed)^byte(n)]^seed>>8, n>>8
	}
	return seed
}

// C16 extends the CRC-16 seed by b: polynomial x^16+x^15+x^2+1, bits reflected, no
// inversions; the checksum of group descriptors with uninit_bg (lib/crc16.c).
func C16(seed uint16, b []byte) uint16 {
	for _, c := range b {
		seed ^= uint16(c)
		for range 8 {
			if seed&1 != 0 {
				seed = seed>>1 ^ 0xa001
			} else {
				seed >>= 1
			}
		}
	}
	return seed
}
