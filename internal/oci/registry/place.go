package registry

import (
	"net"
	"net/netip"
	"net/url"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"banger/internal/base/errs"
	"banger/internal/oci"
)

// place is a registry or a mirror of one.
type place struct {
	registry name.Registry
	// prefix stands before the names of repositories; it is empty or ends in "/".
	prefix string
	// lax is whether it may be spoken to without TLS or proof.
	lax bool
}

// String returns what people call it.
func (p place) String() string {
	host := p.registry.RegistryStr()
	if host == name.DefaultRegistry {
		host = "docker.io"
	}
	return strings.TrimSuffix(host+"/"+p.prefix, "/")
}

// login is the command that gives us credentials for it.
func (p place) login() string {
	if p.registry.RegistryStr() == name.DefaultRegistry {
		return "docker login"
	}
	return "docker login " + p.registry.RegistryStr()
}

func (c *Client) newPlace(host, prefix string, lax bool) (place, error) {
	lax = lax || c.insecure.allows(host)
	var options []name.Option
	if lax {
		options = append(options, name.Insecure)
	}
	registry, err := name.NewRegistry(host, options...)
	if err != nil || host == "" || strings.HasSuffix(host, ":") {
		return place{}, errs.New(errs.Invalid, "%q is no registry", oci.Printable(host)).WithHint("write a host, or a host:port")
	}
	if prefix != "" {
		prefix += "/"
	}
	return place{registry: registry, prefix: prefix, lax: lax}, nil
}

// parseMirror reads an entry of [Options.Mirrors].
func (c *Client) parseMirror(s string) (place, error) {
	rest, plain := strings.CutPrefix(s, "http://")
	rest = strings.TrimPrefix(rest, "https://")
	host, prefix, found := strings.Cut(strings.TrimSuffix(rest, "/"), "/")
	if _, err := oci.ParseReference("host.invalid/" + prefix + "/image"); found && err != nil {
		return place{}, errs.New(errs.Invalid, "%q is no mirror: %q is no prefix of image names", oci.Printable(s), oci.Printable(prefix)).
			WithHint("write host:port/prefix")
	}
	p, err := c.newPlace(host, prefix, plain)
	if err != nil {
		return place{}, errs.New(errs.Invalid, "%q is no mirror: %w", oci.Printable(s), err)
	}
	return p, nil
}

// insecure are the registries that may be spoken to without TLS.
type insecure struct {
	hosts    map[string]bool // "host" and "host:port"
	networks []netip.Prefix
}

func parseInsecure(entries []string) (insecure, error) {
	in := insecure{hosts: map[string]bool{}}
	for _, e := range entries {
		if network, err := netip.ParsePrefix(e); err == nil {
			in.networks = append(in.networks, network.Masked())
			continue
		}
		if u, err := url.Parse("//" + e); err != nil || e == "" || u.Host != e {
			return in, errs.New(errs.Invalid, "%q is no insecure registry", oci.Printable(e)).WithHint("write host, host:port or a network such as 10.1.0.0/16")
		}
		in.hosts[strings.ToLower(e)] = true
	}
	return in, nil
}

// allows says whether the registry at host, with or without a port, is one of them.
func (in insecure) allows(host string) bool {
	host = strings.ToLower(host)
	bare := hostname(host)
	if in.hosts[host] || in.hosts[bare] || in.hosts["["+bare+"]"] || isLocalName(bare) {
		return true
	}
	addr, err := netip.ParseAddr(bare)
	if err != nil {
		return false
	}
	addr = addr.Unmap()
	for _, n := range in.networks {
		if n.Contains(addr) {
			return true
		}
	}
	return addr.IsLoopback()
}

// hostname returns host without its port and brackets.
func hostname(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		return h
	}
	return strings.Trim(host, "[]")
}

// isLocalName says whether a name is this machine's by definition (RFC 6761 section 6.3).
func isLocalName(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}
