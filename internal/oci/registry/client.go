// Package registry gets images from registries (OCI distribution specification 1.1,
// Docker Registry HTTP API V2).
//
// A [Client] resolves a reference to an image, whose documents it fetches and
// verifies; the bytes of the layers are opened by each layer's Source, later and by
// whoever keeps them. What a registry says is not trusted: every answer is bounded, and
// a registry that is public cannot send us to an address that is not (see reach).
package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"banger/internal/base/errs"
	"banger/internal/oci"
)

// Patience with a registry.
const (
	dialTimeout   = 15 * time.Second
	tlsTimeout    = 15 * time.Second
	headerTimeout = 30 * time.Second
)

// Options say how registries are reached. The zero value is right for public ones.
type Options struct {
	// Mirrors has, for a registry ("docker.io"), where its images are looked for
	// first, in this order: "host", "host:port/prefix", or one of these behind
	// "https://" or "http://"; the latter is insecure. The prefix goes before the
	// repository's name.
	Mirrors map[string][]string
	// Insecure lists registries that may be spoken to without TLS, or with
	// certificates that prove nothing: "host", "host:port", or a network in CIDR
	// notation for those named by address. This machine's own are so without being
	// listed.
	Insecure []string
	// CAFile has certificates, in PEM, of authorities to trust beside the system's.
	CAFile string
	// Proxy says through which proxy a request goes; nil goes by the environment's
	// HTTP_PROXY, HTTPS_PROXY and NO_PROXY.
	Proxy func(*http.Request) (*url.URL, error)
	// Keychain has the credentials; nil is [UserKeychain] of this process.
	Keychain authn.Keychain
}

// Client speaks to registries. It is safe for concurrent use.
type Client struct {
	mirrors  map[string][]place
	insecure insecure
	keychain authn.Keychain
	proxy    func(*http.Request) (*url.URL, error)
	// open reaches everything, through the proxy; guarded only public addresses, and
	// no proxy; lax is open without the proof of certificates.
	open, guarded, lax *http.Transport
	patience           patience
	// public is isPublic, but for tests, whose servers are all on loopback.
	public func(netip.Addr) bool
}

// New returns a client. Options that cannot be are errs.Invalid.
func New(o Options) (*Client, error) {
	c := &Client{mirrors: map[string][]place{}, keychain: o.Keychain, proxy: o.Proxy, patience: defaultPatience, public: isPublic}
	if c.keychain == nil {
		c.keychain = UserKeychain(os.Environ())
	}
	if c.proxy == nil {
		c.proxy = http.ProxyFromEnvironment
	}
	var err error
	if c.insecure, err = parseInsecure(o.Insecure); err != nil {
		return nil, err
	}
	for registry, mirrors := range o.Mirrors {
		of, err := oci.ParseReference(registry + "/any/image")
		if err != nil {
			return nil, errs.New(errs.Invalid, "mirrors of %q: %w", oci.Printable(registry), err).WithHint("name a registry, such as docker.io")
		}
		for _, m := range mirrors {
			p, err := c.parseMirror(m)
			if err != nil {
				return nil, err
			}
			c.mirrors[of.Registry()] = append(c.mirrors[of.Registry()], p)
		}
	}
	trust := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		if trust.RootCAs, err = authorities(o.CAFile); err != nil {
			return nil, err
		}
	}
	free := &net.Dialer{Timeout: dialTimeout}
	guard := &net.Dialer{Timeout: dialTimeout, ControlContext: c.refusePrivate}
	c.open = newTransport(trust, free, c.proxy)
	c.guarded = newTransport(trust, guard, nil)
	c.lax = newTransport(&tls.Config{InsecureSkipVerify: true}, free, c.proxy) //nolint:gosec // for registries that the user named insecure
	return c, nil
}

func newTransport(t *tls.Config, d *net.Dialer, proxy func(*http.Request) (*url.URL, error)) *http.Transport {
	return &http.Transport{
		Proxy:                 proxy,
		DialContext:           d.DialContext,
		TLSClientConfig:       t,
		TLSHandshakeTimeout:   tlsTimeout,
		ResponseHeaderTimeout: headerTimeout,
		IdleConnTimeout:       30 * time.Second,
		MaxIdleConnsPerHost:   4, // layers come side by side
		ForceAttemptHTTP2:     true,
		// Blobs are compressed as blobs; unasked decoding would change them.
		DisableCompression:     true,
		MaxResponseHeaderBytes: 256 << 10,
	}
}

// authorities returns the system's certificates and those of a file.
func authorities(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, errs.New(errs.Invalid, "cannot read the certificates of authorities: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, err
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errs.New(errs.Invalid, "there is no certificate in %q", path).WithHint("write the authorities' certificates to it in PEM")
	}
	return pool, nil
}

// Close closes connections that are idle. Those of open bodies go with these.
func (c *Client) Close() error {
	for _, t := range []*http.Transport{c.open, c.guarded, c.lax} {
		t.CloseIdleConnections()
	}
	return nil
}

// Resolve returns the image that ref names for platform p, with its documents
// fetched and verified. Each layer has a Source, which stays good as long as the
// registry has the layer and c is not closed: credentials that run out are renewed.
//
// Mirrors are asked in their order and then the registry, until one has the image. The
// error is that of the registry, with the mirrors' told beside it: errs.NotFound if
// there is no such image, or none for p; errs.Unavailable, with a hint, if the
// registry cannot be reached or lets us not have it; errs.Invalid if what it has is
// no image, is damaged, or is in a form that we cannot use.
func (c *Client) Resolve(ctx context.Context, ref oci.Reference, p oci.Platform) (*oci.Image, error) {
	pull, err := c.newPull(ref)
	if err != nil {
		return nil, err
	}
	var img *oci.Image
	err = pull.try(ctx, func(s *session) error {
		var err error
		img, err = s.resolve(ctx, ref, p)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot pull %q: %w", ref.Familiar(), err)
	}
	for i := range img.Layers {
		img.Layers[i].Source = pull.source(img.Layers[i])
	}
	return img, nil
}

// pull is what one Resolve and the layers of its image share.
type pull struct {
	// sessions are those of the mirrors, and the registry's as the last.
	sessions []*session
	// best is the index of the session that answered last.
	best atomic.Int32
}

func (c *Client) newPull(ref oci.Reference) (*pull, error) {
	if ref == (oci.Reference{}) {
		return nil, errs.New(errs.Invalid, "there is no image reference")
	}
	own, err := c.newPlace(ref.Registry(), "", false)
	if err != nil {
		return nil, err
	}
	p := &pull{}
	for _, place := range append(slices.Clone(c.mirrors[ref.Registry()]), own) {
		p.sessions = append(p.sessions, c.newSession(place, ref.Repository()))
	}
	return p, nil
}

// try calls f with sessions, the best first, until one succeeds.
func (p *pull) try(ctx context.Context, f func(*session) error) error {
	var last error
	var others []string
	best := int(p.best.Load())
	order := []int{best}
	for i := range p.sessions {
		if i != best {
			order = append(order, i)
		}
	}
	for _, i := range order {
		err := f(p.sessions[i])
		switch {
		case err == nil:
			p.best.Store(int32(i)) //nolint:gosec // a handful
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case i == len(p.sessions)-1:
			last = err
		default:
			others = append(others, fmt.Sprintf("the mirror %s: %s", p.sessions[i].place, err))
		}
	}
	if len(others) > 0 {
		kind := errs.KindOf(last)
		return errs.New(kind, "%w (%s)", last, strings.Join(others, "; "))
	}
	return last
}
