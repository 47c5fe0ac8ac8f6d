package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	shimv1 "banger/api/shim/v1"
	"banger/internal/base/errs"
	"banger/internal/vm"
)

// actor owns one VM. Its fields above mu belong to its goroutine.
type actor struct {
	m     *Manager
	id    vm.ID
	inbox chan func()
	done  chan struct{} // closed when the goroutine has ended

	rec    vm.VM
	shim   Shim // nil unless the VM has processes
	status *shimv1.Status
	// abort cancels the creation under way; nil when there is none.
	abort context.CancelFunc
	gone  bool

	mu      sync.Mutex
	view    View
	changed chan struct{} // closed and replaced at each change of view
}

func (a *actor) loop() {
	defer close(a.done)
	defer func() {
		if a.shim != nil {
			a.shim.Close()
		}
	}()
	for !a.gone {
		var updates <-chan *shimv1.Status
		if a.shim != nil {
			updates = a.shim.Updates()
		}
		select {
		case f := <-a.inbox:
			f()
		case st, ok := <-updates:
			a.onStatus(st, ok)
		case <-a.m.ctx.Done():
			return
		}
	}
}

// call runs f in the actor and returns its error. The ctx bounds the wait for the
// actor; f, once it runs, runs to its end.
func (a *actor) call(ctx context.Context, f func() error) error {
	result := make(chan error, 1)
	select {
	case a.inbox <- func() { result <- f() }:
		return <-result
	case <-a.done:
		return a.notFound()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// notFound is for those who came when the VM had just gone, or the daemon was ending.
func (a *actor) notFound() error {
	if a.m.ctx.Err() != nil {
		return errs.New(errs.Unavailable, "the daemon is shutting down").WithHint("try again")
	}
	return errs.New(errs.NotFound, "there is no VM %q any more", a.name()).WithHint("banger vm list")
}

// name may be called from any goroutine: a VM's name never changes.
func (a *actor) name() vm.Name { return a.rec.Spec.Name }

// look returns the view and a channel that is closed when it has changed.
func (a *actor) look() (View, <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.view, a.changed
}

func (a *actor) publish() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.view = View{VM: a.rec, Status: a.status, Files: a.m.Dirs.VM(string(a.id)), Driver: a.m.Driver.Name()}
	close(a.changed)
	a.changed = make(chan struct{})
}

// wait returns the first view for which ok holds, or the last one with an error
// when the VM has gone or ctx has ended.
func (a *actor) wait(ctx context.Context, ok func(View) bool) (View, error) {
	for {
		v, changed := a.look()
		if ok(v) {
			return v, nil
		}
		select {
		case <-changed:
		case <-a.done:
			if v, _ := a.look(); ok(v) {
				return v, nil
			}
			return v, a.notFound()
		case <-ctx.Done():
			return v, ctx.Err()
		}
	}
}

// move records a new state. That the record cannot be written changes nothing
// about the VM, so the state in memory is what is true.
func (a *actor) move(to vm.State, reason string) error {
	if a.rec.State != to && !vm.CanMove(a.rec.State, to) {
		a.m.Log.Error("a VM made a forbidden move", "vm", a.name(), "from", a.rec.State, "to", to)
	}
	switch to {
	case vm.Starting:
		a.rec.StartedAt, a.rec.Boot = time.Now(), a.rec.Spec.Boot()
	case vm.Stopped:
		a.rec.StartedAt, a.rec.Boot = time.Time{}, vm.Boot{}
	}
	a.rec.State, a.rec.Reason = to, reason
	a.m.Log.Info("state", "vm", a.name(), "id", a.id, "state", to, "reason", reason)
	err := a.m.Store.SetState(a.m.ctx, a.rec)
	if err != nil {
		a.m.Log.Error("cannot record a VM's state", "vm", a.name(), "err", err)
	}
	a.publish()
	return err
}

// onStatus takes what the shim says.
func (a *actor) onStatus(st *shimv1.Status, ok bool) {
	switch {
	case !ok: // only after PHASE_EXITED, or Close
		a.shim, a.status = nil, nil
	case st.GetPhase() == shimv1.Phase_PHASE_EXITED:
		a.shim.Close()
		a.shim, a.status = nil, nil
		_ = a.move(vm.Stopped, st.GetReason())
		if a.rec.Spec.RemoveOnStop && st.GetAnnounced() && a.abort == nil {
			if err := a.destroy(); err != nil {
				a.m.Log.Error("cannot remove a VM that has stopped", "vm", a.name(), "err", err)
			}
		}
	case st.GetPhase() == shimv1.Phase_PHASE_READY:
		a.status = st
		if a.rec.State != vm.Running && a.rec.State != vm.Stopping {
			_ = a.move(vm.Running, "")
		}
		a.publish()
	default:
		a.status = st
		a.publish()
	}
}

// launch starts the VM's shim; runs in the actor.
func (a *actor) launch(hold bool) error {
	if a.rec.State != vm.Stopped {
		return errs.New(errs.Conflict, "cannot start the VM %q: it is %s", a.name(), a.rec.State)
	}
	if err := a.notEdited(); err != nil {
		return err
	}
	ctx := a.m.ctx
	config, err := a.m.shimConfig(ctx, a.rec, hold)
	if err != nil {
		return err
	}
	if err := a.move(vm.Starting, ""); err != nil {
		return err
	}
	shim, err := a.m.Shims.Launch(ctx, config)
	if err != nil {
		_ = a.move(vm.Stopped, err.Error())
		return err
	}
	a.shim = shim
	return nil
}

// destroy ends the VM's processes and removes all of it; runs in the actor. After
// an error the VM is still there, in the state Deleting, and destroy can be repeated.
func (a *actor) destroy() error {
	if a.shim != nil {
		if err := a.shim.Kill(a.m.ctx, syscall.SIGKILL); err != nil {
			return fmt.Errorf("cannot kill the VM %q: %w", a.name(), err)
		}
		if err := a.drain(); err != nil {
			return err
		}
	}
	if a.rec.State != vm.Deleting {
		if a.rec.State != vm.Creating && a.rec.State != vm.Stopped {
			a.rec.State = vm.Stopped
		}
		if err := a.move(vm.Deleting, ""); err != nil {
			return err
		}
	}
	files := a.m.Dirs.VM(string(a.id))
	if err := errors.Join(os.RemoveAll(files.Run), os.RemoveAll(files.State)); err != nil {
		return errs.New(errs.Internal, "cannot remove the files of the VM %q: %w", a.name(), err).
			WithHint("banger vm delete %s", a.name())
	}
	if err := a.m.Store.DeleteVM(a.m.ctx, a.id); err != nil {
		return err
	}
	a.m.Log.Info("deleted", "vm", a.name(), "id", a.id)
	a.gone = true
	a.m.remove(a.id)
	return nil
}

// drain waits for the end of a shim that has been killed.
func (a *actor) drain() error {
	bound := time.NewTimer(exitTimeout)
	defer bound.Stop()
	for {
		select {
		case st, ok := <-a.shim.Updates():
			if !ok || st.GetPhase() == shimv1.Phase_PHASE_EXITED {
				a.shim.Close()
				a.shim, a.status = nil, nil
				return nil
			}
		case <-bound.C:
			return errs.New(errs.Timeout, "the VMM of %q did not end within %s of SIGKILL", a.name(), exitTimeout)
		}
	}
}
