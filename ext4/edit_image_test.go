package ext4

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"banger/internal/base/testneed"
)

// editImages are file systems as mke2fs makes them, one for each form that metadata
// can have.
var editImages = []struct {
	name string
	args string
	mib  int
}{
	{"default", "-t ext4", 64},
	{"4k", "-t ext4 -b 4096 -O metadata_csum_seed,orphan_file", 64},
	{"1k", "-t ext4 -b 1024 -g 1024 -N 2048 -O ^resize_inode,^metadata_csum,uninit_bg", 32},
	{"64k", "-t ext4 -b 65536 -F", 160},
	{"no64bit", "-t ext4 -b 4096 -O ^64bit,^flex_bg", 64},
	{"meta_bg", "-t ext4 -b 1024 -g 2048 -O meta_bg,^resize_inode", 48},
	{"sparse2", "-t ext4 -b 2048 -O sparse_super2,large_dir,^dir_nlink", 64},
	{"nosums", "-t ext4 -b 4096 -O ^metadata_csum,^uninit_bg,^huge_file,^extra_isize -I 128", 64},
	{"lazy", "-t ext4 -b 4096 -g 8192 -E lazy_itable_init=1,lazy_journal_init=1", 200},
	{"inline", "-t ext4 -b 4096 -O inline_data,ea_inode", 64},
	{"ext3", "-t ext3 -b 1024", 32},
	{"ext2", "-t ext2 -b 1024 -O ^dir_index", 16},
	{"ext4-nojournal", "-t ext4 -b 1024 -O ^has_journal", 16},
}

// mkfsImage makes an image; the result is its path.
func mkfsImage(t testing.TB, args string, mib int) string {
	t.Helper()
	path := filepath.Join(testneed.Memory(t), "image")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(int64(mib) << 20); err != nil {
		t.Fatal(err)
	}
	f.Close()
	list := append([]string{"-q", "-F", "-E", "nodiscard"}, strings.Fields(args)...)
	testneed.Run(t, "mke2fs", append(list, path)...)
	return path
}

var fixedTime = time.Unix(1_700_000_000, 123456789)

var testOptions = EditOptions{NoSync: true, WithoutJournal: true, Now: func() time.Time { return fixedTime }}

