package daemon

import (
	"context"
	"net/http"
	"net/url"
	"reflect"
	"sync"

	"banger/internal/base/errs"
	"banger/internal/base/paths"
	"banger/internal/base/tomlfile"
	"banger/internal/config"
	"banger/internal/imagecatalog"
	"banger/internal/oci"
	"banger/internal/oci/registry"
)

// settings are what the user has written, as it is now: a file that changes counts from
// the next use on, and one that is broken fails what has need of it, while all else goes
// on with what it said before.
type settings struct {
	dirs    paths.Dirs
	config  *tomlfile.Live[config.Config]
	catalog *tomlfile.Live[[]imagecatalog.Entry]
	// watcher gets every configuration that is good, also if nothing has changed; it may
	// be nil.
	watcher func(config.Config)
}

func newSettings(dirs paths.Dirs) *settings {
	return &settings{
		dirs:    dirs,
		config:  tomlfile.NewLive(dirs.ConfigFile(), config.Default(), config.Read),
		catalog: tomlfile.NewLive(dirs.ImageCatalog(), imagecatalog.Embedded(), imagecatalog.Read),
	}
}

// watch has f called with the configuration at each use of it. It is called before any
// other goroutine uses s.
func (s *settings) watch(f func(config.Config)) { s.watcher = f }

// get returns the configuration. With an error, it is what held before.
func (s *settings) get() (config.Config, error) {
	c, err := s.config.Get()
	if err == nil && s.watcher != nil {
		s.watcher(c)
	}
	if err != nil {
		return c, errs.New(errs.KindOf(err), "cannot use the configuration: %w", err)
	}
	return c, nil
}

// pin is the digest that a reference has to have, or "".
func (s *settings) pin(ref oci.Reference) (string, error) {
	c, err := s.get()
	return c.Pin(ref), err
}

// defaultImage is the image of a VM for which none was named.
func (s *settings) defaultImage() (string, error) {
	c, err := s.get()
	return c.Image.Default, err
}

// defaultKernel is the kernel of a VM for which none was named, or "".
func (s *settings) defaultKernel() (string, error) {
	c, err := s.get()
	return c.Kernel.Default, err
}

// proxy is how requests go out, or nil for the environment's way.
func (s *settings) proxy() func(*http.Request) (*url.URL, error) {
	c, _ := s.get() // what held before still does
	return c.Network.Proxy()
}

// registries are what is configured now.
type registries struct {
	settings *settings

	mu     sync.Mutex
	made   config.Config
	client *registry.Client
}

// Resolve asks the registry of ref, as [registry.Client.Resolve] does.
func (r *registries) Resolve(ctx context.Context, ref oci.Reference, p oci.Platform) (*oci.Image, error) {
	client, err := r.current()
	if err != nil {
		return nil, err
	}
	return client.Resolve(ctx, ref, p)
}

// current returns a client for the configuration as it is. Those of before live on in the
// layers that they have found.
func (r *registries) current() (*registry.Client, error) {
	c, err := r.settings.get()
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.client != nil && reflect.DeepEqual(r.made.Registry, c.Registry) && r.made.Network == c.Network {
		return r.client, nil
	}
	client, err := registry.New(c.RegistryOptions())
	if err != nil {
		return nil, err
	}
	if r.client != nil {
		_ = r.client.Close() // it closes idle connections, and has no error
	}
	r.client, r.made = client, c
	return client, nil
}

// Close closes idle connections.
func (r *registries) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.client == nil {
		return nil
	}
	return r.client.Close()
}
