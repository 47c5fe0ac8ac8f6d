package ext4

import (
	"io"
	"io/fs"
	"os"
	"testing"
)

// The benchmarks read the image that BANGER_BENCH_IMAGE names: a root file system.
func benchImage(b *testing.B) (*os.File, int64) {
	b.Helper()
	path := os.Getenv("BANGER_BENCH_IMAGE")
	if path == "" {
		b.Skip("BANGER_BENCH_IMAGE names no image")
	}
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	st, err := f.Stat()
	if err != nil {
		b.Fatal(err)
	}
	return f, st.Size()
}

func mustOpen(b *testing.B, f *os.File, size int64) *Image {
	b.Helper()
	im, err := Open(f, size)
	if err != nil {
		b.Fatal(err)
	}
	return im
}

// BenchmarkReadTree reads all files into one buffer, piece by piece.
func BenchmarkReadTree(b *testing.B) {
	buf := make([]byte, 1<<20)
	readTree(b, func(im *Image, name string) (int64, error) {
		f, err := im.Open(name)
		if err != nil {
			return 0, err
		}
		defer f.Close()
		for size := int64(0); ; {
			n, err := f.Read(buf)
			size += int64(n)
			if err == io.EOF {
				return size, nil
			}
			if err != nil {
				return 0, err
			}
		}
	})
}

// BenchmarkReadFiles reads each file into memory of its own, which costs as much again.
func BenchmarkReadFiles(b *testing.B) {
	readTree(b, func(im *Image, name string) (int64, error) {
		content, err := im.ReadFile(name)
		return int64(len(content)), err
	})
}

func readTree(b *testing.B, read func(im *Image, name string) (int64, error)) {
	f, size := benchImage(b)
	for b.Loop() {
		im := mustOpen(b, f, size)
		files, bytes := 0, int64(0)
		err := fs.WalkDir(im, ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if _, err := d.Info(); err != nil {
				return err
			}
			if files++; d.Type().IsRegular() {
				n, err := read(im, name)
				bytes += n
				return err
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(bytes)
		b.ReportMetric(float64(files), "files")
	}
}

func BenchmarkStatWithOpen(b *testing.B) {
	f, size := benchImage(b)
	for b.Loop() {
		if _, err := mustOpen(b, f, size).Stat("usr/bin/env"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStat(b *testing.B) {
	f, size := benchImage(b)
	im := mustOpen(b, f, size)
	for b.Loop() {
		if _, err := im.Stat("usr/bin/env"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkExportTar(b *testing.B) {
	f, size := benchImage(b)
	for b.Loop() {
		var n counter
		if err := mustOpen(b, f, size).ExportTar(&n); err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(n))
	}
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}
