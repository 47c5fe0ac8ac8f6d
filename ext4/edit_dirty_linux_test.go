package ext4

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"banger/internal/base/testneed"
)

// inUse mounts an image, lets f work on it, and returns a copy of the image taken while it
// is still mounted, as if the machine had been killed.
func inUse(t *testing.T, image, options string, f func(root string), after func()) (copied string, want treeLines) {
	t.Helper()
	copied = filepath.Join(testneed.Memory(t), "copy")
	testneed.Mounted(t, image, options, func(root string) {
		f(root)
		d, err := os.Open(root)
		must(t, err)
		defer d.Close()
		const sysSyncfs = 306 // of amd64; elsewhere sync does
		if _, _, e := syscall.Syscall(sysSyncfs, d.Fd(), 0, 0); e != 0 {
			syscall.Sync()
		}
		in, err := os.Open(image)
		must(t, err)
		defer in.Close()
		out, err := os.Create(copied)
		must(t, err)
		_, err = io.Copy(out, in)
		must(t, err)
		must(t, out.Close())
		want = kernelLines(t, root)
		after()
	})
	return copied, want
}

// TestEditDirty edits images of machines that were killed: the journal is to be replayed,
// and there are files that were deleted while they were open.
func TestEditDirty(t *testing.T) {
	testneed.Loop(t)
	for _, args := range []string{"-t ext4 -b 4096", "-t ext4 -b 1024 -O orphan_file", "-t ext3 -b 1024", "-t ext4 -b 4096 -O inline_data", "-t ext4 -b 4096 -O fast_commit"} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			image := mkfsImage(t, args, 64)
			var open []*os.File
			copied, want := inUse(t, image, "acl,user_xattr", func(root string) {
				for i := range 200 {
					name := filepath.Join(root, fmt.Sprint("file", i))
					must(t, os.WriteFile(name, pattern(i, i*100), 0o644))
					if i%3 == 0 {
						f, err := os.OpenFile(name, os.O_RDWR, 0)
						must(t, err)
						open = append(open, f)
						must(t, os.Remove(name))
					}
				}
				must(t, os.MkdirAll(filepath.Join(root, "dir/sub"), 0o755))
				must(t, os.WriteFile(filepath.Join(root, "dir/tiny"), []byte("tiny"), 0o600))
				must(t, os.Symlink("tiny", filepath.Join(root, "dir/link")))
				for i := range 30 {
					must(t, os.Remove(filepath.Join(root, fmt.Sprint("file", 1+i*3))))
				}
			}, func() {
				for _, f := range open {
					f.Close()
				}
			})
			edited := copied
			session(t, edited, func(x *Tx) {
				got := mustManifest(t, x.FS())
				for p := range got {
					if strings.HasPrefix(p, "lost+found") {
						delete(got, p)
					}
				}
				if d := got.diff(want); d != "" {
					t.Fatalf("before the edit: %s", d)
				}
				must(t, x.MkdirAll("/dir/a/b", Attr{Mode: 0o755}))
				must(t, x.WriteFile("/dir/tiny", bytes.NewReader(pattern(5, 10_000)), Attr{Mode: 0o600}))
				must(t, x.WriteFile("/dir/a/b/c", strings.NewReader("edited"), Attr{Mode: 0o600}))
				must(t, x.Remove("/file2"))
			})
			quiet(t, edited)
			f, im := opened(t, edited)
			lines := mustManifest(t, im)
			f.Close()
			testneed.Mounted(t, edited, "acl,user_xattr", func(root string) {
				kernel := kernelLines(t, root)
				for p := range lines {
					if strings.HasPrefix(p, "lost+found") {
						delete(lines, p)
					}
				}
				if d := lines.diff(kernel); d != "" {
					t.Errorf("our reader and the kernel differ: %s", d)
				}
				b, err := os.ReadFile(filepath.Join(root, "dir/a/b/c"))
				if string(b) != "edited" {
					t.Errorf("the edit is gone: %q, %v", b, err)
				}
				must(t, os.WriteFile(filepath.Join(root, "by the kernel"), pattern(3, 50_000), 0o600))
			})
			quiet(t, edited)
		})
	}
}

