package ext4

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"banger/internal/base/testneed"
)

func isFeature(name string) func(error) bool {
	return func(err error) bool {
		var f *FeatureError
		return errors.As(err, &f) && strings.Contains(f.Error(), name)
	}
}

// TestEditRefused: what cannot be edited is refused by name, and nothing is written.
func TestEditRefused(t *testing.T) {
	for _, c := range []struct {
		name, args string
		change     func(b []byte) // of the superblock
		is         func(error) bool
	}{
		{"no journal", "-O ^has_journal", nil, func(err error) bool { return errors.Is(err, ErrNoJournal) }},
		{"quota", "-O quota", nil, isFeature("quota")},
		{"bigalloc", "-O bigalloc -C 4096", nil, isFeature("bigalloc")},
		{"encrypt", "-O encrypt", nil, isFeature("encrypt")},
		{"casefold", "-O casefold", nil, isFeature("casefold")},
		{"mmp", "-O mmp", nil, isFeature("mmp")},
		{"unknown compat", "-O ^metadata_csum", func(b []byte) { b[0x5f] = 0x40 }, isFeature("compat bit 0x40000000")},
		{"unknown incompat", "-O ^metadata_csum", func(b []byte) { b[0x63] = 0x40 }, isFeature("incompat bit 0x40000000")},
		{"unknown ro_compat", "-O ^metadata_csum", func(b []byte) { b[0x67] = 0x40 }, isFeature("ro_compat bit 0x40000000")},
		{"read-only", "-O ^metadata_csum", func(b []byte) { b[0x65] |= 0x10 }, isFeature("read-only")},
		{"shared blocks", "-O ^metadata_csum", func(b []byte) { b[0x65] |= 0x40 }, isFeature("shared_blocks")},
		{"errors", "-O ^metadata_csum", func(b []byte) { b[0x3a] |= 2 }, func(err error) bool { return errors.Is(err, ErrCorrupt) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := mkfsImage(t, strings.Replace("-t ext4 -b 1024 -N 64 -J size=1 "+c.args, "-J size=1 -O ^has", "-O ^has", 1), 8)
			b, err := os.ReadFile(path)
			must(t, err)
			if c.change != nil {
				c.change(b[1024:])
			}
			r := newRecorder(b)
			x, err := Edit(r, int64(len(b)), nil)
			if err == nil {
				x.Close()
			}
			if !c.is(err) {
				t.Errorf("error %v", err)
			}
			if len(r.writes) > 0 {
				t.Errorf("%d writes", len(r.writes))
			}
		})
	}
	t.Run("cut short", func(t *testing.T) {
		path := mkfsImage(t, "-t ext4", 32)
		must(t, os.Truncate(path, 20<<20))
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		must(t, err)
		defer f.Close()
		if _, err := Edit(f, 20<<20, nil); !errors.Is(err, ErrCorrupt) {
			t.Error(err)
		}
	})
}

// TestRollback: a session that is given up has written nothing but contents to free blocks.
func TestRollback(t *testing.T) {
	path := mkfsImage(t, "-t ext4 -b 1024 -J size=1 -N 256", 8)
	plant(t, path)
	b, err := os.ReadFile(path)
	must(t, err)
	r := newRecorder(b)
	x, err := Edit(r, int64(len(b)), &testOptions)
	must(t, err)
	must(t, tenSteps(x))
	must(t, x.RemoveAll("/tree"))
	must(t, x.Rollback())
	if err := x.Mkdir("/late", Attr{}); !errors.Is(err, ErrClosed) {
		t.Errorf("mkdir after rollback: %v", err)
	}
	if err := x.Commit(); !errors.Is(err, ErrClosed) {
		t.Errorf("commit after rollback: %v", err)
	}
	if d := linesOf(t, &r.patched).diff(linesOf(t, newPatched(b))); d != "" {
		t.Error(d)
	}
	must(t, os.WriteFile(path, r.whole(), 0o600))
	quiet(t, path)
}

