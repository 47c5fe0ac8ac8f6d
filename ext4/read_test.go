package ext4

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"
)

// The images of testdata/images have this tree (TestMakeFuzzImages).

func TestFiles(t *testing.T) {
	for _, kind := range fuzzImages {
		im := openBytes(t, loadFuzzImage(t, kind.name))
		f, err := im.Open("holes")
		if err != nil {
			t.Fatal(err)
		}
		want := make([]byte, 300<<10+3)
		for i := range 12 {
			copy(want[i*4096:], "data")
		}
		copy(want[300<<10:], "far")
		if got, err := im.ReadFile("holes"); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", kind.name, len(got), err)
		}
		if kind.name == "ext4" {
			if err := iotest.TestReader(f, want); err != nil {
				t.Error(err)
			}
		}
		if _, err := f.(io.Seeker).Seek(0, io.SeekStart); err != nil {
			t.Error(err)
		}
		var b bytes.Buffer
		if n, err := io.Copy(&b, f); err != nil || n != int64(len(want)) || !bytes.Equal(b.Bytes(), want) {
			t.Errorf("%s: copied %d bytes, %v", kind.name, n, err)
		}
		r := f.(io.ReaderAt)
		for _, off := range []int{0, 1, 4095, 4096, 300<<10 - 1, 300<<10 + 2} {
			p := make([]byte, 5000)
			n, err := r.ReadAt(p, int64(off))
			if end := min(off+5000, len(want)); !bytes.Equal(p[:n], want[off:end]) || (err == io.EOF) != (off+5000 > len(want)) || err != nil && err != io.EOF {
				t.Errorf("%s: %d bytes at %d, %v", kind.name, n, off, err)
			}
		}
		if _, err := r.ReadAt(make([]byte, 1), -1); !errors.Is(err, fs.ErrInvalid) {
			t.Error(err)
		}
		if _, err := f.(fs.ReadDirFile).ReadDir(-1); !errors.Is(err, errNotDir) {
			t.Error(err)
		}
	}
}

func TestDirectories(t *testing.T) {
	im := openBytes(t, loadFuzzImage(t, "inline"))
	for name, n := range map[string]int{"many": 60, "dir": 2, "dir/sub/up/many": 60} {
		f, err := im.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		d := f.(fs.ReadDirFile)
		last, count := "", 0
		for {
			list, err := d.ReadDir(7)
			for _, e := range list {
				if e.Name() <= last {
					t.Errorf("%q after %q", e.Name(), last)
				}
				last = e.Name()
			}
			count += len(list)
			if err == io.EOF {
				break
			}
			if err != nil || len(list) == 0 || len(list) > 7 {
				t.Fatal(len(list), err)
			}
		}
		if list, err := d.ReadDir(0); count != n || len(list) != 0 || err != nil {
			t.Errorf("%s: %d entries, then %d, %v", name, count, len(list), err)
		}
		if _, err := f.Read(nil); !errors.Is(err, errIsDir) {
			t.Error(err)
		}
		d.(io.Seeker).Seek(0, io.SeekStart)
		if list, err := d.ReadDir(-1); len(list) != n || err != nil {
			t.Errorf("%s: %d entries, %v", name, len(list), err)
		}
	}
}

func TestNamesAndLinks(t *testing.T) {
	im := openBytes(t, loadFuzzImage(t, "ext4"))
	for name, want := range map[string]error{
		"soft": nil, "dir/sub/up/soft": nil, "dir/sub/up/dir/sub/up/hard": nil, ".": nil,
		"": fs.ErrInvalid, "/": fs.ErrInvalid, "/soft": fs.ErrInvalid, "dir/": fs.ErrInvalid, "dir//file": fs.ErrInvalid,
		"./soft": fs.ErrInvalid, "dir/..": fs.ErrInvalid, "..": fs.ErrInvalid,
		"none": fs.ErrNotExist, "dir/none": fs.ErrNotExist, "no\x00ne": fs.ErrNotExist, "\xff": fs.ErrNotExist, "long-soft": fs.ErrNotExist,
		"hard/file": errNotDir, "soft/file": errNotDir, "null/x": errNotDir,
		strings.Repeat("n", 255): fs.ErrNotExist, strings.Repeat("n", 256): errTooLong,
	} {
		_, statErr := im.Stat(name)
		f, openErr := im.Open(name)
		for _, err := range []error{statErr, openErr} {
			var p *fs.PathError
			if !errors.Is(err, want) || err != nil && (!errors.As(err, &p) || name != "" && p.Path != name) {
				t.Errorf("%q: %v, want %v", name, err, want)
			}
		}
		if openErr != nil && f != nil {
			t.Errorf("%q: a file with an error", name)
		}
	}
	if b, err := im.ReadFile("dir/sub/up/soft"); err != nil || string(b) != "hello\n" {
		t.Errorf("%q, %v", b, err)
	}
	if target, err := im.ReadLink("long-soft"); err != nil || target != strings.Repeat("t/", 100) {
		t.Errorf("%q, %v", target, err)
	}
	if _, err := im.ReadLink("dir"); !errors.Is(err, fs.ErrInvalid) {
		t.Error(err)
	}
	if _, err := im.ReadFile("dir"); !errors.Is(err, errIsDir) {
		t.Error(err)
	}
	if b, err := im.ReadFile("null"); err != nil || len(b) != 0 {
		t.Errorf("%q, %v", b, err)
	}
}

