package config_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"banger/internal/base/errs"
	"banger/internal/config"
	"banger/internal/oci"
	"banger/internal/vm"
)

const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

const whole = `[image]
default = "debian-trixie"
cache_max = "512MiB"
[image.pins]
"alpine:3.20" = "` + digest + `"

[kernel]
default = "6.12"

[[registry]]
host = "docker.io"
mirrors = ["http://localhost:5000", "mirror.example.com/hub"]

[[registry]]
host = "registry.example.com:5000"
insecure = true

[network]
http_proxy = "http://proxy.example.com:3128"
no_proxy = "example.org"
registry_ca_file = "/etc/ca.pem"
`

func reference(t *testing.T, s string) oci.Reference {
	t.Helper()
	ref, err := oci.ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func TestParse(t *testing.T) {
	c, err := config.Parse("/c", []byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	if c.Image.Default != "debian-trixie" || c.Image.CacheMax != 512*vm.MiB || c.Kernel.Default != "6.12" {
		t.Errorf("got %+v", c)
	}
	for name, want := range map[string]string{"docker.io/library/alpine:3.20": digest, "alpine": "", "ghcr.io/library/alpine:3.20": ""} {
		if got := c.Pin(reference(t, name)); got != want {
			t.Errorf("the pin of %s is %q, want %q", name, got, want)
		}
	}
	o := c.RegistryOptions()
	if d := cmp.Diff(o.Mirrors, map[string][]string{"docker.io": {"http://localhost:5000", "mirror.example.com/hub"}}); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(o.Insecure, []string{"registry.example.com:5000"}); d != "" || o.CAFile != "/etc/ca.pem" {
		t.Error(d, o.CAFile)
	}
	for url, want := range map[string]string{"http://a.example.com/": "http://proxy.example.com:3128", "http://x.example.org/": "", "https://a.example.com/": ""} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		u, err := o.Proxy(r)
		got := ""
		if u != nil {
			got = u.String()
		}
		if got != want || err != nil {
			t.Errorf("the proxy for %s is %q, %v; want %q", url, got, err, want)
		}
	}
}

func TestValues(t *testing.T) {
	c, err := config.Parse("/c", []byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	want := []config.Value{
		{"image.default", "debian-trixie", "/c:2"}, {"image.cache_max", "512MiB", "/c:3"}, {`image.pins."alpine:3.20"`, digest, "/c:5"},
		{"kernel.default", "6.12", "/c:8"},
		{"registry.0.host", "docker.io", "/c:11"}, {"registry.0.mirrors", []string{"http://localhost:5000", "mirror.example.com/hub"}, "/c:12"}, {"registry.0.insecure", false, "default"},
		{"registry.1.host", "registry.example.com:5000", "/c:15"}, {"registry.1.mirrors", []string{}, "default"}, {"registry.1.insecure", true, "/c:16"},
		{"network.http_proxy", "http://proxy.example.com:3128", "/c:19"}, {"network.https_proxy", "", "default"}, {"network.no_proxy", "example.org", "/c:20"},
		{"network.registry_ca_file", "/etc/ca.pem", "/c:21"},
	}
	if d := cmp.Diff(c.Values(), want); d != "" {
		t.Error(d)
	}
	for _, v := range config.Default().Values() {
		if v.From != "default" {
			t.Errorf("%s of no file is from %q", v.Key, v.From)
		}
	}
}

func TestRefusals(t *testing.T) {
	for text, want := range map[string]string{
		"[image]\ndefault = 'A B'":                                                   "/c:2: image.default: ",
		"[image]\ncache_max = '20 gigs'":                                             "/c:2: image.cache_max: cannot read the size",
		"[image]\ncache_max = 20":                                                    "/c:2: image.cache_max: it is an integer, and must be a string",
		"[image.pins]\n'alpine:3.20' = 'sha256:12'":                                  `/c:2: image.pins."alpine:3.20": `,
		"[image.pins]\n\n'Alpine' = '" + digest + "'":                                "/c:3: image.pins.Alpine: ",
		"[image.pins]\n'a@" + digest + "' = '" + digest + "'":                        "has a digest already",
		"[image.pins]\na = '" + digest + "'\n'a:latest' = '" + digest + "'":          `/c:3: image.pins."a:latest": the reference is pinned twice`,
		"[kernel]\ndefault = ' 6.12'":                                                "/c:2: kernel.default: ",
		"[[registry]]\ninsecure = true":                                              "/c:1: registry.0.host: it is missing",
		"[[registry]]\nhost = 'docker.io/library'":                                   "/c:2: registry.0.host: ",
		"[[registry]]\nhost = 'hub'":                                                 "/c:2: registry.0.host: ",
		"[[registry]]\nhost = 'http://docker.io'":                                    "/c:2: registry.0.host: ",
		"[[registry]]\nhost = 'docker.io'\n[[registry]]\nhost = 'index.docker.io'":   `/c:4: registry.1.host: there is another registry`,
		"[[registry]]\nhost = 'docker.io'\nmirrors = ['a.example.com',\n 'ftp://b']": "/c:4: registry.0.mirrors.1: ",
		"[network]\nhttp_proxy = 'proxy.example.com:3128'":                           "/c:2: network.http_proxy: ",
		"[network]\nhttps_proxy = 'ftp://x'":                                         "/c:2: network.https_proxy: ",
		"[network]\nregistry_ca_file = 'ca.pem'":                                     "/c:2: network.registry_ca_file: ",
		"[network]\nproxy = 'x'":                                                     `/c:2: there is no key "network.proxy"`,
	} {
		_, err := config.Parse("/c", []byte(text))
		if errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %q", text, err, want)
		} else if errs.HintOf(err) == "" && !strings.Contains(want, "proxy\"") && !strings.Contains(want, "must be") {
			t.Errorf("%q: no hint with %v", text, err)
		}
	}
}

func TestRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.toml")
	for _, p := range []string{"", path} {
		if c, err := config.Read(p); err != nil || c.Image.Default != config.DefaultImage || c.Image.CacheMax != config.DefaultCacheMax {
			t.Errorf("no file: %+v, %v", c, err)
		}
	}
	if err := os.WriteFile(path, []byte("[image]\ncache_max = 'none'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := config.Read(path); err != nil || c.Image.CacheMax != 0 || c.Values()[1].Value != "none" {
		t.Errorf("no bound: %+v, %v", c, err)
	}
}

// FuzzParse: what is taken has only values that can be used, and can be shown.
func FuzzParse(f *testing.F) {
	f.Add([]byte(whole))
	f.Add([]byte("[image.pins]\n\"[::1]:5000/a\" = 'sha256:12'\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := config.Parse("/c", data)
		if err != nil {
			if errs.KindOf(err) != errs.Invalid {
				t.Errorf("%q: %v", data, err)
			}
			return
		}
		for _, v := range c.Values() {
			if v.From == "" {
				t.Errorf("%q: %s is from nowhere", data, v.Key)
			}
		}
		c.RegistryOptions()
	})
}
