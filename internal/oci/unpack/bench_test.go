package unpack_test

import (
	"bytes"
	stdgzip "compress/gzip"
	"crypto/sha256"
	"io"
	"testing"

	"github.com/klauspost/compress/gzip"

	"banger/internal/oci/unpack"
)

// What a layer costs: decompression and a digest of what comes out, which stands for
// its consumer.
func BenchmarkGzip(b *testing.B) {
	plain := text(32 << 20)
	packed := packGzip(b, plain)
	for _, c := range []struct {
		name string
		open func() (io.Reader, error)
	}{
		{"stdlib", func() (io.Reader, error) { return stdgzip.NewReader(bytes.NewReader(packed)) }},
		{"klauspost", func() (io.Reader, error) { return gzip.NewReader(bytes.NewReader(packed)) }},
		{"ahead", func() (io.Reader, error) { return unpack.Decompress(b.Context(), bytes.NewReader(packed), 0) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(plain)))
			for b.Loop() {
				r, err := c.open()
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.CopyBuffer(sha256.New(), r, make([]byte, 256<<10)); err != nil {
					b.Fatal(err)
				}
				if z, ok := r.(io.Closer); ok {
					_ = z.Close()
				}
			}
		})
	}
}
