package tarfile

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"testing"
	"time"
)

// manyHeaders is an archive like that of a distribution's root file system in its
// headers: 42,000 of them, with or without some data.
func manyHeaders(b *testing.B, format tar.Format, size int64) []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	data := noise(1, size)
	for i := range 42_000 {
		h := &tar.Header{
			Typeflag: tar.TypeReg, Name: fmt.Sprintf("usr/share/package-%d/directory/file-%d", i/50, i),
			Mode: 0o644, ModTime: time.Unix(1_700_000_000, int64(i)), Format: format, Size: size,
		}
		if err := w.WriteHeader(h); err != nil {
			b.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	return buf.Bytes()
}

func BenchmarkReader(b *testing.B) {
	for _, c := range []struct {
		name   string
		format tar.Format
		size   int64
	}{
		{"headers/ustar", tar.FormatUSTAR, 0},
		{"headers/gnu", tar.FormatGNU, 0},
		{"headers/pax", tar.FormatPAX, 0},
		{"8KiB-files/ustar", tar.FormatUSTAR, 8 << 10},
	} {
		b.Run(c.name, func(b *testing.B) {
			archive := manyHeaders(b, c.format, c.size)
			b.Run("tarfile", func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(len(archive)))
				for range b.N {
					r := NewReader(bytes.NewReader(archive))
					for {
						if _, err := r.Next(); err == io.EOF {
							break
						} else if err != nil {
							b.Fatal(err)
						}
					}
					r.Close()
				}
			})
			b.Run("archive-tar", func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(len(archive)))
				for range b.N {
					// Without the Seek of bytes.Reader, as from a pipe.
					r := tar.NewReader(struct{ io.Reader }{bytes.NewReader(archive)})
					for {
						if _, err := r.Next(); err == io.EOF {
							break
						} else if err != nil {
							b.Fatal(err)
						}
					}
				}
			})
		})
	}
}
