package cli

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	bangerv1 "banger/api/banger/v1"
	"banger/internal/base/errs"
	"banger/internal/base/progress"
	"banger/internal/cli/client"
	"banger/internal/cli/term"
	"banger/internal/vm"
)

// undoTimeout bounds the wait for the daemon to take back a creation that was
// interrupted.
const undoTimeout = 15 * time.Second

// opStream is the stream of an operation on a VM.
type opStream interface {
	Receive() (*bangerv1.OperationEvent, error)
	Close() error
}

// startOp makes an operation's generated call one that returns an opStream.
func startOp[Req any, S opStream](call func(context.Context, Req) (S, error)) func(context.Context, Req) (opStream, error) {
	return func(ctx context.Context, req Req) (opStream, error) { return call(ctx, req) }
}

// follow shows an operation's progress and returns its result.
func follow(s opStream, err error, show progress.Func) (*bangerv1.VM, error) {
	if err != nil {
		return nil, err
	}
	defer s.Close()
	for {
		event, err := s.Receive()
		switch {
		case errors.Is(err, io.EOF):
			return nil, errs.New(errs.Internal, "the daemon ended the operation without a result")
		case err != nil:
			return nil, err
		}
		if v := event.GetVm(); v != nil {
			return v, nil
		}
		show.Send(progressOf(event.GetProgress()))
	}
}

func progressOf(p *bangerv1.Progress) progress.Report {
	return progress.Report{Phase: p.GetPhase(), Detail: p.GetDetail(), Done: p.GetDoneBytes(), Total: p.GetTotalBytes()}
}

// create makes a VM, under a random name if it has none. When ctx ends first, it
// waits until the daemon has taken the creation back.
func (a *app) create(ctx context.Context, c *client.Client, req *bangerv1.CreateRequest) (*bangerv1.VM, error) {
	painter := term.NewPainter(a.err)
	defer painter.Clear()
	random := req.GetName() == ""
	for try := 0; ; try++ {
		if random {
			req.Name = string(vm.RandomName())
		}
		began := time.Now()
		s, err := startOp(c.VMs.Create)(ctx, req)
		v, err := follow(s, err, func(r progress.Report) { painter.Report("", r) })
		switch {
		case err == nil:
			return v, nil
		case ctx.Err() != nil:
			painter.Clear()
			a.awaitUndo(ctx, c, req.GetName(), began)
			return nil, ctx.Err()
		case random && errs.KindOf(err) == errs.Exists && try < 10:
			continue
		}
		return nil, err
	}
}

// awaitUndo waits until no VM of that name is left of a creation that began then.
func (a *app) awaitUndo(ctx context.Context, c *client.Client, name string, began time.Time) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		r, err := c.VMs.Get(ctx, &bangerv1.GetRequest{Vm: name})
		// An older VM had the name already: it is not ours to wait for.
		if err != nil || r.GetVm().GetName() != name || r.GetVm().GetCreatedAt().AsTime().Before(began.Truncate(time.Second)) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			say(a.err, "the daemon still clears "+name+" away; see it with: banger vm list")
			return
		}
	}
}

// eachVM runs do for every VM named in args at once, shows the progress of all,
// and prints the names of those that it succeeded for.
func (a *app) eachVM(cmd *cobra.Command, args []string, do func(context.Context, *client.Client, string) (opStream, error)) error {
	names, err := vmNames(args)
	if err != nil {
		return err
	}
	return withDaemon(cmd.Context(), func(c *client.Client) error {
		painter := term.NewPainter(a.err)
		failures := make([]error, len(names))
		var wg sync.WaitGroup
		for i, name := range names {
			label := name
			if len(names) == 1 {
				label = ""
			}
			wg.Go(func() {
				s, err := do(cmd.Context(), c, name)
				_, failures[i] = follow(s, err, func(r progress.Report) { painter.Report(label, r) })
			})
		}
		wg.Wait()
		painter.Clear()
		return a.outcome(names, failures)
	})
}

// outcome prints the names without a failure and returns the failures.
func (a *app) outcome(names []string, failures []error) error {
	var failed manyErrors
	for i, name := range names {
		if failures[i] != nil {
			failed = append(failed, failures[i])
			continue
		}
		if _, err := io.WriteString(a.out, name+"\n"); err != nil {
			return err
		}
	}
	if len(failed) == 0 {
		return nil
	}
	return failed
}

// vmNames checks references to VMs, names or prefixes of ids, before any work. A
// VM that is named twice counts once.
func vmNames(args []string) ([]string, error) {
	var names []string
	for _, s := range args {
		if _, err := vm.ParseName(s); err != nil {
			return nil, err
		}
		if !slices.Contains(names, s) {
			names = append(names, s)
		}
	}
	return names, nil
}

// getVM asks the daemon for one VM.
func getVM(ctx context.Context, c *client.Client, name string) (*bangerv1.VM, error) {
	if _, err := vm.ParseName(name); err != nil {
		return nil, err
	}
	r, err := c.VMs.Get(ctx, &bangerv1.GetRequest{Vm: name})
	return r.GetVm(), err
}

// getRunningVM is getVM for a VM that must run.
func getRunningVM(ctx context.Context, c *client.Client, name string) (*bangerv1.VM, error) {
	v, err := getVM(ctx, c, name)
	if err != nil || v.GetState() == bangerv1.State_STATE_RUNNING || v.GetState() == bangerv1.State_STATE_STOPPING {
		return v, err
	}
	e := errs.New(errs.Conflict, "the VM %q is %s", v.GetName(), stateWord(v.GetState()))
	if v.GetState() == bangerv1.State_STATE_STOPPED {
		e = e.WithHint("banger vm start %s", v.GetName())
	}
	return nil, e
}
