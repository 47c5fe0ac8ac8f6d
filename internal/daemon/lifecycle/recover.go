package lifecycle

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"banger/internal/vm"
)

// recover makes the records true: it runs once, before anybody asks.
func (m *Manager) recover(ctx context.Context) error {
	vms, err := m.Store.VMs(ctx)
	if err != nil {
		return err
	}
	ops, err := m.Store.Operations(ctx)
	if err != nil {
		return err
	}
	creating := map[vm.ID]bool{}
	for _, op := range ops {
		m.Log.Info("an operation was interrupted", "vm", op.VM, "action", op.Action, "step", op.Step)
		creating[op.VM] = op.Action == actionCreate
	}
	var wg sync.WaitGroup
	for _, v := range vms {
		wg.Go(func() { m.recoverVM(ctx, v, creating[v.ID]) })
	}
	wg.Wait()
	m.removeStrays(vms)
	return nil
}

// recoverVM adopts the VM's processes if it has any, and takes back or finishes
// what had begun.
func (m *Manager) recoverVM(ctx context.Context, v vm.VM, creating bool) {
	shim, err := m.Shims.Attach(ctx, v.ID)
	if err != nil {
		// Something has its disks and does not answer: it can be looked at and deleted.
		m.Log.Error("cannot attach to a VM", "vm", v.Spec.Name, "err", err)
		v.State, v.Reason = vm.Stopped, err.Error()
		m.add(v, nil)
		return
	}
	removed := false
	switch {
	case shim != nil && v.State != vm.Stopping && v.State != vm.Deleting && v.State != vm.Creating:
		v.State = vm.Starting // the first status says more
	case shim == nil && v.State != vm.Stopped && v.State != vm.Deleting && v.State != vm.Creating:
		reason := "its processes ended with the host or were killed"
		if last := m.Shims.LastStatus(v.ID); last != nil {
			reason = last.GetReason()
			removed = v.Spec.RemoveOnStop && last.GetAnnounced()
		} else {
			removed = v.Spec.RemoveOnStop
		}
		v.State, v.Reason, v.StartedAt, v.Boot = vm.Stopped, reason, time.Time{}, vm.Boot{}
		if err := m.Store.SetState(ctx, v); err != nil {
			m.Log.Error("cannot record a VM's state", "vm", v.Spec.Name, "err", err)
		}
	}
	a := m.add(v, shim)
	if !creating && !removed && v.State != vm.Deleting && v.State != vm.Creating {
		if shim != nil { // its first status is there already
			_, _ = a.wait(ctx, func(v View) bool { return v.Status != nil || v.State == vm.Stopped })
		}
		return
	}
	if err := a.call(ctx, a.destroy); err != nil {
		m.Log.Error("cannot remove what was left of a VM", "vm", v.Spec.Name, "err", err)
	}
}

// removeStrays removes the socket folders of VMs that are not on record. Disks
// without a record are left alone: the database may have been lost, and they not.
func (m *Manager) removeStrays(vms []vm.VM) {
	known := map[string]bool{}
	for _, v := range vms {
		known[string(v.ID)] = true
	}
	for _, dir := range []string{m.Dirs.RunVMs(), m.Dirs.VMs()} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			m.Log.Error("cannot look for strays", "err", err)
		}
		for _, e := range entries {
			if known[e.Name()] {
				continue
			}
			shim, err := m.Shims.Attach(m.ctx, vm.ID(e.Name()))
			if shim != nil {
				shim.Close()
			}
			if shim != nil || err != nil || dir == m.Dirs.VMs() {
				m.Log.Warn("a VM is not on record", "path", dir+"/"+e.Name(), "runs", shim != nil, "err", err)
				continue
			}
			if err := os.RemoveAll(dir + "/" + e.Name()); err != nil {
				m.Log.Error("cannot remove a stray", "err", err)
			}
		}
	}
}
