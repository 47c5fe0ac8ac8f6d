package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	bangerv1 "banger/api/banger/v1"
	shimv1 "banger/api/shim/v1"
	"banger/internal/base/errs"
	"banger/internal/cli/client"
	"banger/internal/cli/term"
)

// removeTimeout bounds the removal of a VM after "vm run --rm".
const removeTimeout = 10 * time.Second

// runFlags are the flags of "vm run" beside those of the new VM.
type runFlags struct {
	newVM
	remove, detach bool
	tty            ttyFlags
}

func (a *app) vmRunCommand() *cobra.Command {
	var flags runFlags
	c := &cobra.Command{
		Use: "run [flags] [-- command [argument…]]", Short: "Make a VM and run a shell or a command in it",
		Long: `Make a VM, start it, and run a command in it as root; without a command, a
login shell. The exit status is the command's (see "banger help exit-codes").
The VM keeps running afterwards, unless --rm is given.`,
		Example: `  banger vm run
  banger vm run --name devbox --memory 4GiB --vcpu 2
  banger vm run --rm -- uname -a
  tar c . | banger vm run --rm -- tar tv`,
		ValidArgsFunction: cobra.NoFileCompletions,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && cmd.ArgsLenAtDash() != 0 {
				return errs.New(errs.Invalid, "unexpected argument %q", args[0]).WithHint("put the command after --: banger vm run -- %s", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, argv []string) error {
			req, err := flags.request(cmd.Flags())
			if err != nil {
				return err
			}
			if flags.detach && (flags.remove || len(argv) > 0) {
				return usage(cmd.CommandPath(), "--detach goes neither with --rm nor with a command")
			}
			req.Start, req.Hold, req.RemoveOnStop = true, flags.remove, flags.remove
			return withDaemon(cmd.Context(), func(c *client.Client) error { return a.vmRun(cmd.Context(), c, flags, req, argv) })
		},
	}
	flags.register(a, c)
	f := c.Flags()
	f.BoolVar(&flags.remove, "rm", false, "delete the VM when the command has ended")
	f.BoolVarP(&flags.detach, "detach", "d", false, "only start the VM and print its name")
	flags.tty.register(f)
	return c
}

func (a *app) vmRun(ctx context.Context, c *client.Client, flags runFlags, req *bangerv1.CreateRequest, argv []string) error {
	start, err := newExecStart(argv)
	if err != nil {
		return err
	}
	v, err := a.create(ctx, c, req)
	if err != nil {
		return err
	}
	if flags.detach {
		_, err = fmt.Fprintln(a.out, v.GetName())
		return err
	}
	s := session{app: a, daemon: c, vm: v, start: start, stdin: true}
	s.start.Stdin = true
	shell := len(argv) == 0
	if flags.tty.wanted(a, shell) {
		s.setTTY()
	}
	if flags.remove {
		return a.runHeld(ctx, c, v, s)
	}
	err = s.run(ctx)
	if shell && term.IsTerminal(a.in) && !s.vanished {
		_, _ = fmt.Fprintf(a.err, "%s still runs: banger vm exec -it %s; stop it with: banger vm stop %s\n", v.GetName(), v.GetName(), v.GetName())
	}
	return err
}

// runHeld runs the session of a VM that must not outlive it. Whatever ends this
// process ends the hold, and with it the VM.
func (a *app) runHeld(ctx context.Context, c *client.Client, v *bangerv1.VM, s session) error {
	// The hold outlives ctx: a cancelled session still deletes its VM in order.
	own := context.WithoutCancel(ctx)
	shim, closeShim := client.Shim(v.GetShimSocket())
	defer closeShim()
	hold, err := shim.Hold(own, &shimv1.HoldRequest{})
	if err == nil {
		defer hold.Close()
		_, err = hold.Receive()
	}
	if err != nil {
		err = s.explain(ctx, fmt.Errorf("cannot hold the VM %q: %w", v.GetName(), err))
	} else {
		err = s.run(ctx)
	}
	removal, cancel := context.WithTimeout(own, removeTimeout)
	defer cancel()
	stream, callErr := startOp(c.VMs.Delete)(removal, &bangerv1.DeleteRequest{Vm: v.GetId(), Force: true})
	// A VM that stopped is gone already: it was made to be.
	if _, removeErr := follow(stream, callErr, nil); removeErr != nil && errs.KindOf(removeErr) != errs.NotFound {
		a.restoreTerminal()
		report(a.err, fmt.Errorf("cannot delete the VM %q: %w", v.GetName(), removeErr))
		if err == nil {
			return statusError(exitInternal)
		}
	}
	return err
}
