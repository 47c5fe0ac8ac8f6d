package lifecycle

import (
	"context"

	"banger/internal/base/errs"
	"banger/internal/base/progress"
	"banger/internal/vm"
)

// Change is what Set changes: the fields that are not nil.
type Change struct {
	// Kernel is a kernel's name, or what Kernels.Resolve takes.
	Kernel *string
	VCPUs  *int
	Memory *vm.Size
}

// Set changes properties of a VM. One that runs goes on as it is, and has them from
// its next start: see View.Boot.
func (m *Manager) Set(ctx context.Context, ref string, c Change, p progress.Func) (View, error) {
	a, err := m.find(ref)
	if err != nil {
		return View{}, err
	}
	if c == (Change{}) {
		return View{}, errs.New(errs.Invalid, "there is nothing to change of the VM %q", a.name()).WithHint("banger vm set --help")
	}
	if c.VCPUs != nil {
		if err := vm.CheckVCPUs(*c.VCPUs); err != nil {
			return View{}, err
		}
	}
	if c.Memory != nil {
		if err := vm.CheckMemory(*c.Memory); err != nil {
			return View{}, err
		}
	}
	var kernel vm.Kernel
	if c.Kernel != nil {
		// Before the VM is looked at: it may take minutes.
		if kernel, err = m.Kernels.Resolve(ctx, *c.Kernel, p); err != nil {
			return View{}, err
		}
	}
	err = a.call(ctx, func() error {
		if err := a.notCreating(); err != nil {
			return err
		}
		if a.rec.State == vm.Deleting {
			return errs.New(errs.Conflict, "cannot change the VM %q: it is %s", a.name(), a.rec.State)
		}
		next := a.rec.Spec.Boot()
		if c.Kernel != nil {
			next.Kernel = kernel.Name
		}
		if c.VCPUs != nil {
			next.VCPUs = *c.VCPUs
		}
		if c.Memory != nil {
			next.Memory = *c.Memory
		}
		if err := m.Store.SetBoot(m.ctx, a.id, next); err != nil {
			return err
		}
		a.rec.Spec.Kernel, a.rec.Spec.VCPUs, a.rec.Spec.Memory = next.Kernel, next.VCPUs, next.Memory
		m.Log.Info("changed", "vm", a.name(), "id", a.id, "kernel", next.Kernel, "vcpus", next.VCPUs, "memory", next.Memory)
		a.publish()
		return nil
	})
	if err != nil {
		return View{}, err
	}
	return m.Get(string(a.id))
}
