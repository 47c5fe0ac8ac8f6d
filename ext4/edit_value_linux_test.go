package ext4

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"banger/internal/base/testneed"
)

// Inodes of values that the kernel has files share, and whole blocks of attributes with such
// values, keep their counts, to the kernel and to e2fsck.
func TestEAInodeOfTheKernel(t *testing.T) {
	path := mkfsImage(t, "-t ext4 -b 4096 -O ea_inode", 64)
	values := map[string][]byte{"a": pattern(1, 10_000), "b": pattern(1, 10_000), "c": pattern(2, 60_000)}
	small := pattern(5, 1500) // does not fit into an inode: d, e and f share a block
	testneed.Mounted(t, path, "user_xattr", func(root string) {
		for name, v := range values {
			f := filepath.Join(root, name)
			must(t, os.WriteFile(f, []byte(name), 0o644))
			must(t, syscall.Setxattr(f, "user.value", v, 0))
		}
		for _, name := range []string{"d", "e", "f"} {
			f := filepath.Join(root, name)
			must(t, os.WriteFile(f, []byte(name), 0o644))
			must(t, syscall.Setxattr(f, "user.small", small, 0))
			must(t, syscall.Setxattr(f, "user.value", pattern(3, 20_000), 0))
		}
	})
	left := func(want int) {
		t.Helper()
		quiet(t, path)
		checkClean(t, path)
		if n := valueInodes(t, path); n != want {
			t.Fatalf("%d inodes of values, want %d", n, want)
		}
	}
	left(3)
	b, err := os.ReadFile(path)
	must(t, err)
	if p := patchImage(t, b); p.attrs("/d") != p.attrs("/e") {
		t.Error("the kernel has not shared a block")
	}
	for _, step := range []struct {
		f    func(x *Tx) error
		left int
	}{
		{func(x *Tx) error { return x.Remove("/a") }, 3},
		{func(x *Tx) error { return x.SetXattr("/b", "user.more", pattern(4, 3000)) }, 3},
		{func(x *Tx) error { return x.SetXattr("/d", "user.more", []byte("1")) }, 3}, // leaves the shared block
		{func(x *Tx) error { return x.Remove("/e") }, 3},
		{func(x *Tx) error { return x.RemoveXattr("/f", "user.small") }, 3},
		{func(x *Tx) error { return x.SetXattr("/c", "user.value", []byte("short")) }, 2},
		{func(x *Tx) error { return x.RemoveXattr("/f", "user.value") }, 2},
		{func(x *Tx) error { return x.WriteFile("/d", strings.NewReader(strings.Repeat("d", 100_000)), Attr{}) }, 2},
		{func(x *Tx) error { return x.Remove("/b") }, 1},
	} {
		session(t, path, func(x *Tx) { must(t, step.f(x)) })
		left(step.left)
	}
	got := mustManifest(t, openImage(t, path))
	delete(got, "lost+found")
	testneed.Mounted(t, path, "user_xattr", func(root string) {
		if d := got.diff(kernelLines(t, root)); d != "" {
			t.Errorf("our reader and the kernel differ: %s", d)
		}
		must(t, os.WriteFile(filepath.Join(root, "g"), nil, 0o600))
		must(t, syscall.Setxattr(filepath.Join(root, "g"), "user.value", pattern(3, 20_000), 0)) // d's, found again
		must(t, os.Remove(filepath.Join(root, "d")))
		must(t, syscall.Removexattr(filepath.Join(root, "c"), "user.value"))
	})
	left(1)
	session(t, path, func(x *Tx) { must(t, x.RemoveAll("/g")) })
	left(0)
}
