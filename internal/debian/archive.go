// Package debian fetches packages from Debian's archive, from the mirrors that
// the host's own apt configuration names, through the whole chain of trust:
// Debian's keyring signs InRelease, InRelease holds the hash of Packages,
// Packages holds the hash of the package.
//
// Words: a source is one archive that apt is configured with; a suite is a
// release in it ("bookworm", "bookworm-security"); an index is the list of a
// suite's packages. No byte of a mirror is parsed before its hash or signature
// was checked, and every size is bounded.
package debian

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"

	"banger/internal/base/atomicfile"
	"banger/internal/base/errs"
)

// Bounds of what a mirror sends before it is verified, in bytes. In Debian 12
// InRelease has 150 kB and the largest index 9 MB.
const (
	maxInRelease = 8 << 20
	maxIndex     = 64 << 20
)

// Archive is a client of Debian's archive. It may be used by many goroutines.
type Archive struct {
	sources []Source
	keys    openpgp.EntityList
	cache   string
	client  *http.Client
	stall   time.Duration
}

// Options are what an Archive needs.
type Options struct {
	// Sources are the candidates, from [DebianSources].
	Sources []Source
	// Keyring is the file of Debian's keys; empty means [DefaultKeyring].
	Keyring string
	// Cache is the folder for verified package files; it is made if missing.
	Cache string
	// Host is apt's view of the network; the zero value suits a host without apt.
	Host HostConfig
}

// Open returns a client. It reads the keyring and sends nothing.
func Open(o Options) (*Archive, error) {
	if len(o.Sources) == 0 {
		return nil, errs.New(errs.Unavailable, "the apt configuration of this host names no mirror of Debian").
			WithHint("add a source of Debian bookworm, signed by debian-archive-keyring, in /etc/apt/sources.list.d")
	}
	if o.Keyring == "" {
		o.Keyring = DefaultKeyring
	}
	keys, err := readKeyring(o.Keyring)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Cache, 0o700); err != nil {
		return nil, errs.New(errs.Unavailable, "cannot make the folder for downloads: %w", err)
	}
	sources := slices.Clone(o.Sources)
	for i := range sources {
		sources[i].IgnoreExpiry = sources[i].IgnoreExpiry || o.Host.IgnoreExpiry
	}
	return &Archive{sources: sources, keys: keys, cache: o.Cache, client: newClient(o.Host.proxy), stall: stallTimeout}, nil
}

// Close drops idle connections.
func (a *Archive) Close() { a.client.CloseIdleConnections() }

// Packages returns the packages of a suite's component that keep wants, from the
// first source that has the suite. A suite that no source has is a NotFound
// error.
func (a *Archive) Packages(ctx context.Context, suite, component string, keep func(name string) bool) ([]Package, error) {
	var missing, failed error
	for _, s := range a.candidates(suite) {
		found, err := a.packagesOf(ctx, s, suite, component, keep)
		switch {
		case err == nil:
			return found, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errs.KindOf(err) == errs.NotFound:
			missing = cmp.Or(missing, err)
		default:
			failed = cmp.Or(failed, err)
		}
	}
	return nil, cmp.Or(failed, missing)
}

// candidates returns the sources in the order in which to ask them for suite:
// first those that are configured with it, then those with a suite of the same
// sort (security, updates, plain), as on a host of another release; each URI once.
func (a *Archive) candidates(suite string) []Source {
	sort := func(s string) string { // "trixie-security" and "bookworm-security" are of one sort
		_, after, _ := strings.Cut(s, "-")
		return after
	}
	rank := func(s Source) int {
		switch {
		case slices.Contains(s.Suites, suite):
			return 0
		case slices.ContainsFunc(s.Suites, func(x string) bool { return sort(x) == sort(suite) }):
			return 1
		}
		return 2
	}
	list := slices.Clone(a.sources)
	slices.SortStableFunc(list, func(x, y Source) int { return rank(x) - rank(y) })
	seen := map[string]bool{}
	return slices.DeleteFunc(list, func(s Source) bool {
		again := seen[s.URI]
		seen[s.URI] = true
		return again
	})
}

