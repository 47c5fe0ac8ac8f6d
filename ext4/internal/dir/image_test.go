package dir

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"banger/ext4/internal/crc"
	"banger/internal/base/testneed"
)

const (
	flagIndex   = 0x1000
	flagExtents = 0x80000
)

// image is the directory /d of an image file, as debugfs shows where it is.
type image struct {
	path string
	p    *Params
	ino  uint32
	disk []int64 // block of the image for each block of the directory
	flag uint32
	size int
}

// newImage makes an image whose /d has n files and some directories.
func newImage(t *testing.T, n int, args ...string) *image {
	t.Helper()
	src := testneed.Memory(t)
	if err := os.Mkdir(filepath.Join(src, "d"), 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		name := filepath.Join(src, "d", fmt.Sprintf("file-%d", i))
		var err error
		if i%100 == 0 {
			err = os.Mkdir(name, 0o755)
		} else {
			err = os.WriteFile(name, nil, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(testneed.Memory(t), "img")
	testneed.Run(t, "mke2fs", append([]string{"-q", "-F", "-t", "ext4", "-N", "8000", "-d", src, "-E", "root_owner=0:0"}, append(args, path, "64M")...)...)
	return &image{path: path}
}

func debugfs(t testing.TB, img, cmd string) string {
	t.Helper()
	return testneed.Run(t, "debugfs", "-R", cmd, img)
}

func field(t testing.TB, out, name string) uint32 {
	t.Helper()
	m := regexp.MustCompile(name + `:\s+(0x[0-9a-f]+|\d+)`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("no %s in %s", name, out)
	}
	v, err := strconv.ParseUint(m[1], 0, 32)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(v)
}

// load reads the superblock, where the directory is, and its blocks.
func (g *image) load(t testing.TB) *mem {
	t.Helper()
	f, err := os.Open(g.path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sb := make([]byte, 1024)
	if _, err := f.ReadAt(sb, 1024); err != nil {
		t.Fatal(err)
	}
	u32 := func(off int) uint32 { return le.Uint32(sb[off:]) }
	stat := debugfs(t, g.path, "stat /d")
	g.ino, g.flag, g.size = field(t, stat, "Inode"), field(t, stat, "Flags"), int(field(t, stat, "Size"))
	id := make([]byte, 8)
	le.PutUint32(id, g.ino)
	le.PutUint32(id[4:], field(t, stat, "Generation"))
	g.p = &Params{
		BlockSize: 1024 << u32(0x18),
		FileType:  u32(0x60)&2 != 0,
		LargeDir:  u32(0x60)&0x4000 != 0,
		Checksums: u32(0x64)&0x400 != 0,
		Index:     u32(0x5c)&0x20 != 0,
		Seed:      crc.C(crc.C(1<<32-1, sb[0x68:0x78]), id),

		HashVersion: sb[0xfc], HashUnsigned: u32(0x160)&2 != 0,
		HashSeed: [4]uint32{u32(0xec), u32(0xf0), u32(0xf4), u32(0xf8)},
	}
	g.disk = nil
	for _, m := range regexp.MustCompile(`(?m)^ *(\d+)/ *(\d+) +\d+/ *\d+ +(\d+) - +(\d+) +(\d+) - `).FindAllStringSubmatch(debugfs(t, g.path, "ex -l /d"), -1) {
		from, _ := strconv.Atoi(m[3])
		to, _ := strconv.Atoi(m[4])
		at, _ := strconv.ParseInt(m[5], 10, 64)
		if from != len(g.disk) {
			t.Fatalf("extent from %d after %d blocks", from, len(g.disk))
		}
		for i := from; i <= to; i++ {
			g.disk = append(g.disk, at+int64(i-from))
		}
	}
	if g.size != len(g.disk)*g.p.BlockSize {
		t.Fatalf("%d bytes in %d blocks", g.size, len(g.disk))
	}
	m := &mem{}
	for _, d := range g.disk {
		b := make([]byte, g.p.BlockSize)
		if _, err := f.ReadAt(b, d*int64(len(b))); err != nil {
			t.Fatal(err)
		}
		m.blocks = append(m.blocks, b)
	}
	return m
}

func (g *image) indexed() bool { return g.p.Index && g.flag&flagIndex != 0 }

// grow gives the directory blocks, so that we may use them; debugfs allocates.
func (g *image) grow(t testing.TB, blocks int) {
	t.Helper()
	g.debugfs(t, strings.Repeat("expand_dir /d\n", max(0, blocks-len(g.disk))))
	g.load(t)
}

// debugfs runs commands that change the image.
func (g *image) debugfs(t testing.TB, cmds ...string) {
	t.Helper()
	testneed.Debugfs(t, g.path, cmds...)
}

// store writes a directory to a copy of the image, and gives back the blocks it does
// not need.
func (g *image) store(t testing.TB, m *mem, indexed bool) *image {
	t.Helper()
	if len(m.blocks) > len(g.disk) {
		t.Fatalf("%d blocks, the image has %d", len(m.blocks), len(g.disk))
	}
	to := &image{path: testneed.Copy(t, g.path)}
	f, err := os.OpenFile(to.path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i, b := range m.blocks {
		if _, err := f.WriteAt(b, g.disk[i]*int64(len(b))); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	flag := g.flag &^ flagIndex
	if indexed {
		flag |= flagIndex
	}
	cmds := []string{fmt.Sprintf("sif /d flags 0x%x", flag), fmt.Sprintf("sif /d size %d", len(m.blocks)*g.p.BlockSize)}
	if len(m.blocks) < len(g.disk) {
		cmds = append(cmds, fmt.Sprintf("punch /d %d", len(m.blocks)))
	}
	to.debugfs(t, cmds...)
	testneed.Fsck(t, to.path)
	to.load(t)
	return to
}
