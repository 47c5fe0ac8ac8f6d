package xattr

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"banger/ext4/internal/crc"
	"banger/internal/base/testneed"
)

// image is a file system in a file, changed by the kernel through mounted and by
// the tests through its bytes.
type image struct {
	path      string
	blockSize int
	inodeSize int
	csum      bool
	seed      uint32
	b         []byte // read anew after each mount
}

var le = binary.LittleEndian

func makeImage(t *testing.T, args ...string) *image {
	t.Helper()
	testneed.Loop(t)
	im := &image{path: filepath.Join(testneed.Memory(t), "img")}
	if err := os.WriteFile(im.path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(im.path, 6<<20); err != nil {
		t.Fatal(err)
	}
	testneed.Run(t, "mke2fs", append(append([]string{"-q", "-F", "-t", "ext4", "-E", "lazy_itable_init=0"}, args...), im.path)...)
	im.read(t)
	sb := im.b[1024:]
	im.blockSize = 1024 << le.Uint32(sb[0x18:])
	im.inodeSize = int(le.Uint16(sb[0x58:]))
	im.csum = le.Uint32(sb[0x64:])&0x400 != 0
	im.seed = crc.C(^uint32(0), sb[0x68:0x78])
	return im
}

func (im *image) read(t *testing.T) {
	t.Helper()
	b, err := os.ReadFile(im.path)
	if err != nil {
		t.Fatal(err)
	}
	im.b = b
}

func (im *image) write(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(im.path, im.b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// mounted calls f with the folder on which the image is mounted.
func (im *image) mounted(t *testing.T, options string, f func(dir string)) {
	t.Helper()
	testneed.Mounted(t, im.path, options, f)
	im.read(t)
}

func inodeNumber(t *testing.T, path string) uint32 {
	t.Helper()
	fi, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(fi.Sys().(*syscall.Stat_t).Ino)
}

// inode gives the bytes of an inode, in the image.
func (im *image) inode(number uint32) []byte {
	sb := im.b[1024:]
	perGroup, descSize := le.Uint32(sb[0x28:]), 32
	if le.Uint32(sb[0x60:])&0x80 != 0 { // 64bit
		descSize = int(le.Uint16(sb[0xFE:]))
	}
	group := (number - 1) / perGroup
	desc := im.b[(int(le.Uint32(sb[0x14:]))+1)*im.blockSize+int(group)*descSize:]
	at := int(le.Uint32(desc[8:]))*im.blockSize + int((number-1)%perGroup)*im.inodeSize
	return im.b[at : at+im.inodeSize]
}

// area is what Encode and ParseInode speak of.
func area(inode []byte) []byte { return inode[128+int(le.Uint16(inode[128:])):] }

// block gives the attribute block of an inode and its number, or nil.
func (im *image) block(inode []byte) ([]byte, uint64) {
	n := uint64(le.Uint32(inode[0x68:])) | uint64(le.Uint16(inode[0x76:]))<<32
	if n == 0 {
		return nil, 0
	}
	return im.b[n*uint64(im.blockSize):][:im.blockSize], n
}

// replace puts our bytes in the place of the kernel's, and sets the checksums.
func (im *image) replace(t *testing.T, number uint32, inode, block []byte) {
	t.Helper()
	i := im.inode(number)
	clear(area(i))
	copy(area(i), inode)
	b, n := im.block(i)
	if (b != nil) != (block != nil) {
		t.Fatalf("the kernel used a block: %v; we: %v", b != nil, block != nil)
	}
	if b != nil {
		copy(b, block)
	}
	if !im.csum {
		return
	}
	if b != nil {
		SetBlockChecksum(b, im.seed, n)
	}
	le.PutUint16(i[0x7C:], 0)
	le.PutUint16(i[0x82:], 0)
	c := crc.C(im.seed, le.AppendUint32(nil, number))
	c = crc.C(c, i[0x64:0x68]) // generation
	c = crc.C(c, i)
	le.PutUint16(i[0x7C:], uint16(c))
	le.PutUint16(i[0x82:], uint16(c>>16))
}

// getAll reads all attributes as a program sees them.
func getAll(t *testing.T, path string) map[string]string {
	t.Helper()
	list := make([]byte, 65536)
	n, err := syscall.Listxattr(path, list)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	value := make([]byte, 65536)
	for name := range bytes.SplitSeq(bytes.TrimSuffix(list[:n], []byte{0}), []byte{0}) {
		if len(name) == 0 {
			continue
		}
		n, err := syscall.Getxattr(path, string(name), value)
		if err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		got[string(name)] = string(value[:n])
	}
	return got
}
