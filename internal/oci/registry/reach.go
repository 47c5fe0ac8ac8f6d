package registry

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"

	"banger/internal/base/errs"
	"banger/internal/base/version"
	"banger/internal/oci"
)

// reach is the way to one registry and to where it sends us: token servers, and
// storage for blobs.
//
// The registry itself may be anywhere, since the user has named it. Where it sends us,
// nobody has named, so a public registry may send us to public addresses only: it
// shall not make us ask what listens on this machine or in its network, nor the
// cloud's metadata service. The address counts that a connection is made to, not the
// name. Behind a proxy the proxy makes the connections, and is left to decide for names.
type reach struct {
	c     *Client
	place place
	// private is whether the registry answered from an address that is not public; it
	// then is one of a private network, and so is its storage.
	private atomic.Bool
}

// refusal is that a registry sends us where it must not.
type refusal struct{ where, why string }

func (r *refusal) Error() string { return "refused to go to " + r.where + ": " + r.why }

// RoundTrip implements [http.RoundTripper].
func (r *reach) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Response != nil && req.Method != http.MethodGet {
		return nil, &refusal{where: oci.Printable(req.URL.Host), why: "a redirection would take credentials along"}
	}
	t, err := r.transport(req)
	if err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, err
	}
	ctx := req.Context()
	if r.isOwn(req.URL) {
		if proxy, err := r.c.proxy(req); err == nil && proxy == nil {
			ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: r.connected})
		}
	}
	req = req.Clone(ctx)
	req.Header.Set("User-Agent", "banger/"+version.String())
	req.Header.Set("Accept-Encoding", "identity") // digests are of what is not encoded further
	return r.c.patience.roundTrip(t, req)
}

func (r *reach) connected(info httptrace.GotConnInfo) {
	if addr, ok := info.Conn.RemoteAddr().(*net.TCPAddr); ok {
		r.private.Store(!r.c.public(addr.AddrPort().Addr()))
	}
}

// transport returns the transport for a request, or a [refusal].
func (r *reach) transport(req *http.Request) (http.RoundTripper, error) {
	switch u := req.URL; {
	case u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
		return nil, &refusal{where: oci.Printable(u.Redacted()), why: "it is not at http or https"}
	case u.Scheme == "http" && !r.place.lax:
		return nil, &refusal{where: oci.Printable(u.Host), why: "http has no TLS"}
	case r.isOwn(u) && r.place.lax:
		return r.c.lax, nil
	case r.isOwn(u), r.private.Load():
		return r.c.open, nil
	}
	proxy, err := r.c.proxy(req)
	if err != nil {
		return nil, errs.New(errs.Invalid, "the proxy for %q: %w", oci.Printable(req.URL.Host), err).WithHint("check HTTPS_PROXY, HTTP_PROXY and NO_PROXY")
	}
	if proxy == nil {
		return r.c.guarded, nil
	}
	host := req.URL.Hostname()
	if addr, err := netip.ParseAddr(host); isLocalName(host) || err == nil && !r.c.public(addr) {
		return nil, notPublic(req.URL.Host)
	}
	return r.c.open, nil
}

// isOwn says whether u is at the registry itself.
func (r *reach) isOwn(u *url.URL) bool {
	own := r.place.registry.RegistryStr()
	return strings.EqualFold(u.Hostname(), hostname(own)) && port(u) == port(&url.URL{Scheme: u.Scheme, Host: own})
}

func port(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "http":
		return "80"
	}
	return "443"
}

func notPublic(where string) error {
	return &refusal{where: oci.Printable(where), why: "it is not a public address, but the registry is at one"}
}

// refusePrivate is a dialer's control function, called with the address behind the name.
func (c *Client) refusePrivate(_ context.Context, _, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if !c.public(ap.Addr()) {
		return notPublic(address)
	}
	return nil
}

// notPublicNetworks are those that the methods of [netip.Addr] do not know (RFC 6890).
var notPublicNetworks = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"), // shared by the customers of a provider
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("64:ff9b:1::/48"), // translation within a network, RFC 8215
	netip.MustParsePrefix("fec0::/10"),
}

// nat64 and sixToFour are networks whose addresses hold an IPv4 address, at that byte
// (RFC 6052, RFC 3056).
var (
	nat64     = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour = netip.MustParsePrefix("2002::/16")
)

// isPublic says whether an address is on the internet.
func isPublic(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for network, at := range map[netip.Prefix]int{nat64: 12, sixToFour: 2} {
		if network.Contains(a) {
			b := a.As16()
			a = netip.AddrFrom4([4]byte(b[at : at+4]))
		}
	}
	for _, n := range notPublicNetworks {
		if n.Contains(a) {
			return false
		}
	}
	return a.IsGlobalUnicast() && !a.IsPrivate()
}

// maxAnswer bounds answers that are read whole and are no documents: tokens, errors and
// the greeting, in bytes.
const maxAnswer = 256 << 10

// short is a transport whose answers end after maxAnswer bytes.
type short struct{ http.RoundTripper }

func (s short) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := s.RoundTripper.RoundTrip(req)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	}
	return resp, err
}

// drop reads what little is left of an answer, so that its connection can be used
// again, and closes it.
func drop(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, 16<<10)
	_ = resp.Body.Close()
}
