package lifecycle

import (
	"context"
	"errors"
	"syscall"
	"time"

	"banger/internal/base/errs"
	"banger/internal/base/progress"
	"banger/internal/vm"
)

// Start boots a stopped VM and waits for its agent. The boot goes on when ctx ends.
func (m *Manager) Start(ctx context.Context, ref string, p progress.Func) (View, error) {
	a, err := m.find(ref)
	if err != nil {
		return View{}, err
	}
	p.Send(progress.Report{Phase: "boot", Detail: "starting the VMM"})
	if err := a.call(ctx, func() error {
		if err := a.notCreating(); err != nil {
			return err
		}
		return a.launch(false)
	}); err != nil {
		return View{}, err
	}
	err = a.awaitRunning(ctx, p)
	v, _ := a.look()
	return v, err
}

// awaitRunning waits for the agent of a VM that has been launched.
func (a *actor) awaitRunning(ctx context.Context, p progress.Func) error {
	p.Send(progress.Report{Phase: "boot", Detail: "waiting for the guest agent"})
	v, err := a.wait(ctx, func(v View) bool { return v.State != vm.Starting })
	if err != nil {
		return err
	}
	if v.State == vm.Stopped {
		return errs.New(errs.Unavailable, "the VM %q did not boot: %s", a.name(), v.Reason).WithHint("banger vm logs %s", a.name())
	}
	return nil
}

// notCreating refuses what must wait for the end of a creation; runs in the actor.
func (a *actor) notCreating() error {
	if a.abort != nil {
		return errs.New(errs.Conflict, "the VM %q is still being created", a.name()).WithHint("wait, or: banger vm delete --force %s", a.name())
	}
	return nil
}

// Stop shuts a VM down in order and waits for its end; past the timeout (0: the
// default) it is killed. A stopped VM stays as it is. The stop goes on when ctx ends.
func (m *Manager) Stop(ctx context.Context, ref string, timeout time.Duration, p progress.Func) (View, error) {
	if timeout == 0 {
		timeout = defaultStop
	}
	if timeout < 0 || timeout > maxStop {
		return View{}, errs.New(errs.Invalid, "a stop cannot take %s", timeout).WithHint("give --timeout 1s to %s", maxStop)
	}
	a, err := m.find(ref)
	if err != nil {
		return View{}, err
	}
	p.Send(progress.Report{Phase: "stop", Detail: "asking the guest to power off"})
	if err := a.call(ctx, func() error {
		if err := a.notCreating(); err != nil {
			return err
		}
		if a.shim == nil {
			return nil
		}
		if a.rec.State == vm.Running {
			_ = a.move(vm.Stopping, "")
		}
		shim := a.shim
		m.wg.Go(func() {
			ctx, cancel := context.WithTimeout(m.ctx, timeout+exitTimeout)
			defer cancel()
			if err := shim.Shutdown(ctx, timeout); err != nil {
				m.Log.Warn("the shim's answer to a shutdown", "vm", a.name(), "err", err)
			}
		})
		return nil
	}); err != nil {
		return View{}, err
	}
	return a.awaitStopped(ctx, timeout+exitTimeout)
}

// awaitStopped waits for the end of a VM that has been asked to end.
func (a *actor) awaitStopped(ctx context.Context, bound time.Duration) (View, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, bound, errs.New(errs.Timeout, "the VM %q did not end within %s", a.name(), bound).
		WithHint("banger vm kill %s", a.name()))
	defer cancel()
	v, err := a.wait(ctx, func(v View) bool { return v.State == vm.Stopped || v.State == vm.Deleting })
	if errs.KindOf(err) == errs.NotFound { // removed when it stopped
		return v, nil
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = context.Cause(ctx)
	}
	return v, err
}

// Restart is Stop, then Start.
func (m *Manager) Restart(ctx context.Context, ref string, timeout time.Duration, p progress.Func) (View, error) {
	v, err := m.Stop(ctx, ref, timeout, p)
	if err != nil {
		return v, err
	}
	return m.Start(ctx, string(v.ID), p)
}

// Kill sends a signal (0: SIGKILL) to a VM's VMM; after SIGKILL it waits for the end.
func (m *Manager) Kill(ctx context.Context, ref string, sig syscall.Signal) (View, error) {
	a, err := m.find(ref)
	if err != nil {
		return View{}, err
	}
	if sig == 0 {
		sig = syscall.SIGKILL
	}
	if sig < 0 || sig > 64 {
		return View{}, errs.New(errs.Invalid, "there is no signal %d", sig).WithHint("kill -l")
	}
	if err := a.call(ctx, func() error {
		if a.shim == nil {
			if err := a.notCreating(); err != nil {
				return err
			}
			return errs.New(errs.Conflict, "cannot kill the VM %q: it is %s", a.name(), a.rec.State)
		}
		return a.shim.Kill(m.ctx, sig)
	}); err != nil {
		return View{}, err
	}
	if sig != syscall.SIGKILL {
		v, _ := a.look()
		return v, nil
	}
	return a.awaitStopped(ctx, exitTimeout)
}

// Delete removes a VM and returns it as it was. A VM that is not stopped is refused,
// unless forced: then it is killed, or its creation is given up.
func (m *Manager) Delete(ctx context.Context, ref string, force bool, p progress.Func) (View, error) {
	a, err := m.find(ref)
	if err != nil {
		return View{}, err
	}
	before, _ := a.look()
	p.Send(progress.Report{Phase: "delete", Detail: "removing the disks"})
	err = a.call(ctx, func() error {
		switch {
		case a.abort != nil && force:
			a.abort()
			return nil
		case a.abort != nil:
			return a.notCreating()
		case a.rec.State != vm.Stopped && a.rec.State != vm.Deleting && !force:
			return errs.New(errs.Conflict, "cannot delete the VM %q: it is %s", a.name(), a.rec.State).
				WithHint("banger vm stop %[1]s && banger vm delete %[1]s, or: banger vm delete --force %[1]s", a.name())
		}
		if !force {
			if err := a.notEdited(); err != nil {
				return err
			}
		}
		return a.destroy()
	})
	if err != nil {
		return before, err
	}
	_, err = a.wait(ctx, func(View) bool { return false }) // until it has gone
	if errs.KindOf(err) == errs.NotFound {
		return before, nil
	}
	return before, err
}
