package ext4

import (
	"bytes"
	"strconv"
	"strings"
	"testing"
)

// patchedImage is an image in memory, to be changed at what its parts are.
type patchedImage struct {
	t     testing.TB
	image []byte
	v     *volume // as it was
}

func patchImage(t testing.TB, image []byte) *patchedImage {
	t.Helper()
	v, err := openVolume(bytes.NewReader(bytes.Clone(image)), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	return &patchedImage{t, image, v}
}

func (p *patchedImage) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// ino is the inode that a path names, or the number in "<8>".
func (p *patchedImage) ino(path string) uint32 {
	p.t.Helper()
	if n, ok := strings.CutPrefix(path, "<"); ok {
		ino, err := strconv.Atoi(strings.TrimSuffix(n, ">"))
		p.must(err)
		return uint32(ino)
	}
	ino, err := p.v.resolve(path, false)
	p.must(err)
	return ino
}

func (p *patchedImage) block(n uint64) []byte { return p.image[n*uint64(p.v.bs):][:p.v.bs] }

// inode gives the bytes of an inode.
func (p *patchedImage) inode(path string) []byte {
	block, at, err := p.v.inodePlace(p.ino(path))
	p.must(err)
	return p.block(block)[at:][:p.v.sb.InodeSize]
}

func (p *patchedImage) fileMap(path string) *fileMap {
	ino := p.ino(path)
	i, _, err := p.v.inode(ino)
	p.must(err)
	m, err := p.v.fileMap(ino, &i)
	p.must(err)
	return m
}

// first is the first block of a file, node the first one of its map, attrs that of its
// attributes.
func (p *patchedImage) first(path string) uint64 { return p.fileMap(path).extents[0].Physical }
func (p *patchedImage) node(path string) []byte  { return p.block(p.fileMap(path).nodes[0]) }
func (p *patchedImage) attrs(path string) uint64 {
	i, _, err := p.v.inode(p.ino(path))
	p.must(err)
	if i.FileACL == 0 {
		p.t.Fatalf("%s has no block of attributes", path)
	}
	return i.FileACL
}

// entry gives the bytes from an entry on, in the first block of a directory.
func (p *patchedImage) entry(path, name string) []byte {
	b := p.block(p.first(path))
	for off := 0; off < len(b); off += int(le.Uint16(b[off+4:])) {
		if string(b[off+8:][:b[off+6]]) == name {
			return b[off:]
		}
	}
	p.t.Fatalf("%s has no entry %q", path, name)
	return nil
}

// setBit marks a block, and padding clears the last bit of a bitmap; with its
// checksum.
func (p *patchedImage) setBit(block uint64, used bool) {
	g, at := p.v.sb.GroupOf(block)
	p.bitmap(g, true, func(b []byte) {
		b[at/8] &^= 1 << (at % 8)
		if used {
			b[at/8] |= 1 << (at % 8)
		}
	})
}

func (p *patchedImage) padding(g uint32, blocks bool) {
	p.bitmap(g, blocks, func(b []byte) { b[len(b)-1] &= 0x7f })
}

func (p *patchedImage) bitmap(g uint32, blocks bool, f func(b []byte)) {
	d, err := p.v.group(g)
	p.must(err)
	sb := p.v.sb
	if blocks {
		b := p.block(d.BlockBitmap)
		f(b)
		d.BlockBitmapCsum = sb.BlockBitmapChecksum(b)
	} else {
		b := p.block(d.InodeBitmap)
		f(b)
		d.InodeBitmapCsum = sb.InodeBitmapChecksum(b)
	}
	per := sb.DescriptorsPerBlock()
	sb.EncodeGroup(g, &d, p.block(sb.GDTBlock(g / per))[int(g%per)*sb.DescriptorSize():])
}

// bitmapSum makes the checksum of a bitmap wrong.
func (p *patchedImage) bitmapSum() {
	d, err := p.v.group(0)
	p.must(err)
	d.BlockBitmapCsum++
	p.v.sb.EncodeGroup(0, &d, p.block(p.v.sb.GDTBlock(0)))
}