func TestLinksInCircles(t *testing.T) {
	im := openBytes(t, crafted(t, "symlink a b\nsymlink b a\nsymlink c c\nsymlink d d/d\nsymlink up ../../../e\nmkdir e\nsymlink abs /e/f\nmkdir e/f\n"))
	for name, want := range map[string]error{"a": errLoop, "b/x": errLoop, "c": errLoop, "d": errLoop, "up": nil, "up/f": nil, "abs": nil} {
		if _, err := im.Stat(name); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
		if _, err := im.ReadDir(name); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
}

func TestStatIsAllOfTheInode(t *testing.T) {
	im := openBytes(t, loadFuzzImage(t, "ext4"))
	info, err := im.Stat("xattrs")
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*Stat)
	if info.Mode() != st.FileMode() || info.Mode().Perm() != 0o770 || st.Links != 1 || st.Ino < 11 || st.Blocks == 0 || !info.ModTime().Equal(st.Mtime) ||
		time.Since(st.Mtime) < 0 || st.Flags&0x80000 == 0 {
		t.Errorf("%v: %+v", info, st)
	}
	attrs, err := im.Xattrs("xattrs")
	if err != nil || len(attrs) != 5 || !bytes.Equal(attrs["user.x2"], noise(140)) ||
		!bytes.Equal(attrs["system.posix_acl_access"], aclBytes(0x01, 7, 0x02, 5, 1000, 0x04, 5, 0x10, 7, 0x20, 0)) {
		t.Errorf("%q, %v", attrs, err)
	}
	for name, mode := range map[string]fs.FileMode{"null": fs.ModeDevice | fs.ModeCharDevice, "fifo": fs.ModeNamedPipe, "soft": fs.ModeSymlink, "dir": fs.ModeDir} {
		if info, err := im.Lstat(name); err != nil || info.Mode().Type() != mode {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if info, _ := im.Lstat("soft"); info.Sys().(*Stat).Target != "dir/file" || info.Size() != 8 {
		t.Error(info)
	}
	if info, _ := im.Lstat("null"); info.Sys().(*Stat).Major != 1 || info.Sys().(*Stat).Minor != 3 {
		t.Error(info)
	}
}

func TestStatsOfAnImage(t *testing.T) {
	s := openBytes(t, loadFuzzImage(t, "inline")).Stats()
	if s.BlockSize != 1024 || s.Blocks != 400 || s.Inodes < 90 || s.FreeInodes == 0 || s.FreeBlocks == 0 || s.FreeBlocks > 400 || s.Groups != 1 ||
		!s.Clean || s.Errors || s.NeedsRecovery || s.JournalSize != 0 || s.UUID[0] != 0xa0 || s.InodeSize != 256 || s.Created.IsZero() || !s.Mounted.IsZero() {
		t.Errorf("%+v", s)
	}
	features := strings.Join(s.Features, " ")
	for _, f := range []string{"inline_data", "meta_bg", "ea_inode", "metadata_csum", "extent", "64bit"} {
		if !strings.Contains(features, f) {
			t.Errorf("no %s in %s", f, features)
		}
	}
}

// Many readers at once see what one does.
func TestConcurrentReaders(t *testing.T) {
	im := openBytes(t, loadFuzzImage(t, "ext3"))
	one := treeText(t, im)
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for range 5 {
				if got := treeText(t, im); got != one {
					t.Error("another tree")
				}
			}
		})
	}
	f, err := im.Open("holes")
	if err != nil {
		t.Fatal(err)
	}
	for range 4 {
		wait.Go(func() { io.CopyN(io.Discard, f, 1000) })
	}
	wait.Wait()
}

func treeText(t *testing.T, im *Image) string {
	var b strings.Builder
	err := fs.WalkDir(im, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := im.Lstat(name)
		if err != nil {
			return err
		}
		b.WriteString(name + " " + fs.FormatFileInfo(info) + "\n")
		if d.Type().IsRegular() {
			content, err := im.ReadFile(name)
			b.Write(content)
			return err
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return b.String()
}
