package jbd2

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"banger/ext4/internal/crc"
	"banger/internal/base/testneed"
)

// mkfs makes an image of 32 MiB with a journal.
func mkfs(t testing.TB, size int, options string) string {
	t.Helper()
	path := filepath.Join(testneed.Memory(t), "image")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 32<<20); err != nil {
		t.Fatal(err)
	}
	testneed.Run(t, "mke2fs", "-q", "-F", "-t", "ext4", "-b", strconv.Itoa(size), "-J", "size=4", "-O", options, path)
	return path
}

// image is an image file as a Device.
type image struct {
	*os.File
	size   int
	places []uint64 // of the journal's blocks
}

func (i *image) ReadBlocks(n uint64, b []byte) error {
	_, err := i.ReadAt(b, int64(n)*int64(i.size))
	return err
}

func (i *image) WriteBlocks(n uint64, b []byte) error {
	_, err := i.WriteAt(b, int64(n)*int64(i.size))
	return err
}

// Sync does not wait for the disk: no test pulls the plug.
func (i *image) Sync() error { return nil }

// placesOf finds "(0-63):1201-1264" and "(64):1300", which debugfs says of a file with
// extents.
var placesOf = regexp.MustCompile(`\((\d+)(?:-(\d+))?\):(\d+)`)

func openImage(t testing.TB, path string, size int) (*image, *Journal) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	i := &image{File: f, size: size}
	stat, length := testneed.Run(t, "debugfs", "-R", "stat <8>", path), 0
	if _, after, ok := strings.Cut(stat, " Size: "); ok {
		fmt.Sscan(after, &length)
	}
	for _, m := range placesOf.FindAllStringSubmatch(stat, -1) {
		first, _ := strconv.Atoi(m[1])
		last, _ := strconv.Atoi(cmp.Or(m[2], m[1]))
		place, _ := strconv.ParseUint(m[3], 10, 64)
		if first != len(i.places) {
			t.Fatalf("block %d of the journal comes after %d of them", first, len(i.places))
		}
		for n := range last - first + 1 {
			i.places = append(i.places, place+uint64(n))
		}
	}
	if len(i.places) == 0 || len(i.places) != length/size {
		t.Fatalf("%d of the journal's %d blocks found", len(i.places), length/size)
	}
	at := func(n uint32) (uint64, error) { return i.places[n], nil }
	j, err := Open(i, at, Config{size, uint32(len(i.places)), uint64(32<<20) / uint64(size)})
	if err != nil {
		t.Fatal(err)
	}
	return i, j
}

// recovery sets or clears needs_recovery in the superblock of ext4, without which
// nobody looks at the log.
func (i *image) recovery(t testing.TB, set bool) {
	t.Helper()
	sb := make([]byte, 1024)
	if _, err := i.ReadAt(sb, 1024); err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	f := le.Uint32(sb[0x60:]) &^ 4 // s_feature_incompat
	if set {
		f |= 4
	}
	le.PutUint32(sb[0x60:], f)
	if le.Uint32(sb[0x64:])&0x400 != 0 { // metadata_csum
		le.PutUint32(sb[1020:], crc.C(^uint32(0), sb[:1020]))
	}
	if _, err := i.WriteAt(sb, 1024); err != nil {
		t.Fatal(err)
	}
}

// same compares two images, but for the superblock of ext4, which e2fsck and the
// kernel stamp with the time and from which they remove needs_recovery: that is not
// this package's; and for the blocks in but.
func same(t *testing.T, a, b *image, but []uint64) {
	t.Helper()
	all := func(i *image) []byte {
		b, err := os.ReadFile(i.Name())
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	p, q := all(a), all(b)
	for n := range len(p) / a.size {
		x, y := p[n*a.size:][:a.size], q[n*a.size:][:a.size]
		if n == 1024/a.size {
			off := 1024 % a.size
			clear(x[off : off+1024])
			clear(y[off : off+1024])
		}
		if !bytes.Equal(x, y) && !slices.Contains(but, uint64(n)) {
			at := slices.IndexFunc(x, func(byte) bool { return true })
			for at < len(x) && x[at] == y[at] {
				at++
			}
			t.Errorf("block %d differs at %#x: %x, %x (journal: %v)", n, at, x[at:min(at+16, len(x))], y[at:min(at+16, len(y))],
				slices.Index(a.places, uint64(n)))
		}
	}
}

// replayByE2fsck has e2fsck replay a journal, which is status 1, and check nothing more:
// the blocks that tests log are not those of a sane file system.
func replayByE2fsck(t testing.TB, path string) {
	t.Helper()
	if out, status := testneed.Status(t, "e2fsck", "-y", "-E", "journal_only", path); status > 1 || status < 0 {
		t.Fatalf("e2fsck: exit status %d\n%s", status, out)
	}
}

// judge replays one copy of an image by Replay and another by e2fsck and compares.
func judge(t *testing.T, path string, size int) (replayed int) {
	t.Helper()
	theirs := testneed.Copy(t, path)
	replayByE2fsck(t, theirs)
	ours, j := openImage(t, testneed.Copy(t, path), size)
	n, err := j.Replay()
	if err != nil {
		t.Fatal(err)
	}
	i, _ := openImage(t, theirs, size)
	same(t, ours, i, nil)
	return n
}

// Log and Clean of a session's blocks in a file in the page cache.
func BenchmarkLogToFile(b *testing.B) {
	i, j := openImage(b, mkfs(b, 4096, "metadata_csum,64bit"), 4096)
	defer i.Close()
	if err := j.Upgrade(true); err != nil {
		b.Fatal(err)
	}
	blocks := versions(4096, 1, freeBlocks(4096, 15)...)
	b.ReportAllocs()
	for b.Loop() {
		if err := j.Log(blocks); err != nil {
			b.Fatal(err)
		}
		if err := j.Clean(); err != nil {
			b.Fatal(err)
		}
	}
}
