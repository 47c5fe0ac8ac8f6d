// Package debian fetches packages from Debian's archive, from the mirrors that
// the host's own apt configuration names, through the whole chain of trust:
// Debian's keys, which are pinned, sign InRelease, InRelease holds the hash of
// Packages, Packages holds the hash of the package. An index that is older than one
// seen before is refused.
//
// Words: a source is one archive that apt is configured with; a suite is a
// release in it ("bookworm", "bookworm-security"); an index is the list of a
// suite's packages. No byte of a mirror is parsed before its hash or signature
// was checked, and every size is bounded.
package debian

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"

	"banger/internal/base/errs"
	"banger/internal/fetch"
)

// Archive is a client of Debian's archive. It may be used by many goroutines.
type Archive struct {
	sources []Source
	keys    openpgp.EntityList
	cache   string
	client  *fetch.Client
	dates   Dates
	older   bool
}

// Dates remembers the newest index of each suite, for as long as the host lasts.
type Dates interface {
	// IndexDate returns the newest date seen of a suite's index, or the zero time.
	IndexDate(ctx context.Context, suite string) (time.Time, error)
	// PutIndexDate records a date, which may also be older.
	PutIndexDate(ctx context.Context, suite string, date time.Time) error
}

// Options are what an Archive needs.
type Options struct {
	// Sources are the candidates, from [Sources].
	Sources []Source
	// Keyring is a file of keys, all of which are trusted; empty means Debian's own,
	// which are pinned.
	Keyring string
	// Cache is the folder for verified package files and indexes; it is made if
	// missing.
	Cache string
	// Host is apt's view of the network; the zero value suits a host without apt.
	Host HostConfig
	// Proxy, if it is not nil, chooses the proxy of a request in the place of Host.
	Proxy func(*http.Request) (*url.URL, error)
	// Dates makes a replay of an older index an error; nil lets it pass.
	Dates Dates
	// AllowOlder takes an older index, once, and remembers its date as the newest.
	AllowOlder bool
}

// Open returns a client. It reads the keyring and sends nothing.
func Open(o Options) (*Archive, error) {
	if len(o.Sources) == 0 {
		return nil, errs.New(errs.Unavailable, "the apt configuration of this host names no mirror of Debian").
			WithHint("add a source of Debian bookworm, signed by debian-archive-keyring, in /etc/apt/sources.list.d")
	}
	keys, err := keyring(o.Keyring)
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
	if o.Proxy == nil {
		o.Proxy = o.Host.proxy
	}
	client := fetch.New(fetch.Options{Proxy: o.Proxy, Hint: "check the network and the mirror: apt-get update"})
	return &Archive{sources: sources, keys: keys, cache: o.Cache, client: client, dates: o.Dates, older: o.AllowOlder}, nil
}

// Close drops idle connections.
func (a *Archive) Close() { a.client.Close() }

// Packages returns the packages of a suite's component that keep wants, from the
// first source that has the suite. A suite that no source has is a NotFound
// error.
func (a *Archive) Packages(ctx context.Context, suite, component string, keep func(name string) bool) (found []Package, err error) {
	err = a.first(ctx, suite, func(s Source) (err error) {
		found, err = a.packagesOf(ctx, s, suite, component, keep)
		return err
	})
	return found, err
}

// first calls try with the candidates for a suite until it succeeds.
func (a *Archive) first(ctx context.Context, suite string, try func(Source) error) error {
	var missing, failed error
	for _, s := range a.candidates(suite) {
		err := try(s)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case errs.KindOf(err) == errs.NotFound:
			missing = cmp.Or(missing, err)
		default:
			failed = cmp.Or(failed, err)
		}
	}
	return cmp.Or(failed, missing)
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

// Fetch returns the path of p's file in the cache, which it downloads unless a
// good copy is there. It calls report with the bytes done so far. The caller may
// remove the file when nobody uses it.
func (a *Archive) Fetch(ctx context.Context, p Package, report func(done int64)) (string, error) {
	file := filepath.Join(a.cache, p.SHA256()+".deb")
	uri := p.URL()
	if err := a.client.File(ctx, uri, file, p.digest, maxPackage, report); err != nil {
		return "", untrusted(uri, err)
	}
	return file, nil
}

// errUnsigned says that bytes are not those that the archive has signed.
var errUnsigned = errors.New("it is not the file that Debian has signed")

func untrusted(uri string, err error) error {
	if errors.Is(err, fetch.ErrDigest) {
		return errs.New(errs.Unavailable, "cannot trust %q: %w", uri, errUnsigned).WithHint("try again later, or use another mirror: the mirror may be out of step")
	}
	return err
}

// escapePath escapes a file's name for a URI, "+" too, as apt does.
func escapePath(name string) string {
	dir, file := path.Split(name)
	return (&url.URL{Path: dir}).EscapedPath() + url.QueryEscape(file)
}
