package fetch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"banger/internal/base/atomicfile"
	"banger/internal/base/errs"
)

// Digest is what a file must be.
type Digest struct {
	// Size is its length in bytes, or -1 if only the bound of a caller holds.
	Size   int64
	SHA256 [sha256.Size]byte
}

// digestPrefix names the hash.
const digestPrefix = "sha256:"

// ParseDigest reads "sha256:" and 64 hexadecimal digits; the size is not known.
func ParseDigest(s string) (Digest, error) {
	d := Digest{Size: -1}
	digits, ok := strings.CutPrefix(strings.ToLower(s), digestPrefix)
	raw, err := hex.DecodeString(digits)
	if !ok || err != nil || len(raw) != len(d.SHA256) {
		return d, errs.New(errs.Invalid, "cannot read the digest %q", s).
			WithHint("write it as sha256: and the 64 digits that sha256sum FILE prints")
	}
	copy(d.SHA256[:], raw)
	return d, nil
}

// Hex is the hash in hexadecimal.
func (d Digest) Hex() string { return hex.EncodeToString(d.SHA256[:]) }

// String is the digest as [ParseDigest] reads it.
func (d Digest) String() string { return digestPrefix + d.Hex() }

// ErrDigest says that bytes are not those that they must be.
var ErrDigest = errors.New("it is not the file that the digest names")

// Copy copies r, of at most limit bytes, to w, and fails with [ErrDigest] unless it
// is what d tells. What has reached w by then must not be used.
func (d Digest) Copy(w io.Writer, r io.Reader, limit int64) error {
	if d.Size > limit {
		return tooLarge(limit)
	}
	want := limit
	if d.Size >= 0 {
		want = d.Size
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, sum), io.LimitReader(r, want+1))
	switch {
	case err != nil:
		return err
	case d.Size < 0 && n > limit:
		return tooLarge(limit)
	case d.Size >= 0 && n != d.Size, !bytes.Equal(sum.Sum(nil), d.SHA256[:]):
		return ErrDigest
	}
	return nil
}

func tooLarge(limit int64) error {
	return errs.New(errs.Invalid, "it is larger than %d MiB", limit>>20)
}

// Is says whether the file at path is what d tells.
func (d Digest) Is(path string, limit int64) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close() //nolint:errcheck // it was only read
	return d.Copy(io.Discard, f, limit) == nil
}

// File makes the file at path of the one at uri, of at most limit bytes, unless it
// is there and right. It calls report with the bytes done so far. After an error
// the file at path is as it was.
func (c *Client) File(ctx context.Context, uri, path string, d Digest, limit int64, report func(done int64)) error {
	if d.Is(path, limit) {
		return nil
	}
	err := c.Get(ctx, uri, func(body io.Reader) error {
		return atomicfile.WriteFrom(path, 0o600, func(w io.Writer) error {
			return d.Copy(w, &countedReader{r: body, report: report}, limit)
		})
	})
	// Of the file that it was to be, nobody needs to know.
	if errors.Is(err, ErrDigest) {
		return fmt.Errorf("cannot use %q: %w", Redacted(uri), ErrDigest)
	}
	if e, ok := errors.AsType[*errs.Error](err); ok && e.Kind == errs.Invalid {
		return fmt.Errorf("cannot use %q: %w", Redacted(uri), e)
	}
	return err
}

type countedReader struct {
	r      io.Reader
	n      int64
	report func(int64)
}

func (c *countedReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if c.report != nil {
		c.report(c.n)
	}
	return n, err
}
