package dir

// An entry is ext4_dir_entry_2: le32 inode, le16 length of the record, u8 length of
// the name, u8 file type, the name. Records fill the block without gaps; one with
// inode 0 is free space. Without incompat filetype the length of the name has 16 bits.
const (
	direntHead = 8
	minRec     = 12 // the record of a name of one to four bytes
)

// recLen is the least record for a name.
func recLen(name int) int { return (direntHead + name + 3) &^ 3 }

// getRec reads a length of a record. In 64 KiB blocks a record of the whole block does
// not fit 16 bits: it is written as 65535, by some as 0, and the two low bits, free
// because lengths are multiples of four, are bits 16 and 17.
func (p *Params) getRec(b []byte, off int) int {
	n := int(le.Uint16(b[off+4:]))
	if p.BlockSize < 1<<16 {
		return n
	}
	if n == 0 || n == 1<<16-1 {
		return p.BlockSize
	}
	return n&^3 | n&3<<16
}

func putRec(b []byte, off, n int) {
	if n == 1<<16 {
		n--
	}
	le.PutUint16(b[off+4:], uint16(n))
}

// dirent is one record of a block.
type dirent struct {
	off, rec int
	name     int // bytes
	ino      uint32
	typ      uint8
}

// need is what of the record is in use.
func (d *dirent) need() int {
	if d.ino == 0 {
		return 0
	}
	return recLen(d.name)
}

func (d *dirent) is(b []byte, name string) bool {
	return d.ino != 0 && d.name == len(name) && string(b[d.off+direntHead:][:d.name]) == name
}

// dirent decodes the record at off, below end. bad is why it cannot be one. Of a good
// record the name lies within it, and it ends at end or leaves room for another: so a
// loop over records ends, and needs no further checks.
func (p *Params) dirent(b []byte, off, end int) (d dirent, bad string) {
	if end-off < minRec {
		return d, "no room for an entry"
	}
	d = dirent{off: off, rec: p.getRec(b, off), ino: le.Uint32(b[off:])}
	if p.FileType {
		d.name, d.typ = int(b[off+6]), b[off+7]
	} else {
		d.name = int(le.Uint16(b[off+6:]))
	}
	switch rest := end - off - d.rec; {
	case d.rec < minRec:
		return d, "record of an entry is too short"
	case d.rec&3 != 0:
		return d, "record of an entry is not a multiple of 4 bytes"
	case rest < 0:
		return d, "record of an entry leaves the block"
	case rest > 0 && rest < minRec:
		return d, "record of an entry ends too near the end of the block"
	}
	if d.ino == 0 {
		return d, ""
	}
	if d.name == 0 || d.name > MaxName {
		return d, "length of a name is out of range"
	}
	if recLen(d.name) > d.rec {
		return d, "name leaves the record of its entry"
	}
	return d, ""
}

// put writes an entry with a record of rec bytes, which has room for it.
func (p *Params) put(b []byte, off, rec int, ino uint32, typ uint8, name string) {
	le.PutUint32(b[off:], ino)
	putRec(b, off, rec)
	b[off+6], b[off+7] = byte(len(name)), 0
	if p.FileType {
		b[off+7] = typ
	}
	n := copy(b[off+direntHead:], name)
	clear(b[off+direntHead+n : off+recLen(len(name))])
}

// setTarget changes what an entry points at.
func (p *Params) setTarget(b []byte, off int, ino uint32, typ uint8) {
	le.PutUint32(b[off:], ino)
	if p.FileType {
		b[off+7] = typ
	}
}

// free makes the record at off free space, and wipes the name: a removed name does
// not stay readable in the image.
func free(b []byte, d dirent) {
	le.PutUint32(b[d.off:], 0)
	clear(b[d.off+6 : d.off+recLen(d.name)])
}

// blank fills a block with one free record.
func (p *Params) blank(b []byte) {
	clear(b)
	putRec(b, 0, p.leafEnd())
}

// space sums up a leaf: the free bytes in all, and whether some record alone has need.
// The leaf was checked by scan.
func (p *Params) space(b []byte, need int) (total int, fits bool) {
	end := p.leafEnd()
	for off := 0; off < end; {
		d, _ := p.dirent(b, off, end)
		gap := d.rec - d.need()
		total += gap
		fits = fits || gap >= need
		off += d.rec
	}
	return total, fits
}

// place adds an entry to a checked leaf that has room for it in all, moving the others
// together where no record alone has it. Their order stays: "." and ".." must lead.
func (p *Params) place(b []byte, e Entry) {
	need, end := recLen(len(e.Name)), p.leafEnd()
	if _, fits := p.space(b, need); !fits {
		p.pack(b)
	}
	for off := 0; off < end; {
		d, _ := p.dirent(b, off, end)
		if used := d.need(); d.rec-used >= need {
			if used > 0 {
				putRec(b, off, used)
			}
			p.put(b, off+used, d.rec-used, e.Ino, e.Type, e.Name)
			return
		}
		off += d.rec
	}
}

// pack moves all entries of a checked leaf to its front; the last has the rest.
func (p *Params) pack(b []byte) {
	end, to, last := p.leafEnd(), 0, -1
	for off := 0; off < end; {
		d, _ := p.dirent(b, off, end)
		if used := d.need(); used > 0 {
			copy(b[to:], b[off:off+used])
			putRec(b, to, used)
			last = to
			to += used
		}
		off += d.rec
	}
	clear(b[to:end])
	if last < 0 {
		last = 0
	}
	putRec(b, last, end-last)
}

// scan checks every record of a block that ends at end, and calls f, if not nil, for
// those in use until it returns false.
func (p *Params) scan(i uint32, b []byte, end int, f func(d dirent) bool) error {
	for off := 0; off < end; {
		d, bad := p.dirent(b, off, end)
		if bad != "" {
			return corrupt(i, bad)
		}
		if d.ino != 0 && f != nil && !f(d) {
			return nil
		}
		off += d.rec
	}
	return nil
}
