package blobs

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"hash"
	"io"
	"strings"

	"banger/internal/base/errs"
)

// Descriptor names a blob.
type Descriptor struct {
	// Digest is "sha256:" and 64, or "sha512:" and 128 hexadecimal digits in lower
	// case (OCI image-spec, descriptor.md, "Registered Algorithms").
	Digest string
	// Size is its length in bytes, or -1 if that is not known.
	Size int64
}

// Source opens the bytes of a blob from offset on. It returns the offset at which
// the bytes really start: offset, or less, such as 0 where a server cannot resume
// or finds no byte at the offset (HTTP 416). The caller closes r. When ctx ends,
// the call and a Read that is under way end soon.
//
// A failure is taken as one that may pass, and the source is asked again, unless
// its kind ([errs.KindOf]) is NotFound, Invalid, Exists, Conflict or Canceled, or an
// error in its chain has a method "Permanent() bool" that returns true: a refusal of
// credentials, for example.
type Source func(ctx context.Context, offset int64) (r io.ReadCloser, from int64, err error)

// digest is a checked [Descriptor.Digest]: safe as a file name.
type digest struct{ algorithm, hex string }

func (d digest) String() string { return d.algorithm + ":" + d.hex }

// short is a digest for people.
func (d digest) short() string { return d.algorithm + ":" + d.hex[:12] }

// parseDigest returns an Invalid error for anything but a digest that we can check.
func parseDigest(text string) (digest, error) {
	algorithm, digits, _ := strings.Cut(text, ":")
	d := digest{algorithm, digits}
	if !d.valid() {
		return digest{}, errs.New(errs.Invalid, "%.200q is not a digest", text).
			WithHint("a digest is sha256: and 64, or sha512: and 128 digits of 0-9 and a-f")
	}
	return d, nil
}

func (d digest) valid() bool {
	size := map[string]int{"sha256": sha256.Size, "sha512": sha512.Size}[d.algorithm]
	return size > 0 && len(d.hex) == 2*size && strings.Trim(d.hex, "0123456789abcdef") == ""
}

func (d digest) hash() hash.Hash {
	if d.algorithm == "sha512" {
		return sha512.New()
	}
	return sha256.New()
}

// matches says whether h has hashed the digest's bytes.
func (d digest) matches(h hash.Hash) bool { return hex.EncodeToString(h.Sum(nil)) == d.hex }

func (d Descriptor) parse() (digest, error) {
	if d.Size < -1 {
		return digest{}, errs.New(errs.Invalid, "the size of %.200q is %d", d.Digest, d.Size)
	}
	return parseDigest(d.Digest)
}

// fits says whether a blob of n bytes can be d's.
func (d Descriptor) fits(n int64) bool { return d.Size < 0 || d.Size == n }
