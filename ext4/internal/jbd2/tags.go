package jbd2

// tag is an entry of a descriptor block.
type tag struct {
	block  uint64 // of the file system
	sum    uint32 // 16 bits of it in version 2
	source uint32 // block of the journal with the contents
	txn    uint32 // of the log, the first is 0
	escape bool
}

// tagBytes is the size of a tag without its UUID. With version 2 of the checksums
// two unused bytes follow each tag: an accident of the header that is now format.
func (j *Journal) tagBytes() int {
	switch {
	case j.incompat&incompatCsumV3 != 0:
		return 16
	case j.incompat&incompatCsumV2 != 0 && j.incompat&incompat64Bit != 0:
		return 14
	case j.incompat&incompatCsumV2 != 0:
		return 10
	case j.incompat&incompat64Bit != 0:
		return 12
	}
	return 8
}

// tagRoom is the end of the tags in a descriptor block.
func (j *Journal) tagRoom() int {
	if j.csum23() {
		return j.c.BlockSize - tailSize
	}
	return j.c.BlockSize
}

// tagsPerBlock is how many tags fit into a descriptor block of ours, whose first
// one alone has a UUID.
func (j *Journal) tagsPerBlock() int {
	return (j.tagRoom() - headerSize - uuidSize) / j.tagBytes()
}

// readTag returns the tag at b[off:] without its source, its flags, and the offset
// of the next one, which is 0 if there is none.
func (j *Journal) readTag(b []byte, off int) (tag, int) {
	e := b[off:]
	flags := be.Uint16(e[tFlags:])
	t := tag{block: uint64(be.Uint32(e[tBlocknr:])), escape: flags&flagEscape != 0}
	if j.incompat&incompat64Bit != 0 {
		t.block |= uint64(be.Uint32(e[tBlocknrHigh:])) << 32
	}
	switch {
	case j.incompat&incompatCsumV3 != 0:
		t.sum = be.Uint32(e[t3Checksum:])
	case j.incompat&incompatCsumV2 != 0:
		t.sum = uint32(be.Uint16(e[tChecksum:]))
	}
	size := j.tagBytes()
	off += size
	if flags&flagSameUUID == 0 {
		off += uuidSize
	}
	if flags&flagLastTag != 0 || off+size > j.tagRoom() {
		off = 0
	}
	return t, off
}

// writeTag writes a tag to b[off:], which is zeros, and returns the offset after it.
func (j *Journal) writeTag(b []byte, off int, t tag, flags uint16) int {
	e := b[off:]
	if t.escape {
		flags |= flagEscape
	}
	be.PutUint32(e[tBlocknr:], uint32(t.block))
	be.PutUint16(e[tFlags:], flags)
	if j.incompat&incompat64Bit != 0 {
		be.PutUint32(e[tBlocknrHigh:], uint32(t.block>>32))
	}
	switch {
	case j.incompat&incompatCsumV3 != 0:
		be.PutUint32(e[t3Checksum:], t.sum)
	case j.incompat&incompatCsumV2 != 0:
		be.PutUint16(e[tChecksum:], uint16(t.sum))
	}
	off += j.tagBytes()
	if flags&flagSameUUID == 0 {
		u := j.UUID()
		off += copy(b[off:], u[:])
	}
	return off
}

// sumOK says whether b, as it lies in the log, is what the tag was made for.
func (j *Journal) sumOK(t tag, sequence uint32, b []byte) bool {
	switch {
	case j.incompat&incompatCsumV3 != 0:
		return t.sum == j.blockSum(sequence, b)
	case j.incompat&incompatCsumV2 != 0:
		return t.sum == j.blockSum(sequence, b)&0xFFFF
	}
	return true
}

// hasMagic says whether b begins like a block of the log, so that it must be
// escaped in it.
func hasMagic(b []byte) bool { return be.Uint32(b) == magic }