// TestFailedStep: a step that fails half-way leaves the session as it was, and the rest
// of it can be committed.
func TestFailedStep(t *testing.T) {
	path := mkfsImage(t, "-t ext4 -b 1024 -J size=1 -N 256", 8)
	plant(t, path)
	session(t, path, func(x *Tx) {
		must(t, x.WriteFile("/keep", strings.NewReader("kept"), Attr{Mode: 0o644}))
		before := mustManifest(t, x.FS())
		for name, err := range map[string]error{
			"a reader's error":         x.WriteFile("/tree/large", io.MultiReader(bytes.NewReader(pattern(1, 3<<20)), iotestErr{}), Attr{}),
			"no space":                 x.WriteFile("/tree/large", bytes.NewReader(make([]byte, 20<<20)), Attr{}),
			"a parent that is missing": x.Mkdir("/none/x", Attr{}),
			"below itself":             x.Rename("/tree", "/tree/dir/x"),
			"not empty":                x.Remove("/tree"),
			"the root":                 x.Remove("/"),
			"a name too long":          x.Mkdir("/"+strings.Repeat("x", 256), Attr{}),
			"a bad name":               x.Mkdir("/a\x00b", Attr{}),
			"a large attribute":        x.SetXattr("/keep", "user.x", make([]byte, 5000)),
			"a bad ACL":                x.SetXattr("/keep", accessACL, []byte{2, 0, 0, 0, 1}),
		} {
			if err == nil {
				t.Errorf("%s: no error", name)
			}
			var p *fs.PathError
			if !errors.As(err, &p) {
				t.Errorf("%s: %T", name, err)
			}
		}
		if d := mustManifest(t, x.FS()).diff(before); d != "" {
			t.Error(d)
		}
	})
	quiet(t, path)
}

type iotestErr struct{}

func (iotestErr) Read([]byte) (int, error) { return 0, errors.New("the source is broken") }

// TestNoSpace fills an image to the last block and the last inode.
func TestNoSpace(t *testing.T) {
	path := mkfsImage(t, "-t ext4 -b 1024 -J size=1 -N 64", 8)
	session(t, path, func(x *Tx) {
		var err error
		for i := 0; err == nil; i++ {
			err = x.WriteFile(fmt.Sprintf("/f%d", i), bytes.NewReader(pattern(i, 1<<20)), Attr{})
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Error(err)
		}
		for size := 1 << 19; size > 0; size /= 2 {
			for x.WriteFile(fmt.Sprintf("/s%d", size), bytes.NewReader(pattern(size, size)), Attr{}) == nil && size > 1000 {
				size /= 2
			}
		}
	})
	quiet(t, path)
	session(t, path, func(x *Tx) {
		must(t, x.Remove("/f0"))
		err := x.WriteFile("/g", bytes.NewReader(pattern(1, 1<<20)), Attr{})
		if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "after its commit") {
			t.Errorf("blocks that were freed: %v", err)
		}
	})
	quiet(t, path)
	session(t, path, func(x *Tx) {
		must(t, x.WriteFile("/g", bytes.NewReader(pattern(1, 1<<19)), Attr{}))
		var err error
		for i := 0; err == nil; i++ {
			err = x.Symlink("x", fmt.Sprintf("/l%d", i), Attr{})
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Error(err)
		}
	})
	quiet(t, path)
}

// TestTooLarge: a transaction that the journal cannot hold is refused, and changes
// nothing.
func TestTooLarge(t *testing.T) {
	path := mkfsImage(t, "-t ext4 -b 1024 -J size=1 -N 8192 -I 1024", 32)
	before, err := os.ReadFile(path)
	must(t, err)
	x := begin(t, path)
	for i := range 1500 {
		must(t, x.Symlink("x", fmt.Sprintf("/l%d", i), Attr{}))
	}
	if err := x.Commit(); !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "room for") {
		t.Error(err)
	}
	after, err := os.ReadFile(path)
	must(t, err)
	if !bytes.Equal(before, after) {
		t.Error("the image has changed")
	}
}

