package kernels

import (
	"log/slog"
	"os"
	"slices"
	"testing"
	"time"

	"banger/internal/base/paths"
	"banger/internal/base/progress"
	"banger/internal/base/testneed"
	"banger/internal/diskimage"
	"banger/internal/kmod"
	"banger/internal/vm"
)

// TestHostMirror makes Debian's real kernels from the mirror of this host, trusting
// Debian's real keys. It fetches 60 MB, so it runs only where it is asked for.
func TestHostMirror(t *testing.T) {
	testneed.Asked(t, testneed.Mirror)
	dir := t.TempDir()
	s := New(Options{
		Dirs:  paths.Dirs{State: dir + "/state", Cache: dir + "/cache", Runtime: dir + "/run"},
		Store: &memoryStore{}, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), FromTar: diskimage.FromTar,
		Modules: []string{"virtio_mmio", "virtio_blk", "virtio_console", "virtio_rng", "virtio_net", "vmw_vsock_virtio_transport"},
	})
	s.agent = func() ([]byte, error) { return []byte("agent"), nil }
	list, from, err := s.Catalog(t.Context(), true, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list {
		t.Logf("%s: %+v", from, c)
	}
	for _, ref := range []string{"6.12", "6.1"} {
		t.Run(ref, func(t *testing.T) {
			start, last := time.Now(), ""
			r, err := s.Pull(t.Context(), ref, false, func(r progress.Report) {
				if r.Detail != last {
					t.Logf("%5.1fs %s (%d bytes)", time.Since(start).Seconds(), r.Detail, r.Total)
					last = r.Detail
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			k := r.Kernel
			t.Logf("%5.1fs %+v", time.Since(start).Seconds(), k)
			if k.Origin.Key == "" || k.Origin.IndexDate.IsZero() || k.Modules < 500 {
				t.Errorf("made %+v", k)
			}
			for _, o := range k.Options {
				if o.State == vm.OptionUnknown || o.State == vm.OptionMissing && o.Name != "CONFIG_EROFS_FS" {
					t.Errorf("%s is %s", o.Name, o.State)
				}
			}
			set, err := kmod.Scan(t.Context(), os.DirFS(k.ModulesDir))
			if err != nil {
				t.Fatal(err)
			}
			order, err := set.Order(append(slices.Clone(s.o.Modules), "ext4", "overlay")...)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range order {
				t.Log("load ", m.Path)
			}
			if _, err := s.Initramfs(t.Context(), k, append(slices.Clone(s.o.Modules), "ext4", "overlay")); err != nil {
				t.Error(err)
			}
			if again, err := s.Pull(t.Context(), ref, false, nil); err != nil || !again.Already {
				t.Errorf("again: %+v, %v", again, err)
			}
		})
	}
}
