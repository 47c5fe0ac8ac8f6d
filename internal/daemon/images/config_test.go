package images

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"banger/internal/base/errs"
	"banger/internal/vm"
)

// TestConfigurationsBelongToNames: names that share a disk may run differently.
func TestConfigurationsBelongToNames(t *testing.T) {
	s := start(t, newMemory(), nil)
	first, second := &vm.ImageConfig{Cmd: []string{"a"}}, &vm.ImageConfig{Cmd: []string{"b"}}
	for name, config := range map[string]*vm.ImageConfig{"one": first, "two": second, "none": nil} {
		if _, err := s.Import(t.Context(), ImportOptions{Name: name, Config: config}, strings.NewReader("same"), nil); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]*vm.ImageConfig{"one": first, "two": second, "none": nil} {
		img, err := s.Get(t.Context(), name)
		if d := cmp.Diff(img.Config, want); d != "" || err != nil {
			t.Errorf("%s: %s%v", name, d, err)
		}
	}
	large := &vm.ImageConfig{Env: []string{"A=" + strings.Repeat("x", vm.MaxImageConfig)}}
	if _, err := s.Import(t.Context(), ImportOptions{Name: "large", Config: large}, strings.NewReader("same"), nil); errs.KindOf(err) != errs.Invalid {
		t.Errorf("a configuration without bound: %v", err)
	}
	if _, err := s.Get(t.Context(), "large"); errs.KindOf(err) != errs.NotFound {
		t.Errorf("after the refusal: %v", err)
	}
}
