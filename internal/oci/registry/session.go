package registry

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"banger/internal/base/errs"
	"banger/internal/oci"
)

// maxRedirects is how often in a row we are sent elsewhere.
const maxRedirects = 5

// session is the right to read one repository at one place. It is safe for concurrent
// use.
type session struct {
	keychain   authn.Keychain
	place      place
	repository name.Repository
	reach      *reach
	patience   patience
	// without is why we have no credentials, if that is remarkable.
	without atomic.Pointer[error]
	// lock is held by its one element; unlike a mutex it can be waited for with a context.
	lock chan struct{}

	// The rest is guarded by lock.

	// challenge is what the registry answered to our greeting, nil before.
	challenge *transport.Challenge
	// authorization is the header's value, or empty if we have no credentials.
	authorization string
}

func (c *Client) newSession(p place, repository string) *session {
	s := &session{
		keychain: c.keychain, place: p, patience: c.patience,
		repository: p.registry.Repo(p.prefix + repository),
		reach:      &reach{c: c, place: p},
		lock:       make(chan struct{}, 1),
	}
	host := hostname(p.registry.RegistryStr())
	addr, err := netip.ParseAddr(host)
	s.reach.private.Store(isLocalName(host) || err == nil && !c.public(addr))
	return s
}

// authorize returns the value of the Authorization header and the scheme of the
// registry's URLs. stale is a value that the registry has refused, or empty: the answer
// is another one if there is any.
func (s *session) authorize(ctx context.Context, stale string) (value, scheme string, err error) {
	select {
	case s.lock <- struct{}{}:
		defer func() { <-s.lock }()
	case <-ctx.Done():
		return "", "", ctx.Err()
	}
	if s.challenge == nil {
		challenge, err := transport.Ping(ctx, s.repository.Registry, short{s.reach})
		if err != nil {
			return "", "", s.explain(err, "")
		}
		if s.authorization, err = s.credentials(ctx, challenge); err != nil {
			return "", "", err
		}
		s.challenge = challenge
	} else if stale != "" && stale == s.authorization && isBearer(s.challenge) {
		if s.authorization, err = s.credentials(ctx, s.challenge); err != nil {
			return "", "", err
		}
	}
	scheme = "https"
	if s.challenge.Insecure {
		scheme = "http"
	}
	return s.authorization, scheme, nil
}

func isBearer(c *transport.Challenge) bool { return strings.EqualFold(c.Scheme, "bearer") }

// credentials returns what answers the challenge.
func (s *session) credentials(ctx context.Context, challenge *transport.Challenge) (string, error) {
	auth, err := authn.Resolve(ctx, s.keychain, s.repository)
	if err != nil {
		return "", err
	}
	s.without.Store(nil)
	if u, ok := auth.(unanswered); ok {
		s.without.Store(&u.reason)
	}
	config, err := authn.Authorization(ctx, auth)
	switch {
	case err != nil:
		return "", err
	case config.RegistryToken != "":
		return "Bearer " + config.RegistryToken, nil
	case !isBearer(challenge):
		return basic(config), nil
	}
	scopes := []string{s.repository.Scope(transport.PullScope)}
	token, err := transport.Exchange(ctx, s.repository.Registry, auth, short{s.reach}, scopes, challenge)
	if err != nil {
		return "", s.explain(err, "its token server")
	}
	if token.AccessToken != "" {
		token.Token = token.AccessToken
	}
	return "Bearer " + token.Token, nil
}

// basic returns the header's value for a name and a password (RFC 7617), or "".
func basic(c *authn.AuthConfig) string {
	switch {
	case c.Username != "" && c.Password != "":
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(c.Username+":"+c.Password))
	case c.Auth != "":
		return "Basic " + c.Auth
	}
	return ""
}

