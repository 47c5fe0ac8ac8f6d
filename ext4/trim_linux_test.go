package ext4

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"banger/internal/base/testneed"
)

// taken is how much space an image takes on the host.
func taken(t testing.TB, path string) int64 {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	return hostBytes(f)
}

// dense writes an image out, without holes, and other bytes than zeros where the file
// system says that nobody looks.
func dense(t testing.TB, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	x := begin(t, path)
	bs := uint64(x.v.bs)
	must(t, x.unusedBlocks(func(start, n uint64) error {
		for i := range n * bs {
			b[start*bs+i] = 0xa5
		}
		return nil
	}))
	must(t, x.Close())
	must(t, os.Remove(path))
	must(t, os.WriteFile(path, b, 0o600))
}

func TestTrim(t *testing.T) {
	for _, im := range resizeImages {
		t.Run(im.name, func(t *testing.T) {
			t.Parallel()
			path := mkfsImage(t, im.args, im.mib)
			session(t, path, func(x *Tx) {
				for i := range 30 {
					must(t, x.WriteFile(fmt.Sprint("/f", i), bytes.NewReader(pattern(i, i*5000)), Attr{Mode: 0o600}))
				}
			})
			session(t, path, func(x *Tx) {
				for i := 0; i < 30; i += 3 {
					must(t, x.Remove(fmt.Sprint("/f", i)))
				}
			})
			want := treeOf(t, path)
			dense(t, path)
			quiet(t, path)
			before := taken(t, path)
			var freed int64
			must(t, resized(t, path, func(f *os.File) (err error) {
				freed, err = Trim(f)
				return err
			}))
			after := taken(t, path)
			t.Logf("%d KiB, %d KiB freed", before>>10, freed>>10)
			if freed != before-after || freed < before/2 && im.name != "4k-many" && im.name != "2k-nosums" {
				t.Errorf("%d bytes freed of %d, %d are left", freed, before, after)
			}
			quiet(t, path)
			if d := treeOf(t, path).diff(want); d != "" {
				t.Error(d)
			}
			must(t, resized(t, path, func(f *os.File) (err error) {
				freed, err = Trim(f)
				return err
			}))
			if freed > 64<<10 {
				t.Errorf("%d more bytes freed", freed)
			}
			fill(t, path)
			grow(t, path, int64(im.sizes[1])<<20)
			quiet(t, path)
		})
	}
}

// What Trim leaves is mounted and written to, journal and all.
func TestTrimIsMounted(t *testing.T) {
	t.Parallel()
	testneed.Loop(t)
	for _, args := range []string{"-t ext4", "-t ext3", "-t ext4 -O ^metadata_csum,uninit_bg -E lazy_itable_init=1"} {
		path := mkfsImage(t, args, 64)
		var sum string
		testneed.Mounted(t, path, "", func(root string) {
			for i := range 200 {
				must(t, os.WriteFile(filepath.Join(root, fmt.Sprint(i)), pattern(i, i*500), 0o600))
			}
			sum = treeSum(t, root)
		})
		dense(t, path)
		must(t, resized(t, path, func(f *os.File) error { _, err := Trim(f); return err }))
		testneed.Mounted(t, path, "", func(root string) {
			if treeSum(t, root) != sum {
				t.Error("the tree is another")
			}
			fillMounted(t, root)
		})
		quiet(t, path)
	}
}

// A journal that is dirty is replayed first; files without names are freed.
func TestTrimDirty(t *testing.T) {
	t.Parallel()
	testneed.Loop(t)
	path := mkfsImage(t, "-t ext4", 64)
	crashed := filepath.Join(t.TempDir(), "crashed")
	testneed.Mounted(t, path, "", func(root string) {
		f, err := os.Create(filepath.Join(root, "open"))
		must(t, err)
		defer f.Close()
		f.Write(pattern(1, 5<<20))
		must(t, os.WriteFile(filepath.Join(root, "kept"), pattern(2, 100_000), 0o600))
		must(t, f.Sync())
		must(t, os.Remove(f.Name()))
		testneed.Run(t, "sync", "-f", root)
		testneed.Run(t, "cp", "--sparse=always", path, crashed)
	})
	var freed int64
	must(t, resized(t, crashed, func(f *os.File) (err error) {
		freed, err = Trim(f)
		return err
	}))
	if freed < 5<<20 {
		t.Errorf("%d bytes freed", freed)
	}
	quiet(t, crashed)
	if b, err := openImage(t, crashed).ReadFile("kept"); err != nil || !bytes.Equal(b, pattern(2, 100_000)) {
		t.Error(err, len(b))
	}
}
