package daemon

import (
	"strings"
	"testing"

	"banger/internal/base/errs"
	"banger/internal/config"
	"banger/internal/oci"
	"banger/internal/vm"
)

const somePin = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// TestSettingsFollowTheFile: what is broken fails who asks, and changes nothing.
func TestSettingsFollowTheFile(t *testing.T) {
	c, dirs := newCatalog(t)
	s := c.settings
	var cap vm.Size
	s.watch(func(c config.Config) { cap = c.Image.CacheMax })
	ref, err := oci.ParseReference("alpine")
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		text               string
		image, kernel, pin string
		cap                vm.Size
		broken             bool
	}{
		{"", config.DefaultImage, "", "", config.DefaultCacheMax, false},
		{"[image]\ndefault='mine'\ncache_max='1MiB'\npins.alpine='" + somePin + "'\n[kernel]\ndefault='6.12'\n", "mine", "6.12", somePin, vm.MiB, false},
		{"[image]\ndefault='mine'\ncache_max='1 lot'\n", "mine", "6.12", somePin, vm.MiB, true},
		{"[image]\ncache_max='none'\n", config.DefaultImage, "", "", 0, false},
	} {
		write(t, dirs.ConfigFile(), step.text)
		image, err := s.defaultImage()
		kernel, kernelErr := s.defaultKernel()
		pin, pinErr := s.pin(ref)
		if image != step.image || kernel != step.kernel || pin != step.pin || cap != step.cap {
			t.Errorf("%q: image %q, kernel %q, pin %q, cap %s", step.text, image, kernel, pin, cap)
		}
		for _, err := range []error{err, kernelErr, pinErr} {
			if step.broken != (err != nil) || step.broken && (errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error(), dirs.ConfigFile()+":3: image.cache_max: ")) {
				t.Errorf("%q: %v", step.text, err)
			}
		}
	}
}

func TestRegistriesFollowTheFile(t *testing.T) {
	c, dirs := newCatalog(t)
	r := &registries{settings: c.settings}
	defer r.Close()
	first, err := r.current()
	if err != nil {
		t.Fatal(err)
	}
	write(t, dirs.ConfigFile(), "[image]\ndefault='mine'\n")
	if same, err := r.current(); same != first || err != nil {
		t.Errorf("another value makes another client: %v", err)
	}
	write(t, dirs.ConfigFile(), "[[registry]]\nhost='docker.io'\nmirrors=['localhost:5000']\n")
	other, err := r.current()
	if other == first || err != nil {
		t.Errorf("a mirror makes no other client: %v", err)
	}
	write(t, dirs.ConfigFile(), "[network]\nregistry_ca_file='"+dirs.Config+"/none.pem'\n")
	if _, err := r.current(); errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error(), "none.pem") {
		t.Errorf("no such file: %v", err)
	}
}
