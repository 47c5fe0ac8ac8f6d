package ext4

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"banger/internal/base/testneed"
)

// From 64 MiB to 64 TiB: beyond the reserved blocks, and beyond 2^32 blocks. The file is
// on a tmpfs, as most file systems have no files of that length.
func TestGrowTo64TiB(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("/dev/shm", "ext4-resize")
	if err != nil {
		testneed.Missing(t, testneed.Host, "no tmpfs at /dev/shm: %v", err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "image")
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	must(t, Format(f, &Options{Size: 64 << 20}))
	plantFiles(t, path)
	want := treeOf(t, path)
	for _, gib := range []int64{300, 17 << 10, 64 << 10} {
		start := time.Now()
		must(t, Grow(f, gib<<30, &testOptions))
		t.Logf("%d GiB after %v, with %d KiB on the host", gib, time.Since(start), taken(t, path)>>10)
		if gib == 300 {
			quiet(t, path) // e2fsck would need minutes for the others
		}
		im := openImage(t, path)
		if got := im.v.sb.Blocks(); got != uint64(gib)<<18 {
			t.Errorf("%d GiB: %d blocks", gib, got)
		}
		if s := im.Stats(); s.FreeBlocks != im.v.sb.FreeBlocks() || s.FreeInodes != im.v.sb.FreeInodesCount {
			t.Errorf("%d GiB: the groups count %d blocks and %d inodes, the superblock %d and %d",
				gib, s.FreeBlocks, s.FreeInodes, im.v.sb.FreeBlocks(), im.v.sb.FreeInodesCount)
		}
	}
	must(t, Shrink(f, 100<<30, &testOptions))
	quiet(t, path)
	if d := treeOf(t, path).diff(want); d != "" {
		t.Error(d)
	}
}
