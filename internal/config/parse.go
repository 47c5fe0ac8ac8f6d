package config

import (
	"errors"
	"io/fs"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"banger/internal/base/errs"
	"banger/internal/base/tomlfile"
	"banger/internal/oci"
	"banger/internal/oci/registry"
	"banger/internal/vm"
)

// raw is the file as it is written; nil is what is not in it.
type raw struct {
	Image struct {
		Default  *string           `toml:"default"`
		CacheMax *string           `toml:"cache_max"`
		Pins     map[string]string `toml:"pins"`
	} `toml:"image"`
	Kernel struct {
		Default *string `toml:"default"`
	} `toml:"kernel"`
	Registry []struct {
		Host     string   `toml:"host"`
		Mirrors  []string `toml:"mirrors"`
		Insecure bool     `toml:"insecure"`
	} `toml:"registry"`
	Network struct {
		HTTPProxy      *string `toml:"http_proxy"`
		HTTPSProxy     *string `toml:"https_proxy"`
		NoProxy        *string `toml:"no_proxy"`
		RegistryCAFile *string `toml:"registry_ca_file"`
	} `toml:"network"`
}

// Read reads the file at path. No file, and no path, are the defaults. Errors are
// errs.Invalid and say where in the file what is wrong.
func Read(path string) (Config, error) {
	if path == "" {
		return Default(), nil
	}
	var r raw
	file, err := tomlfile.Read(path, &r)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Default(), nil
	case err != nil:
		return Config{}, err
	}
	return r.check(file)
}

// Parse reads the text of a file at path, which only names it.
func Parse(path string, data []byte) (Config, error) {
	var r raw
	file, err := tomlfile.Decode(path, data, &r)
	if err != nil {
		return Config{}, err
	}
	return r.check(file)
}

// check makes a configuration of what is written, or says what cannot be.
func (r *raw) check(file *tomlfile.File) (Config, error) {
	c := Default()
	c.file = file
	for _, step := range []func(*Config) error{r.image, r.kernel, r.registries, r.network} {
		if err := step(&c); err != nil {
			return Config{}, err
		}
	}
	return c, nil
}

func (r *raw) image(c *Config) (err error) {
	if name := r.Image.Default; name != nil {
		if _, err := oci.ParseReference(*name); err != nil {
			return c.file.At(err, "image", "default")
		}
		c.Image.Default = *name
	}
	if size := r.Image.CacheMax; size != nil {
		if c.Image.CacheMax, err = parseCap(*size); err != nil {
			return c.file.At(err, "image", "cache_max")
		}
	}
	c.Image.Pins = map[oci.Reference]string{}
	for _, name := range slices.Sorted(maps.Keys(r.Image.Pins)) {
		digest := r.Image.Pins[name]
		ref, err := oci.ParseReference(name)
		switch {
		case err != nil:
		case ref.Digest() != "":
			err = errs.New(errs.Invalid, "the reference has a digest already").WithHint("pin a tag, such as alpine:3.20")
		case c.Image.Pins[ref] != "":
			err = errs.New(errs.Invalid, "the reference is pinned twice: %s is its other name", ref.Familiar()).WithHint("remove one of the lines")
		default:
			err = oci.CheckDigest(digest)
		}
		if err != nil {
			return c.file.At(err, "image", "pins", name)
		}
		c.Image.Pins[ref] = digest
	}
	return nil
}

// noCap is what users write for a cache without a bound.
const noCap = "none"

func parseCap(s string) (vm.Size, error) {
	if s == noCap {
		return 0, nil
	}
	size, err := vm.ParseSize(s)
	if err != nil {
		return 0, errs.New(errs.Invalid, "%w", err).WithHint("write it as 20GiB, or none for no bound")
	}
	return size, nil
}

func (r *raw) kernel(c *Config) error {
	name := r.Kernel.Default
	switch {
	case name == nil:
		return nil
	case strings.TrimSpace(*name) != *name || len(*name) > 255:
		err := errs.New(errs.Invalid, "%q is no kernel", *name).WithHint("name a series such as 6.12, or a kernel of: banger kernel list")
		return c.file.At(err, "kernel", "default")
	}
	c.Kernel.Default = *name
	return nil
}

func (r *raw) registries(c *Config) error {
	seen := map[string]bool{}
	for i, each := range r.Registry {
		key := []string{"registry", strconv.Itoa(i)}
		name, err := oci.ParseReference(each.Host + "/any/image")
		switch {
		case each.Host == "":
			err = errs.New(errs.Invalid, "it is missing").WithHint("name the registry, such as docker.io")
		case err != nil || name.Repository() != "any/image":
			err = errs.New(errs.Invalid, "%q is no registry", each.Host).WithHint("write a host, or host:port, such as docker.io")
		case seen[name.Registry()]:
			err = errs.New(errs.Invalid, "there is another registry %q", each.Host).WithHint("write both into one")
		}
		if err != nil {
			return c.file.At(err, append(key, "host")...)
		}
		host := name.Registry()
		seen[host] = true
		for n, m := range each.Mirrors {
			if err := tryMirror(host, m); err != nil {
				return c.file.At(err, append(key, "mirrors", strconv.Itoa(n))...)
			}
		}
		c.Registry = append(c.Registry, Registry{Host: host, Mirrors: each.Mirrors, Insecure: each.Insecure})
	}
	return nil
}

// tryMirror refuses a mirror that a client would refuse.
func tryMirror(host, mirror string) error {
	client, err := registry.New(registry.Options{Mirrors: map[string][]string{host: {mirror}}})
	if err != nil {
		return err
	}
	return client.Close()
}

func (r *raw) network(c *Config) error {
	n := &c.Network
	for _, proxy := range []struct {
		name string
		from *string
		to   *string
	}{{"http_proxy", r.Network.HTTPProxy, &n.HTTPProxy}, {"https_proxy", r.Network.HTTPSProxy, &n.HTTPSProxy}} {
		if proxy.from == nil || *proxy.from == "" {
			continue
		}
		u, err := url.Parse(*proxy.from)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "socks5" {
			err := errs.New(errs.Invalid, "%q is no proxy", *proxy.from).WithHint("write it as http://HOST:PORT")
			return c.file.At(err, "network", proxy.name)
		}
		*proxy.to = *proxy.from
	}
	if no := r.Network.NoProxy; no != nil {
		if strings.ContainsAny(*no, "\n\"") {
			return c.file.At(errs.New(errs.Invalid, "%q is no list", *no).WithHint("write hosts with commas between"), "network", "no_proxy")
		}
		n.NoProxy = *no
	}
	if file := r.Network.RegistryCAFile; file != nil && *file != "" {
		if !filepath.IsAbs(*file) {
			return c.file.At(errs.New(errs.Invalid, "%q is no absolute path", *file).WithHint("write the path from /"), "network", "registry_ca_file")
		}
		n.RegistryCAFile = *file
	}
	return nil
}
