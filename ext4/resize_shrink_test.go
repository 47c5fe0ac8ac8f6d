package ext4

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"testing"

	"banger/internal/base/testneed"
)

// limitOf is what ShrinkLimit says, in bytes.
func limitOf(t testing.TB, path string) int64 {
	t.Helper()
	n, err := openImage(t, path).ShrinkLimit()
	must(t, err)
	return n
}

// shrunk demands that an image has a size, no faults, and a tree.
func shrunk(t *testing.T, path string, size int64, want treeLines) {
	t.Helper()
	quiet(t, path)
	backups(t, path)
	st, err := os.Stat(path)
	must(t, err)
	if st.Size() != size {
		t.Errorf("the file has %d bytes, not %d", st.Size(), size)
	}
	im := openImage(t, path)
	if got := int64(im.v.sb.Blocks()) * int64(im.v.bs); got > size {
		t.Errorf("the file system has %d bytes in a file of %d", got, size)
	}
	if d := mustManifest(t, im).diff(want); d != "" {
		t.Fatal(d)
	}
}

// Each kind of file system shrinks to its limit, in steps and at once, and grows again.
func TestShrink(t *testing.T) {
	for _, im := range resizeImages {
		t.Run(im.name, func(t *testing.T) {
			t.Parallel()
			path := mkfsImage(t, im.args, im.mib)
			plantFiles(t, path)
			want := treeOf(t, path)
			small := limitOf(t, path)
			t.Logf("%d MiB can be %d KiB", im.mib, small>>10)
			for _, mib := range im.sizes[:2] {
				grow(t, path, int64(mib)<<20)
				if got := limitOf(t, path); got != small && mib < 1000 {
					t.Errorf("the limit was %d bytes, and is %d after growth", small, got)
				}
			}
			rng := rand.New(rand.NewPCG(7, 8))
			for size := int64(im.sizes[1]) << 20; size-small > 1<<20; {
				size -= rng.Int64N(size - small)
				shrink(t, path, size)
				shrunk(t, path, size, want)
				if got := limitOf(t, path); got > small {
					t.Errorf("the limit is %d bytes, was %d", got, small)
				}
			}
			small = limitOf(t, path)
			shrink(t, path, small)
			shrunk(t, path, small, want)
			size := int64(im.sizes[1]+3) << 20
			grow(t, path, size)
			shrunk(t, path, size, want)
			fill(t, path)
			quiet(t, path)
		})
	}
}

// A file in the way says how far it goes.
func TestShrinkToContents(t *testing.T) {
	t.Parallel()
	path := mkfsImage(t, "-t ext4 -b 1024 -g 2048 -G 4 -J size=1", 64)
	plantFiles(t, path)
	session(t, path, func(x *Tx) {
		for i := range 60 {
			must(t, x.WriteFile(fmt.Sprint("/big", i), bytes.NewReader(pattern(i, 900_000)), Attr{Mode: 0o600}))
		}
	})
	for i := 59; i >= 0; i -= 5 * stepOf(3) {
		session(t, path, func(x *Tx) { must(t, x.Remove(fmt.Sprint("/big", i))) })
		want := treeOf(t, path)
		small := limitOf(t, path)
		must(t, resized(t, path, func(f *os.File) error {
			err := Shrink(f, small-1, &testOptions)
			if e, ok := err.(*SizeError); !ok || e.Limit != small { //nolint:errorlint // as it is returned
				t.Errorf("%v, not the limit %d", err, small)
			}
			return nil
		}))
		shrink(t, path, small)
		shrunk(t, path, small, want)
	}
}

// The file may be longer than the file system: then only the file is cut.
func TestShrinkFileOnly(t *testing.T) {
	t.Parallel()
	path := mkfsImage(t, "-t ext4 -b 1024 -J size=1", 16)
	want := treeOf(t, path)
	must(t, os.Truncate(path, 40<<20))
	shrink(t, path, 20<<20)
	shrunk(t, path, 20<<20, want)
	if n := openImage(t, path).v.sb.Blocks(); n != 16<<10 {
		t.Errorf("%d blocks", n)
	}
}

// Groups with orphans in them are free once these are.
func TestShrinkOrphans(t *testing.T) {
	t.Parallel()
	path := mkfsImage(t, "-t ext4 -b 1024 -g 1024 -G 4 -J size=1 -N 400", 40)
	least := limitOf(t, path)
	session(t, path, func(x *Tx) {
		must(t, x.WriteFile("/large", io.LimitReader(ones{}, 20<<20), Attr{Mode: 0o600}))
	})
	if n := limitOf(t, path); n <= least {
		t.Fatalf("the file lies before %d", n)
	}
	// The file becomes an orphan without links, as if it had been open.
	ino, err := openImage(t, path).v.resolve("large", true)
	must(t, err)
	testneed.Run(t, "debugfs", "-w", "-R", "unlink /large", path)
	testneed.Run(t, "debugfs", "-w", "-R", fmt.Sprintf("set_inode_field <%d> links_count 0", ino), path)
	testneed.Run(t, "debugfs", "-w", "-R", fmt.Sprintf("set_super_value last_orphan %d", ino), path)
	want := treeOf(t, path)
	shrink(t, path, least)
	shrunk(t, path, least, want)
}
