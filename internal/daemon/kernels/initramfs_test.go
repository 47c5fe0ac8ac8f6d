package kernels

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pierrec/lz4/v4"

	"banger/internal/base/errs"
	"banger/internal/vm"
)

func TestInitramfs(t *testing.T) {
	m := newMirror(t)
	m.publish("bookworm-security", metapackages[0], release612)
	s := newService(t, m)
	k, err := s.Default(t.Context(), nil)
	check(t, err)
	wanted := []string{"virtio-net", "ext4", "overlay"}
	path, err := s.Initramfs(t.Context(), k, wanted)
	check(t, err)
	first, err := os.Stat(path)
	check(t, err)
	start := time.Now()
	again, err := s.Initramfs(t.Context(), k, wanted)
	check(t, err)
	t.Logf("a hit takes %s", time.Since(start))
	second, err := os.Stat(again)
	check(t, err)
	if again != path || !os.SameFile(first, second) {
		t.Error("the second call made it again")
	}
	seen := map[string]string{path: "the first"}
	other, rebuilt := k, k
	other.Digest, rebuilt.ModulesDigest = "sha256:00", "sha256:00"
	for name, ask := range map[string]func() (string, error){
		"other modules":          func() (string, error) { return s.Initramfs(t.Context(), k, wanted[:2]) },
		"other order":            func() (string, error) { return s.Initramfs(t.Context(), k, []string{"virtio-net", "overlay", "ext4"}) },
		"its modules built anew": func() (string, error) { return s.Initramfs(t.Context(), rebuilt, wanted) },
		"other kernel":           func() (string, error) { return s.Initramfs(t.Context(), other, wanted) },
		"other agent": func() (string, error) {
			s2 := New(s.o)
			s2.agent = func() ([]byte, error) { return []byte("newer agent"), nil }
			return s2.Initramfs(t.Context(), k, wanted)
		},
	} {
		p, err := ask()
		check(t, err)
		if seen[p] != "" {
			t.Errorf("%s has the archive of %s", name, seen[p])
		}
		seen[p] = name
	}
	if _, err := s.Initramfs(t.Context(), k, []string{"nosuch"}); errs.KindOf(err) != errs.NotFound || !strings.Contains(err.Error(), `"nosuch"`) {
		t.Errorf("an unknown module: err = %v", err)
	}
	broken := New(s.o)
	broken.agent = func() ([]byte, error) { return nil, errs.New(errs.Unavailable, "no agent") }
	if _, err := broken.Initramfs(t.Context(), vm.Kernel{}, nil); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("without an agent: err = %v", err)
	}
}

// TestInitramfsIsSmallAndReproducible makes one kernel twice, on two hosts.
func TestInitramfsIsSmallAndReproducible(t *testing.T) {
	m := newMirror(t)
	m.publish("bookworm-security", metapackages[0], release612)
	archives := map[string][]byte{}
	var digests []string
	for range 2 {
		s := newService(t, m)
		k, err := s.Default(t.Context(), nil)
		check(t, err)
		digests = append(digests, k.Digest, k.ModulesDigest)
		for vmm, wanted := range map[string][]string{"one VMM": {"virtio_net", "overlay"}, "another": {"overlay"}} {
			path, err := s.Initramfs(t.Context(), k, wanted)
			check(t, err)
			data, err := os.ReadFile(path)
			check(t, err)
			if before := archives[vmm]; before != nil && !bytes.Equal(before, data) {
				t.Errorf("two archives for %s differ", vmm)
			}
			archives[vmm] = data
		}
	}
	if digests[0] != digests[2] || digests[1] != digests[3] {
		t.Errorf("two kernels of one package differ: %q", digests)
	}
	for vmm, want := range map[string]string{"one VMM": "000-failover.ko 001-virtio_net.ko 002-overlay.ko", "another": "000-overlay.ko"} {
		plain, err := io.ReadAll(lz4.NewReader(bytes.NewReader(archives[vmm])))
		check(t, err)
		if got := strings.Join(regexp.MustCompile(`[0-9]{3}-[a-z_]+\.ko`).FindAllString(string(plain), -1), " "); got != want {
			t.Errorf("the archive for %s has %q, want %q", vmm, got, want)
		}
	}
}

func TestOldInitramfsArchivesGo(t *testing.T) {
	m := newMirror(t)
	m.publish("bookworm-security", metapackages[0], release612)
	s := newService(t, m)
	k, err := s.Default(t.Context(), nil)
	check(t, err)
	used, err := s.Initramfs(t.Context(), k, []string{"overlay"})
	check(t, err)
	unused := filepath.Join(s.o.Dirs.Initramfs(), "unused.cpio.lz4")
	check(t, os.WriteFile(unused, nil, 0o600))
	old := time.Now().Add(-2 * keepInitramfs)
	for _, path := range []string{used, unused} {
		check(t, os.Chtimes(path, old, old))
	}
	for _, wanted := range [][]string{{"overlay"}, {"virtio_net"}} { // the first is there, the second is made
		_, err := s.Initramfs(t.Context(), k, wanted)
		check(t, err)
	}
	if exists(unused) || !exists(used) {
		t.Errorf("the unused one is there: %t, the used one: %t", exists(unused), exists(used))
	}
}
