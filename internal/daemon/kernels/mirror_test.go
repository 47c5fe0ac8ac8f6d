package kernels

import (
	"log/slog"
	"os"
	"testing"
	"time"

	"banger/internal/base/paths"
	"banger/internal/base/progress"
	"banger/internal/base/testneed"
	"banger/internal/diskimage"
	"banger/internal/kmod"
)

// TestHostMirror makes Debian's real kernels from the mirror of this host. It
// fetches 60 MB, so it runs only where it is asked for.
func TestHostMirror(t *testing.T) {
	testneed.Asked(t, testneed.Mirror)
	all := metapackages
	defer func() { metapackages = all }()
	for _, meta := range all {
		t.Run(meta, func(t *testing.T) {
			metapackages = []string{meta}
			dir := t.TempDir()
			s := New(Options{
				Dirs:  paths.Dirs{State: dir + "/state", Cache: dir + "/cache", Runtime: dir + "/run"},
				Store: &memoryStore{}, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), FromTar: diskimage.FromTar,
			})
			start, last := time.Now(), ""
			k, err := s.Default(t.Context(), func(r progress.Report) {
				if r.Detail != last {
					t.Logf("%5.1fs %s (%d bytes)", time.Since(start).Seconds(), r.Detail, r.Total)
					last = r.Detail
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%5.1fs %+v", time.Since(start).Seconds(), k)
			set, err := kmod.Scan(t.Context(), os.DirFS(k.ModulesDir))
			if err != nil {
				t.Fatal(err)
			}
			order, err := set.Order("virtio_mmio", "virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "virtio_rng", "ext4", "overlay")
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range order {
				t.Log("load ", m.Path)
			}
		})
	}
}
