package ext4

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"banger/internal/base/testneed"
)

// BenchmarkGrow is growth from 64 MiB to 8 GiB, of an image that mke2fs made with blocks of
// 4 KiB, beside that of resize2fs. KiB-more is what that takes on the host. Times are
// medians.
func BenchmarkGrow(b *testing.B) {
	const from, to = 64 << 20, 8 << 30
	image, err := os.ReadFile(mkfsImage(b, "-t ext4 -b 4096", from>>20))
	must(b, err)
	written := map[int64][]byte{}
	for off := 0; off < len(image); off += blockSize {
		if part := image[off:][:blockSize]; !allZero(part) {
			written[int64(off)] = bytes.Clone(part)
		}
	}
	image = nil // as garbage it would keep the collector idle, and all memory fresh
	path := filepath.Join(b.TempDir(), "image")
	var before int64
	fresh := func() *os.File {
		must(b, os.RemoveAll(path))
		f, err := os.Create(path)
		must(b, err)
		must(b, f.Truncate(from))
		for off, part := range written {
			f.WriteAt(part, off)
		}
		before = hostBytes(f)
		return f
	}
	measure := func(name string, grow func(f *os.File) error) {
		b.Run(name, func(b *testing.B) {
			var times []float64
			for b.Loop() {
				f := fresh()
				start := time.Now()
				err := grow(f)
				times = append(times, float64(time.Since(start).Microseconds()))
				must(b, err)
				f.Close()
			}
			quiet(b, path)
			slices.Sort(times)
			b.ReportMetric(0, "ns/op") // with the making of the image
			b.ReportMetric(times[len(times)/2], "µs")
			b.ReportMetric(float64(taken(b, path)-before)/1024, "KiB-more")
		})
	}
	measure("nosync", func(f *os.File) error { return Grow(f, to, &EditOptions{NoSync: true}) })
	measure("durable", func(f *os.File) error { return Grow(f, to, nil) })
	tool := testneed.Tool(b, "resize2fs", "e2fsprogs")
	measure("resize2fs", func(f *os.File) error {
		if err := f.Truncate(to); err != nil {
			return err
		}
		return exec.Command(tool, "-f", path).Run()
	})
}
