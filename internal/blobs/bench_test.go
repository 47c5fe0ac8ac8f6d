package blobs_test

import (
	"io"
	"testing"

	"banger/internal/blobs"
)

// BenchmarkBlobs downloads a blob from memory, with and without a reader that
// follows, and reads one that is stored.
func BenchmarkBlobs(b *testing.B) {
	data := random(1, 64<<20)
	d := describe(data)
	s, err := blobs.Open(b.TempDir(), blobs.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // always nil
	read := func(src blobs.Source) {
		r, err := s.Open(b.Context(), d, src, nil)
		if err != nil {
			b.Fatal(err)
		}
		buf := make([]byte, 64<<10)
		for err == nil {
			_, err = r.Read(buf)
		}
		if err != io.EOF { //nolint:errorlint // Read returns it bare
			b.Fatal(err)
		}
		if err := r.Close(); err != nil {
			b.Fatal(err)
		}
	}
	remove := func() {
		if err := s.Delete(d.Digest); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("Fetch", func(b *testing.B) {
		b.SetBytes(d.Size)
		for b.Loop() {
			remove()
			if err := s.Fetch(b.Context(), d, (&origin{data: data}).source, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Follow", func(b *testing.B) {
		b.SetBytes(d.Size)
		for b.Loop() {
			remove()
			read((&origin{data: data}).source)
		}
	})
	b.Run("Stored", func(b *testing.B) {
		b.SetBytes(d.Size)
		for b.Loop() {
			read(nil)
		}
	})
}
