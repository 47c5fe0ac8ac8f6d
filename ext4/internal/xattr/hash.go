package xattr

import (
	"encoding/binary"

	"banger/ext4/internal/crc"
)

// hashEntry is e_hash of an entry whose value is in the block: name bytes are
// mixed in by rotations of 5, then the value's little-endian words, zero-padded, by
// rotations of 16 (attributes.rst on e_hash; fs/ext4/xattr.c). Name
// bytes count as unsigned; kernels before 6.2 took them as signed where char is.
// That matters only to names with bytes above 127, and only to e2fsck: the kernel
// does not compare the hash of a value in a block.
func hashEntry(name string, value []byte) uint32 {
	var h uint32
	for i := range len(name) {
		h = h<<5 ^ h>>27 ^ uint32(name[i])
	}
	for len(value) >= 4 {
		h = h<<16 ^ h>>16 ^ binary.LittleEndian.Uint32(value)
		value = value[4:]
	}
	if len(value) > 0 {
		var last [4]byte
		copy(last[:], value)
		h = h<<16 ^ h>>16 ^ binary.LittleEndian.Uint32(last[:])
	}
	return h
}

// hashBlock is h_hash, by which the kernel finds blocks to share. It is 0, "do not
// share", if an entry's hash is.
func hashBlock(entries []uint32) uint32 {
	var h uint32
	for _, e := range entries {
		if e == 0 {
			return 0
		}
		h = h<<16 ^ h>>16 ^ e
	}
	return h
}

func checksum(block []byte, seed uint32, number uint64) uint32 {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], number)
	c := crc.C(seed, b[:])
	c = crc.C(c, block[:hdrChecksum])
	c = crc.C(c, make([]byte, 4))
	return crc.C(c, block[hdrChecksum+4:])
}

// SetBlockChecksum fills h_checksum of a whole attribute block that goes to block
// number of the image (feature metadata_csum). seed is the file system's: the CRC
// of its UUID, or s_checksum_seed (Documentation/filesystems/ext4/checksums.rst).
// It must come after every other change of the block.
func SetBlockChecksum(block []byte, seed uint32, number uint64) {
	binary.LittleEndian.PutUint32(block[hdrChecksum:], checksum(block, seed, number))
}

// VerifyBlockChecksum says whether h_checksum of a whole attribute block, read from
// block number of the image, is right. A block too short for a header is not.
func VerifyBlockChecksum(block []byte, seed uint32, number uint64) bool {
	return len(block) >= headerSize &&
		binary.LittleEndian.Uint32(block[hdrChecksum:]) == checksum(block, seed, number)
}

// SetRefcount sets how many inodes share an attribute block. The kernel stops
// sharing at 1024 (EXT4_XATTR_REFCOUNT_MAX). The checksum must be set again.
func SetRefcount(block []byte, n uint32) {
	binary.LittleEndian.PutUint32(block[hdrRefcount:], n)
}