// get asks for path below the repository, renews credentials that have run out, and
// goes where the registry sends us. Credentials go to the registry only. The caller
// closes the body of the answer, whose status is any but a redirection.
func (s *session) get(ctx context.Context, path string, header http.Header) (*http.Response, error) {
	value, scheme, err := s.authorize(ctx, "")
	if err != nil {
		return nil, err
	}
	u := &url.URL{Scheme: scheme, Host: s.repository.RegistryStr(), Path: "/v2/" + s.repository.RepositoryStr() + path}
	resp, err := s.send(ctx, u, header, value)
	if err == nil && resp.StatusCode == http.StatusUnauthorized {
		renewed, _, authErr := s.authorize(ctx, value)
		if authErr != nil {
			drop(resp)
			return nil, authErr
		}
		if renewed != value {
			drop(resp)
			value = renewed
			resp, err = s.send(ctx, u, header, value)
		}
	}
	for hops := 1; err == nil && isRedirect(resp); hops++ {
		to, locationErr := resp.Location()
		drop(resp)
		switch {
		case locationErr != nil:
			return nil, errs.New(errs.Invalid, "%s sends us nowhere: %w", s.place, locationErr)
		case hops > maxRedirects:
			return nil, errs.New(errs.Invalid, "%s sends us round: more than %d redirections", s.place, maxRedirects)
		}
		if !s.reach.isOwn(to) || to.Scheme != scheme {
			value = "" // and it never comes back
		}
		resp, err = s.send(ctx, to, header, value)
	}
	if err != nil {
		return nil, s.explain(err, "")
	}
	return resp, nil
}

func isRedirect(resp *http.Response) bool {
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

func (s *session) send(ctx context.Context, u *url.URL, header http.Header, authorization string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header = header.Clone()
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	return s.reach.RoundTrip(req)
}

// resolve returns the image that ref names.
func (s *session) resolve(ctx context.Context, ref oci.Reference, p oci.Platform) (*oci.Image, error) {
	raw, header, err := s.document(ctx, "/manifests/"+ref.Identifier(), oci.ManifestTypes, oci.MaxManifest)
	if err != nil {
		return nil, err
	}
	got := oci.Digest(raw)
	if want := ref.Digest(); want != "" && got != want {
		return nil, errs.New(errs.Invalid, "%s sends something else: its digest is %s", s.place, got)
	}
	if said := header.Get("Docker-Content-Digest"); oci.CheckDigest(said) == nil && said != got {
		return nil, errs.New(errs.Invalid, "%s says that the manifest has the digest %s, but it has %s", s.place, said, got)
	}
	return oci.Select(ctx, raw, header.Get("Content-Type"), p, documents{s})
}

// documents are those of a session, for [oci.Select].
type documents struct{ s *session }

func (d documents) Manifest(ctx context.Context, want v1.Descriptor) ([]byte, error) {
	raw, _, err := d.s.document(ctx, "/manifests/"+want.Digest.String(), oci.ManifestTypes, want.Size)
	return raw, err
}

func (d documents) Config(ctx context.Context, want v1.Descriptor) ([]byte, error) {
	raw, _, err := d.s.document(ctx, "/blobs/"+want.Digest.String(), []string{"*/*"}, want.Size)
	return raw, err
}

// document returns the document at path, of at most limit bytes.
func (s *session) document(ctx context.Context, path string, accept []string, limit int64) ([]byte, http.Header, error) {
	asked := ctx
	ctx, cancel := context.WithTimeoutCause(ctx, s.patience.document, fmt.Errorf("it was not there after %s", s.patience.document))
	defer cancel()
	header := http.Header{"Accept": {strings.Join(accept, ", ")}} // one line: some read no more
	for i := 1; ; i++ {
		raw, h, err := s.read(ctx, path, header, limit)
		switch {
		case err == nil:
			return raw, h, nil
		case asked.Err() != nil:
			return nil, nil, asked.Err()
		case ctx.Err() != nil:
			return nil, nil, errs.New(errs.Unavailable, "%s is too slow: %w", s.place, context.Cause(ctx))
		case i >= s.patience.attempts || !hungUp(err):
			return nil, nil, err
		}
		if err := s.patience.wait(ctx, s.patience.pause(i)); err != nil {
			return nil, nil, err
		}
	}
}

func (s *session) read(ctx context.Context, path string, header http.Header, limit int64) ([]byte, http.Header, error) {
	resp, err := s.get(ctx, path, header)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // it was only read
	if resp.StatusCode != http.StatusOK {
		return nil, nil, s.refused(resp)
	}
	raw, err := readAtMost(resp.Body, resp.ContentLength, limit)
	if errors.Is(err, errTooLong) {
		return nil, nil, errs.New(errs.Invalid, "%s sends more than the %d bytes that %q may have", s.place, limit, oci.Printable(strings.TrimPrefix(path, "/")))
	}
	if err != nil {
		return nil, nil, s.broken(err)
	}
	return raw, resp.Header, nil
}
