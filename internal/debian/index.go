package debian

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"banger/internal/base/errs"
	"banger/internal/fetch"
)

// Bounds of what a mirror sends, in bytes. In Debian 12 InRelease has 150 kB, and the
// largest index 9 MB packed and 50 MB plain.
const (
	maxInRelease = 8 << 20
	maxIndex     = 64 << 20
	maxPlain     = 512 << 20
)

// packagesOf reads the index of a suite's component from one source.
func (a *Archive) packagesOf(ctx context.Context, s Source, suite, component string, keep func(string) bool) ([]Package, error) {
	base := s.URI + "/dists/" + url.PathEscape(suite)
	r, key, err := a.release(ctx, s, base+"/InRelease", suite)
	if err != nil {
		return nil, err
	}
	dir := component + "/binary-" + Arch
	d, ok := r.files[dir+"/Packages.xz"]
	if !ok {
		return nil, errs.New(errs.NotFound, "the suite %q has no component %q for %s", suite, component, Arch)
	}
	uri := base + "/" + dir + "/Packages.xz"
	if r.byHash {
		uri = base + "/" + dir + "/by-hash/SHA256/" + d.Hex()
	}
	limit := int64(maxPlain)
	if plain, ok := r.files[dir+"/Packages"]; ok {
		limit = plain.Size
	}
	if d.Size > maxIndex || limit > maxPlain {
		return nil, errs.New(errs.Unavailable, "the index %q of %d bytes, %d unpacked, is too large", uri, d.Size, limit)
	}
	file, err := a.fetchIndex(ctx, uri, suite+"_"+component, d)
	if err != nil {
		return nil, err
	}
	found, err := readIndex(file, limit, keep)
	if err != nil {
		return nil, fmt.Errorf("cannot read %q: %w", uri, err)
	}
	for i := range found {
		found[i].URI, found[i].Suite, found[i].IndexDate, found[i].Key = s.URI, suite, r.date, key
	}
	return found, nil
}

// release fetches and verifies an InRelease, and returns the fingerprint of the key
// that has signed it too.
func (a *Archive) release(ctx context.Context, s Source, uri, suite string) (r release, key string, err error) {
	var raw []byte
	err = a.client.Get(ctx, uri, func(body io.Reader) (err error) {
		raw, err = io.ReadAll(io.LimitReader(body, maxInRelease))
		return err
	})
	if err != nil {
		return r, "", err
	}
	text, key, err := verify(raw, a.keys)
	if err != nil {
		return r, "", errs.New(errs.Unavailable, "cannot trust %q: %w", uri, err).
			WithHint("update debian-archive-keyring, or mend the source in /etc/apt")
	}
	r, err = parseRelease(text)
	if err == nil {
		err = r.check(suite, time.Now(), s.IgnoreExpiry)
	}
	if err == nil {
		err = a.remember(ctx, suite, r.date)
	}
	if err != nil {
		return r, "", errs.New(errs.Unavailable, "cannot use %q: %w", uri, err)
	}
	return r, key, nil
}

// remember refuses an index that is older than the newest seen of its suite: a mirror,
// or who stands before it, may replay a signed one from before a security update.
// Suites without Valid-Until have no other guard.
func (a *Archive) remember(ctx context.Context, suite string, date time.Time) error {
	if a.dates == nil {
		return nil
	}
	if date.IsZero() {
		return errors.New("it has no date")
	}
	newest, err := a.dates.IndexDate(ctx, suite)
	if err != nil {
		return err
	}
	switch {
	case date.Before(newest) && !a.older:
		return errs.New(errs.Unavailable, "it is of %s, %w (of %s)", date.Format(time.RFC1123), ErrOlder, newest.Format(time.RFC1123)).
			WithHint("try again later, or use another mirror: this one may be out of step")
	case date.Equal(newest):
		return nil
	}
	return a.dates.PutIndexDate(ctx, suite, date)
}

// fetchIndex returns the path of an index in the cache, which holds the newest one of
// each name.
func (a *Archive) fetchIndex(ctx context.Context, uri, name string, d fetch.Digest) (string, error) {
	prefix := strings.ReplaceAll(name, "/", "-") + "_"
	file := filepath.Join(a.cache, prefix+d.Hex()+".Packages.xz")
	if err := a.client.File(ctx, uri, file, d, maxIndex, nil); err != nil {
		return "", untrusted(uri, err)
	}
	entries, err := os.ReadDir(a.cache)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) && e.Name() != filepath.Base(file) {
			_ = os.Remove(filepath.Join(a.cache, e.Name())) // another reader may have removed it
		}
	}
	return file, nil
}

// readIndex returns the packages in the index file that keep wants. The plain text
// has at most limit bytes.
func readIndex(file string, limit int64, keep func(string) bool) ([]Package, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	plain, done, err := decompress("Packages.xz", f)
	if err != nil {
		return nil, err
	}
	defer done()
	return parsePackages(&bounded{r: plain, left: limit}, keep)
}

// bounded is a reader that fails where more than left bytes come.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, errTooLong
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left+1)])
	if b.left -= int64(n); b.left < 0 {
		return 0, errTooLong
	}
	return n, err
}

// ErrOlder is why an index may be a replay.
var ErrOlder = errors.New("older than the newest that was seen")

var errTooLong = errors.New("it unpacks to more than it should")
