package archive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"

	"github.com/klauspost/compress/gzip"

	"banger/internal/base/errs"
	"banger/internal/oci"
	"banger/internal/oci/unpack"
)

// Pack writes the tar r to w as the blob of a layer, compressed with format, which is
// unpack.Plain or unpack.Gzip, and returns that layer. With [oci.New] it becomes an
// image. The same tar makes the same blob, byte for byte, with the same build of
// banger. Errors are those of r and w, and of ctx when it ends.
func Pack(ctx context.Context, w io.Writer, r io.Reader, format unpack.Format) (oci.Layer, error) {
	blob := &hashed{w: w, hash: sha256.New()}
	plain := sha256.New()
	var err error
	switch format {
	case unpack.Plain:
		_, err = io.CopyBuffer(io.MultiWriter(plain, blob), ending{ctx, r}, make([]byte, 256<<10))
	case unpack.Gzip:
		z := gzip.NewWriter(blob) // its header has neither a name nor a time
		if _, err = io.CopyBuffer(io.MultiWriter(plain, z), ending{ctx, r}, make([]byte, 256<<10)); err == nil {
			err = z.Close()
		}
	default:
		err = errs.New(errs.Invalid, "layers are not packed as %q", format)
	}
	if err != nil {
		return oci.Layer{}, err
	}
	return oci.Layer{Digest: text(blob.hash), Size: blob.n, MediaType: layerTypes[format], DiffID: text(plain)}, nil
}

func text(h hash.Hash) string { return "sha256:" + hex.EncodeToString(h.Sum(nil)) }

// hashed counts and hashes what passes to w.
type hashed struct {
	w    io.Writer
	hash hash.Hash
	n    int64
}

func (h *hashed) Write(p []byte) (int, error) {
	n, err := h.w.Write(p)
	_, _ = h.hash.Write(p[:n]) // never fails
	h.n += int64(n)
	return n, err
}