func (a *Archive) packagesOf(ctx context.Context, s Source, suite, component string, keep func(string) bool) ([]Package, error) {
	base := s.URI + "/dists/" + url.PathEscape(suite)
	r, err := a.release(ctx, s, base+"/InRelease", suite)
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
		uri = fmt.Sprintf("%s/%s/by-hash/SHA256/%x", base, dir, d.sha256)
	}
	var packed bytes.Buffer
	if d.size > maxIndex {
		return nil, errs.New(errs.Unavailable, "the index %q of %d bytes is too large", uri, d.size)
	}
	err = a.get(ctx, uri, func(body io.Reader) error {
		packed.Reset()
		return copyVerified(&packed, body, d)
	})
	if err != nil {
		return nil, untrusted(uri, err)
	}
	plain, done, err := decompress("Packages.xz", &packed)
	if err != nil {
		return nil, fmt.Errorf("cannot unpack %q: %w", uri, err)
	}
	defer done()
	found, err := parsePackages(plain, keep)
	if err != nil {
		return nil, fmt.Errorf("cannot read %q: %w", uri, err)
	}
	for i := range found {
		found[i].URI, found[i].Suite = s.URI, suite
	}
	return found, nil
}

// release fetches and verifies an InRelease.
func (a *Archive) release(ctx context.Context, s Source, uri, suite string) (release, error) {
	var raw []byte
	err := a.get(ctx, uri, func(body io.Reader) (err error) {
		raw, err = io.ReadAll(io.LimitReader(body, maxInRelease))
		return err
	})
	if err != nil {
		return release{}, err
	}
	text, err := verify(raw, a.keys)
	if err != nil {
		return release{}, errs.New(errs.Unavailable, "cannot trust %q: %w", uri, err).
			WithHint("update debian-archive-keyring, or mend the source in /etc/apt")
	}
	r, err := parseRelease(text)
	if err == nil {
		err = r.check(suite, time.Now(), s.IgnoreExpiry)
	}
	if err != nil {
		return release{}, errs.New(errs.Unavailable, "cannot use %q: %w", uri, err)
	}
	return r, nil
}

// Fetch returns the path of p's file in the cache, which it downloads unless a
// good copy is there. It calls report with the bytes done so far. The caller may
// remove the file when nobody uses it.
func (a *Archive) Fetch(ctx context.Context, p Package, report func(done int64)) (string, error) {
	file := filepath.Join(a.cache, p.SHA256()+".deb")
	if cached(file, p.digest) {
		return file, nil
	}
	uri := p.URI + "/" + escapePath(p.Filename)
	err := a.get(ctx, uri, func(body io.Reader) error {
		return atomicfile.WriteFrom(file, 0o600, func(w io.Writer) error {
			return copyVerified(w, &countedReader{r: body, report: report}, p.digest)
		})
	})
	if err != nil {
		return "", untrusted(uri, err)
	}
	return file, nil
}

// errDigest says that bytes are not those that the archive has signed.
var errDigest = errors.New("it is not the file that Debian has signed")

func untrusted(uri string, err error) error {
	if errors.Is(err, errDigest) {
		return errs.New(errs.Unavailable, "cannot trust %q: %w", uri, err).WithHint("try again later, or use another mirror: the mirror may be out of step")
	}
	return err
}

// copyVerified copies r to w and fails unless it is what d tells.
func copyVerified(w io.Writer, r io.Reader, d digest) error {
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, sum), io.LimitReader(r, d.size+1))
	if err != nil {
		return err
	}
	if n != d.size || !bytes.Equal(sum.Sum(nil), d.sha256[:]) {
		return errDigest
	}
	return nil
}

// cached says whether file is a good copy.
func cached(file string, d digest) bool {
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	defer f.Close() //nolint:errcheck // it was only read
	return copyVerified(io.Discard, f, d) == nil
}

// escapePath escapes a file's name for a URI, "+" too, as apt does.
func escapePath(name string) string {
	dir, file := path.Split(name)
	return (&url.URL{Path: dir}).EscapedPath() + url.QueryEscape(file)
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