// begin opens an image to edit.
func begin(t testing.TB, path string) *Tx {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	x, err := Edit(f, info.Size(), &testOptions)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// session makes one edit session.
func session(t testing.TB, path string, f func(x *Tx)) {
	t.Helper()
	x := begin(t, path)
	defer x.Close()
	f(x)
	if err := x.Commit(); err != nil {
		t.Fatalf("commit: %v", err)
	}
}

// fsckLine is what e2fsck says of a file system without faults.
var fsckLine = regexp.MustCompile(`^(|e2fsck .*|Pass \d.*|.*: \d+/\d+ files .*)$`)

// quiet demands that e2fsck -fn finds nothing and says nothing.
func quiet(t testing.TB, path string) {
	t.Helper()
	out := testneed.Run(t, "e2fsck", "-fn", path)
	for _, line := range strings.Split(out, "\n") {
		if !fsckLine.MatchString(line) {
			t.Fatalf("e2fsck -fn remarks:\n%s", out)
		}
	}
}

// pattern is n bytes that are not the same in two blocks.
func pattern(seed, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(seed + i/512*7 + i*i)
	}
	return b
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestEditSteps does every kind of change on every form of file system, each in a
// session of its own, and has e2fsck judge it.
func TestEditSteps(t *testing.T) {
	for _, im := range editImages {
		t.Run(im.name, func(t *testing.T) {
			t.Parallel()
			path := mkfsImage(t, im.args, im.mib)
			a := Attr{Mode: 0o644, UID: 1000, GID: 100000}
			long := strings.Repeat("a/b", 70)
			steps := []struct {
				name string
				f    func(x *Tx) error
			}{
				{"root", func(x *Tx) error { return x.Mkdir("/", Attr{Mode: 0o750, UID: 1}) }},
				{"mkdir", func(x *Tx) error { return x.Mkdir("/d", Attr{Mode: 0o755}) }},
				{"mkdirall", func(x *Tx) error { return x.MkdirAll("/p/q/r", Attr{Mode: 0o755}) }},
				{"small", func(x *Tx) error { return x.WriteFile("/d/f", strings.NewReader("hello"), a) }},
				{"replace", func(x *Tx) error { return x.WriteFile("/d/f", bytes.NewReader(pattern(1, 300_000)), a) }},
				{"shrink", func(x *Tx) error { return x.Truncate("/d/f", 5000) }},
				{"grow", func(x *Tx) error { return x.Truncate("/d/f", 9_000_001) }},
				{"chmod", func(x *Tx) error { return x.Chmod("d/f", 0o4711) }},
				{"owner", func(x *Tx) error { return x.SetOwner("/d/f", 70000, 80000) }},
				{"times", func(x *Tx) error { return x.SetTimes("/d/f", fixedTime, time.Unix(1<<33, 5)) }},
				{"symlink", func(x *Tx) error { return x.Symlink("f", "/d/l", a) }},
				{"long symlink", func(x *Tx) error { return x.Symlink(long, "/d/long", a) }},
				{"through link", func(x *Tx) error { return x.WriteFile("/d/l", strings.NewReader("through"), a) }},
				{"link", func(x *Tx) error { return x.Link("/d/f", "/p/q/hard") }},
				{"char", func(x *Tx) error { return x.Mknod("/d/null", os.ModeDevice|os.ModeCharDevice, 1, 3, a) }},
				{"block", func(x *Tx) error { return x.Mknod("/d/sda", os.ModeDevice, 259, 70000, a) }},
				{"fifo", func(x *Tx) error { return x.Mknod("/d/fifo", os.ModeNamedPipe, 0, 0, a) }},
				{"socket", func(x *Tx) error { return x.Mknod("/d/sock", os.ModeSocket, 0, 0, a) }},
				{"xattr", func(x *Tx) error { return x.SetXattr("/d/f", "user.one", []byte("1")) }},
				{"large xattr", func(x *Tx) error { return x.SetXattr("/d/f", "user.large", pattern(2, 600)) }},
				{"xattr of root", func(x *Tx) error { return x.SetXattr("/", "user.root", pattern(2, 300)) }},
				{"less xattr", func(x *Tx) error { return x.RemoveXattr("/d/f", "user.large") }},
				{"streams", func(x *Tx) error {
					w, err := x.Create("/d/stream", a)
					if err != nil {
						return err
					}
					w.WriteAt(pattern(3, 100), 1_000_000)
					w.WriteAt(pattern(4, 70_000), 130_000)
					w.WriteAt(pattern(5, 10), 140_000)
					w.Truncate(2_000_000)
					return w.Close()
				}},
				{"modify", func(x *Tx) error {
					w, err := x.Modify("/d/stream")
					if err != nil {
						return err
					}
					w.WriteAt(pattern(6, 5000), 131_000)
					w.WriteAt(pattern(7, 3), 3_000_000)
					return w.Close()
				}},
				{"abort", func(x *Tx) error {
					w, err := x.Create("/d/none", a)
					if err != nil {
						return err
					}
					w.WriteAt(pattern(6, 500_000), 10)
					x.Chmod("/d", 0o711)
					return w.Abort()
				}},
				{"rename", func(x *Tx) error { return x.Rename("/d/f", "/d/g") }},
				{"rename over", func(x *Tx) error { return x.Rename("/d/stream", "/d/g") }},
				{"move dir", func(x *Tx) error { return x.Rename("/p/q", "/d/q") }},
				{"replace dir", func(x *Tx) error {
					if err := x.Mkdir("/empty", a); err != nil {
						return err
					}
					return x.Rename("/d/q/r", "/empty")
				}},
				{"many", func(x *Tx) error {
					for i := range 700 {
						if err := x.Mknod(fmt.Sprintf("/p/entry-with-a-name-%d", i), os.ModeNamedPipe, 0, 0, a); err != nil {
							return err
						}
					}
					return nil
				}},
				{"half of them", func(x *Tx) error {
					for i := range 350 {
						if err := x.Remove(fmt.Sprintf("/p/entry-with-a-name-%d", 2*i)); err != nil {
							return err
						}
					}
					return nil
				}},
				{"remove", func(x *Tx) error { return x.Remove("/d/q/hard") }},
				{"rmdir", func(x *Tx) error { return x.Remove("/empty") }},
				{"scattered", func(x *Tx) error {
					w, err := x.Create("/scattered", a)
					if err != nil {
						return err
					}
					for i := range 400 {
						if _, err := w.WriteAt([]byte{1}, int64(400-i)*200_000); err != nil {
							return err
						}
					}
					return w.Close()
				}},
				{"removeall", func(x *Tx) error { return x.RemoveAll("/p") }},
				{"rest", func(x *Tx) error {
					if err := x.RemoveAll("/scattered"); err != nil {
						return err
					}
					return x.RemoveAll("/d")
				}},
			}
			for i, s := range steps {
				session(t, path, func(x *Tx) {
					if err := s.f(x); err != nil {
						t.Fatalf("%s: %v", s.name, err)
					}
				})
				if im.name == "default" || i%5 == 4 || i == len(steps)-1 {
					t.Log(s.name)
					quiet(t, path)
				}
			}
		})
	}
}

// quietAfter is quiet for an image that has lost its lost+found, which e2fsck wants
// to make anew.
func quietAfter(t testing.TB, path string) {
	t.Helper()
	out, _ := testneed.Status(t, "e2fsck", "-fn", path)
	for _, line := range strings.Split(out, "\n") {
		if !fsckLine.MatchString(line) && !strings.Contains(line, "lost+found not found") && !strings.HasPrefix(line, path+": ***") {
			t.Fatalf("e2fsck -fn remarks:\n%s", out)
		}
	}
}

// opened opens an image to read it.
func opened(t testing.TB, path string) (*os.File, *Image) {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	info, err := f.Stat()
	must(t, err)
	im, err := Open(f, info.Size())
	must(t, err)
	return f, im
}