// TestEditKernelForms edits what only the kernel makes: inline directories, attribute
// blocks that files share, unwritten extents, ACLs.
func TestEditKernelForms(t *testing.T) {
	testneed.Loop(t)
	image := mkfsImage(t, "-t ext4 -b 4096 -O inline_data", 64)
	testneed.Mounted(t, image, "acl,user_xattr", func(root string) {
		at := func(s string) string { return filepath.Join(root, s) }
		for _, d := range []string{"inline/deep", "gone/deep", "renamed"} {
			must(t, os.MkdirAll(at(d), 0o755))
			for i := range 3 {
				must(t, os.WriteFile(at(fmt.Sprintf("%s/f%d", d, i)), []byte(strings.Repeat("z", 40*i)), 0o644))
			}
		}
		for i := range 3 {
			must(t, os.WriteFile(at(fmt.Sprint("shared", i)), pattern(i, 10), 0o644))
			must(t, syscall.Setxattr(at(fmt.Sprint("shared", i)), "user.same", pattern(9, 500), 0))
		}
		must(t, os.WriteFile(at("acl"), nil, 0o664))
		must(t, os.WriteFile(at("acl2"), nil, 0o664))
		f, err := os.Create(at("allocated"))
		must(t, err)
		must(t, syscall.Fallocate(int(f.Fd()), 0, 0, 1<<20))
		_, err = f.WriteAt(pattern(1, 10), 300_000)
		must(t, err)
		must(t, f.Close())
		f, err = os.Create(at("beyond"))
		must(t, err)
		must(t, syscall.Fallocate(int(f.Fd()), 1, 0, 1<<20)) // KEEP_SIZE
		must(t, f.Close())
	})
	acl := func(user, named, group, mask, other uint16) []byte {
		b := []byte{2, 0, 0, 0}
		for _, e := range [][2]uint16{{1, user}, {2, named}, {4, group}, {16, mask}, {32, other}} {
			b = le.AppendUint16(b, e[0])
			b = le.AppendUint16(b, e[1])
			id := uint32(0xffffffff)
			if e[0] == 2 {
				id = 1000
			}
			b = le.AppendUint32(b, id)
		}
		return b
	}
	for _, step := range []func(x *Tx) error{
		func(x *Tx) error { return x.WriteFile("/inline/new", strings.NewReader("new"), Attr{Mode: 0o600}) },
		func(x *Tx) error { return x.Mkdir("/inline/deep/er", Attr{Mode: 0o700}) },
		func(x *Tx) error { return x.Remove("/inline/deep/f0") },
		func(x *Tx) error { return x.Rename("/renamed", "/inline/renamed") },
		func(x *Tx) error { return x.RemoveAll("/gone") },
		func(x *Tx) error { return x.SetXattr("/inline/deep/f2", "user.x", []byte("beside inline contents")) },
		func(x *Tx) error { return x.Truncate("/inline/deep/f1", 10) },
		func(x *Tx) error { return x.SetXattr("/shared0", "user.other", []byte("1")) },
		func(x *Tx) error { return x.Remove("/shared1") },
		func(x *Tx) error { return x.RemoveXattr("/shared2", "user.same") },
		func(x *Tx) error { return x.SetXattr("/acl", accessACL, acl(7, 5, 4, 6, 1)) },
		func(x *Tx) error { return x.SetXattr("/acl2", accessACL, acl(7, 5, 4, 6, 1)) },
		func(x *Tx) error { return x.Chmod("/acl", 0o615) },
		func(x *Tx) error {
			w, err := x.Modify("/allocated")
			if err != nil {
				return err
			}
			w.WriteAt(pattern(2, 9000), 500_001)
			return w.Close()
		},
		func(x *Tx) error { return x.Truncate("/beyond", 100) },
	} {
		session(t, image, func(x *Tx) { must(t, step(x)) })
		quiet(t, image)
	}
	f, im := opened(t, image)
	lines := mustManifest(t, im)
	f.Close()
	for p := range lines {
		if strings.HasPrefix(p, "lost+found") {
			delete(lines, p)
		}
	}
	testneed.Mounted(t, image, "acl,user_xattr", func(root string) {
		if out, err := exec.Command("chmod", "0615", filepath.Join(root, "acl2")).CombinedOutput(); err != nil {
			t.Fatalf("%s", out)
		}
		kernel := kernelLines(t, root)
		if a, b := noTime(kernel["acl"]), noTime(kernel["acl2"]); a != b {
			t.Errorf("chmod with an ACL: %s\nthe kernel: %s", a, b)
		}
		delete(kernel, "acl2")
		delete(lines, "acl2")
		if d := lines.diff(kernel); d != "" {
			t.Errorf("our reader and the kernel differ: %s", d)
		}
	})
	quiet(t, image)
}