// TestOpenWriters: files that are still written stop a commit, and changes of them.
func TestOpenWriters(t *testing.T) {
	path := mkfsImage(t, "-t ext4 -b 1024 -J size=1 -N 256", 8)
	plant(t, path)
	x := begin(t, path)
	defer x.Close()
	w, err := x.Modify("/tree/large")
	must(t, err)
	for name, err := range map[string]error{
		"remove":   x.Remove("/tree/large"),
		"truncate": x.Truncate("/tree/large", 0),
		"write":    x.WriteFile("/tree/large", strings.NewReader(""), Attr{}),
		"tree":     x.RemoveAll("/tree"),
		"rename":   x.Rename("/tree/3", "/tree/large"),
	} {
		if !errors.Is(err, syscall.EBUSY) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := x.Commit(); err == nil || !strings.Contains(err.Error(), "/tree/large") {
		t.Errorf("commit: %v", err)
	}
	must(t, w.Close())
	if _, err := w.Write(nil); !errors.Is(err, ErrClosed) {
		t.Errorf("write after close: %v", err)
	}
	must(t, x.Commit())
	quiet(t, path)
}

// TestContentsOfSession reads what a session has written before it is committed.
func TestContentsOfSession(t *testing.T) {
	path := mkfsImage(t, "-t ext4", 32)
	session(t, path, func(x *Tx) {
		must(t, x.MkdirAll("/usr/lib", Attr{Mode: 0o755}))
		must(t, x.Symlink("/usr/lib", "/lib", Attr{}))
		must(t, x.WriteFile("lib/../../lib/x", strings.NewReader("text"), Attr{Mode: 0o4755, UID: 7, ModTime: time.Unix(5, 6)}))
		b, err := x.ReadFile("/usr/lib/x")
		must(t, err)
		if string(b) != "text" {
			t.Errorf("%q", b)
		}
		for p, want := range map[string]bool{"/usr/lib/x": true, "/lib/x": true, "../../lib/x": true, "/": true, "/lib/y": false, "/no/y": false} {
			if got, err := x.Exists(p); got != want || err != nil {
				t.Errorf("%s: %v, %v", p, got, err)
			}
		}
		info, err := x.Stat("/lib/x")
		must(t, err)
		if s := info.Sys().(*Stat); info.Mode() != fs.ModeSetuid|0o755 || s.UID != 7 || !info.ModTime().Equal(time.Unix(5, 6)) {
			t.Errorf("%v %+v", info, s)
		}
		if target, err := x.ReadLink("/lib"); target != "/usr/lib" || err != nil {
			t.Error(target, err)
		}
		list, err := x.ReadDir("/lib")
		if err != nil || len(list) != 1 {
			t.Error(list, err)
		}
		if err := x.SetXattr("/lib/x", "user.k", nil); err != nil {
			t.Error(err)
		}
		if m, err := x.Xattrs("/usr/lib/x"); err != nil || len(m) != 1 {
			t.Error(m, err)
		}
	})
	quiet(t, path)
}

// TestEditFormatted edits what Format makes.
func TestEditFormatted(t *testing.T) {
	for _, size := range []int64{4 << 20, 100 << 20, 3 << 30} {
		path := t.TempDir() + "/image"
		f, err := os.Create(path)
		must(t, err)
		must(t, Format(f, &Options{Size: size}))
		f.Close()
		session(t, path, func(x *Tx) { must(t, tenSteps(x)) })
		quiet(t, path)
		session(t, path, func(x *Tx) {
			for i := range 1000 {
				must(t, x.WriteFile(fmt.Sprintf("/new/file with a name %d", i), strings.NewReader("x"), Attr{}))
				if i == 200 && size < 10<<20 {
					break // as many inodes as there are
				}
			}
		})
		quiet(t, path)
	}
}

// TestOrphanCut: a file that was being cut when the system stopped is cut.
func TestOrphanCut(t *testing.T) {
	for _, args := range []string{"-t ext4 -b 1024 -J size=1 -N 256", "-t ext3 -b 1024 -J size=1 -N 256"} {
		path := mkfsImage(t, args, 8)
		session(t, path, func(x *Tx) {
			must(t, x.WriteFile("/cut", bytes.NewReader(pattern(1, 100_000)), Attr{Mode: 0o644}))
		})
		x := begin(t, path)
		info, err := x.Stat("/cut")
		must(t, err)
		x.Close()
		testneed.Run(t, "debugfs", "-w", "-R", fmt.Sprintf("ssv last_orphan %d", info.Sys().(*Stat).Ino), path)
		testneed.Run(t, "debugfs", "-w", "-R", "sif /cut size 10001", path)
		session(t, path, func(x *Tx) {
			b, err := x.ReadFile("/cut")
			if err != nil || !bytes.Equal(b, pattern(1, 100_000)[:10001]) {
				t.Errorf("%d bytes, %v", len(b), err)
			}
			if info, _ := x.Stat("/cut"); info.Sys().(*Stat).Blocks != 20 {
				t.Errorf("%d sectors", info.Sys().(*Stat).Blocks)
			}
		})
		quiet(t, path)
	}
}

// TestEditManySubdirs takes a directory's count of links over its limit and back.
func TestEditManySubdirs(t *testing.T) {
	if os.Getenv("BANGER_EXT4_SEED") == "" {
		t.Skip("makes 65,100 directories: only in a long run, with BANGER_EXT4_SEED")
	}
	path := mkfsImage(t, "-t ext4 -b 1024 -N 70000 -J size=32", 400)
	links := func() uint16 {
		x := begin(t, path)
		defer x.Close()
		info, err := x.Stat("/many")
		must(t, err)
		return info.Sys().(*Stat).Links
	}
	const most = 65_100
	for n := 0; n < most; {
		session(t, path, func(x *Tx) {
			must(t, x.Mkdir("/many", Attr{}))
			for range 5000 {
				if n < most {
					must(t, x.Mkdir(fmt.Sprintf("/many/%d", n), Attr{}))
					n++
				}
			}
		})
	}
	if n := links(); n != 1 {
		t.Errorf("%d links with %d subdirectories", n, most)
	}
	quiet(t, path)
	session(t, path, func(x *Tx) {
		for n := range 2000 {
			must(t, x.Remove(fmt.Sprintf("/many/%d", n)))
		}
	})
	quiet(t, path)
}
