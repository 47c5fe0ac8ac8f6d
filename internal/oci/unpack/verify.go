package unpack

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"

	"banger/internal/base/errs"
)

// Verify returns a reader of r that ends with io.EOF only if all bytes of r have the
// digest want, "sha256:…"; else it ends with errs.Invalid. A reader of tars stops
// before the end of its input: read on to io.EOF, or nothing is verified.
func Verify(r io.Reader, want string) io.Reader {
	return &verifier{r: r, want: want, hash: sha256.New()}
}

type verifier struct {
	r    io.Reader
	want string
	hash hash.Hash
}

func (v *verifier) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	_, _ = v.hash.Write(p[:n]) // never fails
	if errors.Is(err, io.EOF) {
		if got := "sha256:" + hex.EncodeToString(v.hash.Sum(nil)); got != v.want {
			return n, errs.New(errs.Invalid, "it is damaged: its contents have the digest %s, not %s", got, v.want)
		}
	}
	return n, err
}
