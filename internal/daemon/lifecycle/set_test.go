package lifecycle_test

import (
	"strings"
	"testing"

	"banger/internal/base/errs"
	"banger/internal/daemon/lifecycle"
	"banger/internal/vm"
)

func TestSet(t *testing.T) {
	h := newHost(t)
	d := h.start()
	v := h.must(d.Create(t.Context(), lifecycle.Request{Name: "dev", VCPUs: 1, Memory: vm.GiB, Start: true}, nil))
	first := vm.Boot{Kernel: defaultKernel, VCPUs: 1, Memory: vm.GiB}
	if v.Spec.Boot() != first || v.Boot != first {
		t.Fatalf("made with %+v, booted with %+v", v.Spec.Boot(), v.Boot)
	}
	// A VM that runs goes on as it is.
	second := vm.Boot{Kernel: otherKernel, VCPUs: 2, Memory: 2 * vm.GiB}
	v = h.must(d.Set(t.Context(), "dev", lifecycle.Change{Kernel: new(otherKernel), VCPUs: new(2), Memory: new(2 * vm.GiB)}, nil))
	if v.State != vm.Running || v.Spec.Boot() != second || v.Boot != first {
		t.Errorf("while it runs: %s, %+v, %+v", v.State, v.Spec.Boot(), v.Boot)
	}
	if err := d.db.DeleteKernel(t.Context(), defaultKernel); errs.KindOf(err) != errs.Conflict {
		t.Errorf("the kernel that it runs was deleted: %v", err)
	}
	d.stop()
	d = h.start()
	if v = h.must(d.Get("dev")); v.State != vm.Running || v.Spec.Boot() != second || v.Boot != first {
		t.Errorf("with a new daemon: %s, %+v, %+v", v.State, v.Spec.Boot(), v.Boot)
	}
	if v = h.must(d.Restart(t.Context(), "dev", 0, nil)); v.Spec.Boot() != second || v.Boot != second {
		t.Errorf("after a restart: %+v, %+v", v.Spec.Boot(), v.Boot)
	}
	if v = h.must(d.Stop(t.Context(), "dev", 0, nil)); v.Boot != (vm.Boot{}) {
		t.Errorf("after a stop: %+v", v.Boot)
	}
	third := vm.Boot{Kernel: otherKernel, VCPUs: 3, Memory: 2 * vm.GiB}
	if v = h.must(d.Set(t.Context(), "dev", lifecycle.Change{VCPUs: new(3)}, nil)); v.Spec.Boot() != third {
		t.Errorf("one property: %+v", v.Spec.Boot())
	}
	for name, test := range map[string]struct {
		vm     string
		change lifecycle.Change
		kind   errs.Kind
	}{
		"nothing":     {"dev", lifecycle.Change{}, errs.Invalid},
		"no VM":       {"none", lifecycle.Change{VCPUs: new(1)}, errs.NotFound},
		"no kernel":   {"dev", lifecycle.Change{Kernel: new("none"), VCPUs: new(1)}, errs.NotFound},
		"gone kernel": {"dev", lifecycle.Change{Kernel: new("not recorded"), VCPUs: new(1)}, errs.Conflict},
		"no CPUs":     {"dev", lifecycle.Change{VCPUs: new(0)}, errs.Invalid},
		"no memory":   {"dev", lifecycle.Change{VCPUs: new(1), Memory: new(vm.Size(0))}, errs.Invalid},
	} {
		if _, err := d.Set(t.Context(), test.vm, test.change, nil); errs.KindOf(err) != test.kind {
			t.Errorf("%s: %v", name, err)
		}
	}
	if v = h.must(d.Get("dev")); v.Spec.Boot() != third {
		t.Errorf("after refusals: %+v", v.Spec.Boot())
	}
	h.must(d.Delete(t.Context(), "dev", false, nil))
	h.clean(d, "in the end")
}

func TestCreateWithAKernel(t *testing.T) {
	h := newHost(t)
	d := h.start()
	if v := h.must(d.Create(t.Context(), lifecycle.Request{Name: "dev", Kernel: otherKernel}, nil)); v.Spec.Kernel != otherKernel {
		t.Errorf("it has %q", v.Spec.Kernel)
	}
	if _, err := d.Create(t.Context(), lifecycle.Request{Name: "x", Kernel: "none"}, nil); errs.KindOf(err) != errs.NotFound || !strings.Contains(err.Error(), `"none"`) {
		t.Errorf("a kernel that is not there: %v", err)
	}
	h.must(d.Delete(t.Context(), "dev", false, nil))
	h.clean(d, "in the end")
}
