package jbd2

import "banger/ext4/internal/crc"

// setSeed sets seed from the UUID of the superblock.
func (j *Journal) setSeed() { j.seed = crc.C(^uint32(0), j.sb[sUUID:sUUID+uuidSize]) }

// tailSum is the checksum of a whole block with the four bytes at off taken as
// zero: that of a superblock, a descriptor, a revoke or a commit block.
func tailSum(seed uint32, b []byte, off int) uint32 {
	var zero [4]byte
	s := crc.C(seed, b[:off])
	s = crc.C(s, zero[:])
	return crc.C(s, b[off+4:])
}

// superSum is what s_checksum must be. It alone does not begin with the UUID.
func superSum(sb []byte) uint32 {
	return tailSum(^uint32(0), sb[:superblockSize], sChecksum)
}

// blockSum is the checksum of a logged block, as it lies in the log: with the magic
// zeroed if it is escaped.
func (j *Journal) blockSum(sequence uint32, b []byte) uint32 {
	var s [4]byte
	be.PutUint32(s[:], sequence)
	return crc.C(crc.C(j.seed, s[:]), b)
}

// tailOK says whether the tail of a descriptor or revoke block is right.
func (j *Journal) tailOK(b []byte) bool {
	if !j.csum23() {
		return true
	}
	off := len(b) - tailSize
	return be.Uint32(b[off:]) == tailSum(j.seed, b, off)
}

// commitOK says whether the checksum of a commit block is right by version 2 or 3.
// A block of which only the header reached the disk counts as whole: the rest is
// zeros whoever writes it, and disks write sectors, not blocks.
func (j *Journal) commitOK(b []byte) bool {
	if !j.csum23() {
		return true
	}
	want := be.Uint32(b[hChksum:])
	if tailSum(j.seed, b, hChksum) == want {
		return true
	}
	whole := make([]byte, len(b))
	copy(whole, b[:commitHeaderSize])
	return tailSum(j.seed, whole, hChksum) == want
}

// commitOK1 is commitOK for the first version, whose checksum is that of the
// transaction's descriptors and blocks. A commit block without one is right too:
// the feature may have been switched on later.
func commitOK1(b []byte, sum uint32) bool {
	typ, size, got := b[hChksumType], b[hChksumSize], be.Uint32(b[hChksum:])
	return typ == chksumTypeCRC32 && size == chksumSizeCRC32 && got == sum ||
		typ == 0 && size == 0 && got == 0
}

// crcBE is the kernel's crc32_be: the polynomial of CRC-32, most significant bit
// first and without inversions. The standard library has only the reflected one.
func crcBE(s uint32, b []byte) uint32 {
	for _, c := range b {
		s = s<<8 ^ crcBETable[byte(s>>24)^c]
	}
	return s
}

var crcBETable = func() (t [256]uint32) {
	for i := range t {
		s := uint32(i) << 24
		for range 8 {
			if s&(1<<31) != 0 {
				s = s<<1 ^ 0x04C11DB7
			} else {
				s <<= 1
			}
		}
		t[i] = s
	}
	return t
}()

// loggedSum is blockSum of b as it will lie in the log.
func (j *Journal) loggedSum(sequence uint32, b []byte, escape bool) uint32 {
	if !escape {
		return j.blockSum(sequence, b)
	}
	var zero [4]byte
	return crc.C(j.blockSum(sequence, zero[:]), b[4:])
}
