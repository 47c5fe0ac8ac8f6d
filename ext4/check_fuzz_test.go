package ext4

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"banger/internal/base/testneed"
)

// FuzzCheck checks damaged images, with their checksums set right: it must come to its
// end, soon and in bounded memory, and end with a report.
func FuzzCheck(f *testing.F) {
	var images [][]byte
	for k, kind := range fuzzImages {
		images = append(images, loadFuzzImage(f, kind.name))
		f.Add(uint8(k), []byte{})
		f.Add(uint8(k), []byte{0, 0, 4, 255, 9, 0, 40, 3})
	}
	f.Fuzz(func(t *testing.T, kind uint8, patches []byte) {
		checkLimits(t, damageImage(images[int(kind)%len(images)], patches, true))
	})
}

// checkLimits checks an image and holds that to limits.
func checkLimits(t testing.TB, image []byte) *Report {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := testneed.CPUTime()
	r, err := checkBytes(t, image)
	took := testneed.CPUTime() - start
	runtime.ReadMemStats(&after)
	var feature *FeatureError
	if err != nil && !errors.As(err, &feature) && !errors.Is(err, ErrNotExt4) {
		t.Fatalf("%v after %v", err, took)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 256<<20+8*uint64(len(image)) {
		t.Errorf("checking allocated %d MiB for an image of %d KiB", n>>20, len(image)>>10)
	}
	if took > 5*time.Second {
		t.Errorf("checking took %v", took)
	}
	return r
}

// Damage to a byte of metadata, with its checksum set right or not, that e2fsck finds
// we find too.
func TestCheckFindsWhatE2fsckFinds(t *testing.T) {
	path := filepath.Join(testneed.Memory(t), "image")
	images, both, ours := 0, 0, 0
	for _, kind := range fuzzImages {
		image := loadFuzzImage(t, kind.name)
		if r := checkLimits(t, image); !r.OK() {
			t.Errorf("%s: %v", kind.name, r)
		}
		step := 41999
		if testing.Short() || raceEnabled {
			step = 299999
		}
		for n := 0; n < 1<<22; n += step {
			patch := le.AppendUint32(nil, uint32(n)*2654435761)
			damaged := damageImage(image, patch, n%2 == 0)
			r := checkLimits(t, damaged)
			if err := os.WriteFile(path, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			images++
			found, out := complains(t, path)
			if strings.Contains(out, "unsupported feature") || strings.Contains(out, "is in the future") {
				continue // it knows fewer features, and compares times with the clock
			}
			switch wrong := r == nil || !r.OK(); {
			case found && !wrong:
				t.Errorf("%s, patch %x: only e2fsck complains: %s", kind.name, patch, out)
			case found:
				both++
			case wrong:
				ours++
				t.Logf("%s, patch %x: only we complain: %v", kind.name, patch, r)
			}
		}
	}
	t.Logf("%d images: %d damaged for both, %d for us alone", images, both, ours)
}

// BenchmarkCheck checks a full image, beside e2fsck -fn.
func BenchmarkCheck(b *testing.B) {
	path := manyFiles(b, 8<<30, 100_000)
	b.Run("ours", func(b *testing.B) {
		f, err := os.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		for b.Loop() {
			if r, err := Check(context.Background(), f, 8<<30); err != nil || !r.OK() {
				b.Fatal(err, r)
			}
		}
	})
	b.Run("e2fsck", func(b *testing.B) {
		for b.Loop() {
			testneed.Fsck(b, path)
		}
	})
}
