package kernels

import (
	"errors"
	"net/http"
	"net/url"
	"testing"
	"time"
)

// TestConfiguredDefault goes before the newest kernel of Debian's.
func TestConfiguredDefault(t *testing.T) {
	m := newMirror(t)
	const older = "6.12.3+deb12-cloud-amd64"
	m.publishAll("bookworm-security", time.Now(), metapackages[0],
		kernelPackage{release612, "6.12.5-1", kernelDeb(t, release612)}, kernelPackage{older, "6.12.3-1", kernelDeb(t, older)})
	ref, broken, asked := "", error(nil), 0
	s := newService(t, m, func(o *Options) {
		o.Configured = func() (string, error) { return ref, broken }
		o.Proxy = func() func(*http.Request) (*url.URL, error) {
			return func(*http.Request) (*url.URL, error) { asked++; return nil, nil } //nolint:nilnil // no proxy
		}
	})
	want := func(what, name string) {
		t.Helper()
		k, err := s.Default(t.Context(), nil)
		if err != nil || k.Name != name {
			t.Errorf("%s: %q, %v; want %q", what, k.Name, err, name)
		}
		if got, err := s.DefaultName(t.Context()); err != nil || got != name {
			t.Errorf("%s: the default's name is %q, %v; want %q", what, got, err, name)
		}
	}
	want("nothing configured", release612)
	if asked == 0 {
		t.Error("the configured way out is not taken")
	}
	ref = older
	if name, err := s.DefaultName(t.Context()); err != nil || name != "" {
		t.Errorf("before it is here, the default is %q, %v", name, err)
	}
	want("an older release", older)
	ref = "6.12"
	want("a series", release612)
	broken = errors.New("config.toml:3: nonsense")
	if _, err := s.Default(t.Context(), nil); !errors.Is(err, broken) {
		t.Errorf("a configuration that cannot be read: %v", err)
	}
	if _, err := s.DefaultName(t.Context()); err != nil {
		t.Errorf("a list fails for it: %v", err)
	}
}
