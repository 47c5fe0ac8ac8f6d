// Package config is what the user has decided for all VMs, in one TOML file
// (docs/config.md). Without the file everything has its default; what the file says is
// checked whole before any of it counts.
package config

import (
	"net/http"
	"net/url"

	"golang.org/x/net/http/httpproxy"

	"banger/internal/base/tomlfile"
	"banger/internal/oci"
	"banger/internal/oci/registry"
	"banger/internal/vm"
)

// The defaults.
const (
	DefaultImage    = "debian-bookworm"
	DefaultCacheMax = 20 * vm.GiB
)

// Config is the whole configuration. It is not changed once it was made.
type Config struct {
	Image    Image
	Kernel   Kernel
	Registry []Registry
	Network  Network

	file *tomlfile.File
}

// Image is about images.
type Image struct {
	// Default is the image of a VM for which none was named: a name of the catalog, or a
	// reference.
	Default string
	// CacheMax is how many bytes of downloaded layers are kept; 0 is no cap.
	CacheMax vm.Size
	// Pins has, for references by tag, the digest that is taken for them.
	Pins map[oci.Reference]string
}

// Kernel is about guest kernels.
type Kernel struct {
	// Default is the kernel of a VM for which none was named, or "" for the newest of
	// Debian's: a kernel's name, or what "kernel pull" takes.
	Default string
}

// Registry is how one registry is reached.
type Registry struct {
	// Host is such as "docker.io" or "localhost:5000".
	Host string
	// Mirrors are asked first, in this order: URLs, or "host:port/prefix".
	Mirrors []string
	// Insecure allows it without TLS, or with certificates that prove nothing.
	Insecure bool
}

// Network is how the world outside is reached.
type Network struct {
	// HTTPProxy and HTTPSProxy are URLs, NoProxy is a list with commas between of what
	// is reached without. Where all three are empty the environment counts.
	HTTPProxy, HTTPSProxy, NoProxy string
	// RegistryCAFile has certificates, in PEM, of authorities that registries may have
	// besides the system's; an absolute path, or "".
	RegistryCAFile string
}

// Default is what holds without a file.
func Default() Config {
	return Config{Image: Image{Default: DefaultImage, CacheMax: DefaultCacheMax}}
}

// Pin returns the digest that ref is pinned to, or "".
func (c Config) Pin(ref oci.Reference) string { return c.Image.Pins[ref] }

// RegistryOptions are what a client of registries has to know.
func (c Config) RegistryOptions() registry.Options {
	o := registry.Options{Mirrors: map[string][]string{}, CAFile: c.Network.RegistryCAFile, Proxy: c.Network.Proxy()}
	for _, r := range c.Registry {
		if len(r.Mirrors) > 0 {
			o.Mirrors[r.Host] = r.Mirrors
		}
		if r.Insecure {
			o.Insecure = append(o.Insecure, r.Host)
		}
	}
	return o
}

// Proxy chooses the proxy of a request, as [http.Transport] wants it; it is nil where
// the environment counts.
func (n Network) Proxy() func(*http.Request) (*url.URL, error) {
	if n.HTTPProxy == "" && n.HTTPSProxy == "" && n.NoProxy == "" {
		return nil
	}
	choose := (&httpproxy.Config{HTTPProxy: n.HTTPProxy, HTTPSProxy: n.HTTPSProxy, NoProxy: n.NoProxy}).ProxyFunc()
	return func(r *http.Request) (*url.URL, error) { return choose(r.URL) }
}
