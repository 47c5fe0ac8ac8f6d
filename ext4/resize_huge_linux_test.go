package ext4

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// From 64 MiB to 64 TiB: beyond the reserved blocks, and beyond 2^32 blocks. The file is
// on a tmpfs, as most file systems have no files of that length.
func TestGrowTo64TiB(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("e2fsck takes a quarter of a minute")
	}
	dir, err := os.MkdirTemp("/dev/shm", "ext4-resize")
	if err != nil {
		needMissing(t, "host", err.Error())
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "image")
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	must(t, Format(f, &Options{Size: 64 << 20}))
	plantFiles(t, path)
	want := treeOf(t, path)
	for _, tib := range []int64{1, 17, 64} {
		start := time.Now()
		must(t, Grow(f, tib<<40, &testOptions))
		t.Logf("%d TiB after %v, with %d KiB on the host", tib, time.Since(start), taken(t, path)>>10)
		if tib == 1 {
			quiet(t, path) // e2fsck would need minutes for the others
		}
		im := openImage(t, path)
		if got := im.v.sb.Blocks(); got != uint64(tib)<<28 {
			t.Errorf("%d TiB: %d blocks", tib, got)
		}
		if s := im.Stats(); s.FreeBlocks != im.v.sb.FreeBlocks() || s.FreeInodes != im.v.sb.FreeInodesCount {
			t.Errorf("%d TiB: the groups count %d blocks and %d inodes, the superblock %d and %d",
				tib, s.FreeBlocks, s.FreeInodes, im.v.sb.FreeBlocks(), im.v.sb.FreeInodesCount)
		}
	}
	must(t, Shrink(f, 200<<30, &testOptions))
	quiet(t, path)
	if d := treeOf(t, path).diff(want); d != "" {
		t.Error(d)
	}
}
