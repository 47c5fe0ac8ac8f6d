package jbd2

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"banger/ext4/internal/crc"
)

// tool returns the path of a program of e2fsprogs.
func tool(t testing.TB, name string) string {
	t.Helper()
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin") {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path
		}
	}
	missing(t, "tools", "there is no "+name+": apt-get install e2fsprogs")
	return ""
}

// missing ends a test with a skip, or a failure where its word is required.
func missing(t testing.TB, word, why string) {
	t.Helper()
	if slices.Contains(strings.Split(os.Getenv("BANGER_TEST_REQUIRE"), ","), word) {
		t.Fatal(why)
	}
	t.Skip(why)
}

// run runs a program; ok are the exit codes that are no failure besides 0.
func run(t testing.TB, ok []int, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(tool(t, name), args...)
	out, err := cmd.CombinedOutput()
	if err != nil && !slices.Contains(ok, cmd.ProcessState.ExitCode()) {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// debugfs runs commands on an image and fails if one of them does; debugfs itself
// exits with 0.
func debugfs(t testing.TB, image string, commands ...string) string {
	t.Helper()
	script := filepath.Join(t.TempDir(), "commands")
	if err := os.WriteFile(script, []byte(strings.Join(commands, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return run(t, nil, "debugfs", "-w", "-f", script, image)
}

// mkfs makes an image of 32 MiB with a journal.
func mkfs(t testing.TB, size int, options string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 32<<20); err != nil {
		t.Fatal(err)
	}
	run(t, nil, "mke2fs", "-q", "-F", "-t", "ext4", "-b", strconv.Itoa(size), "-J", "size=4", "-O", options, path)
	return path
}

// copyImage copies an image as it is now, with holes for zeros.
func copyImage(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "copy"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zero := make([]byte, 64<<10)
	for off := 0; off < len(b); off += len(zero) {
		if part := b[off:min(off+len(zero), len(b))]; !bytes.Equal(part, zero[:len(part)]) {
			if _, err := f.WriteAt(part, int64(off)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := f.Truncate(int64(len(b))); err != nil {
		t.Fatal(err)
	}
	return f.Name()
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

func openImage(t testing.TB, path string, size int) (*image, *Journal) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	i := &image{File: f, size: size}
	var ask []string
	_, stat, _ := strings.Cut(debugfs(t, path, "stat <8>"), " Size: ")
	var length int
	fmt.Sscan(stat, &length)
	for n := range length / size {
		ask = append(ask, fmt.Sprintf("bmap <8> %d", n))
	}
	for line := range strings.Lines(debugfs(t, path, ask...)) {
		if n, err := strconv.ParseUint(strings.TrimSpace(line), 10, 64); err == nil {
			i.places = append(i.places, n)
		}
	}
	if len(i.places) != len(ask) {
		t.Fatalf("%d of the journal's %d blocks found", len(i.places), len(ask))
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

// judge replays one copy of an image by Replay and another by e2fsck and compares.
func judge(t *testing.T, path string, size int) (replayed int) {
	t.Helper()
	theirs := copyImage(t, path)
	// 1: it changed something. The check that follows the replay is not run: the
	// blocks logged here are not those of a sane file system.
	run(t, []int{1}, "e2fsck", "-y", "-E", "journal_only", theirs)
	ours, j := openImage(t, copyImage(t, path), size)
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
