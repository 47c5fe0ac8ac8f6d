package cli

import (
	"context"
	"fmt"
	"path"
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
	process        processFlags
	// entrypoint is nil without the flag.
	entrypoint *string
}

func (a *app) vmRunCommand() *cobra.Command {
	var flags runFlags
	var entrypoint string
	c := &cobra.Command{
		Use: "run [flags] [-- command [argument…]]", Short: "Make a VM and run a shell or a command in it",
		Long: `Make a VM, start it, and run a command in it. The exit status is the command's
(see "banger help exit-codes"). The VM keeps running afterwards, unless --rm is
given.

What runs is what the image says, as with docker run: its entrypoint with the
command given here, or else with the image's own. Its environment, user and
directory hold as far as no flag names others. An image that names no command, such
as the default one, gets a shell; one without any such configuration runs
everything as root, in its home.`,
		Example: `  banger vm run
  banger vm run --name devbox --memory 4GiB --vcpu 2
  banger vm run --rm -- uname -a
  banger vm run --image mine --entrypoint sh -e DEBUG=1
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
			if flags.detach && flags.remove {
				return usage(cmd.CommandPath(), "--detach does not go with --rm")
			}
			process, err := flags.process.request(argv)
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("entrypoint") {
				flags.entrypoint = &entrypoint
			}
			req.Start, req.Hold, req.RemoveOnStop = true, flags.remove, flags.remove
			return withDaemon(cmd.Context(), func(c *client.Client) error { return a.vmRun(cmd.Context(), c, flags, req, process) })
		},
	}
	flags.register(a, c)
	f := c.Flags()
	f.BoolVar(&flags.remove, "rm", false, "delete the VM when the command has ended")
	f.BoolVarP(&flags.detach, "detach", "d", false, "print the VM's name and let the command, if there is one, live on by itself; its output goes to the VM's console log")
	f.StringVar(&entrypoint, "entrypoint", "", "program to run in the place of the image's entrypoint and command; empty for none")
	flags.tty.register(f)
	flags.process.register(f)
	return c
}

func (a *app) vmRun(ctx context.Context, c *client.Client, flags runFlags, req *bangerv1.CreateRequest, process *request) error {
	v, err := a.create(ctx, c, req)
	if err != nil {
		return err
	}
	s := newRun(a, c, v, flags, process)
	switch {
	case flags.detach:
		if _, err := fmt.Fprintln(a.out, v.GetName()); err != nil || len(s.start.GetArgv()) == 0 {
			return err
		}
		s.start.Detach = true
		err = s.run(ctx)
	case flags.remove:
		return a.runHeld(ctx, c, v, s)
	default:
		err = s.run(ctx)
	}
	switch name := v.GetName(); {
	case s.refused:
		_, _ = fmt.Fprintf(a.err, "%s still runs; delete it with: banger vm delete --force %s\n", name, name)
	case len(process.argv) == 0 && !flags.detach && term.IsTerminal(a.in) && !s.vanished:
		_, _ = fmt.Fprintf(a.err, "%s still runs: banger vm exec -it %s; stop it with: banger vm stop %s\n", name, name, name)
	}
	return err
}

// newRun is the session of a new VM: what its image and the flags make of the
// arguments, or a shell.
func newRun(a *app, c *client.Client, v *bangerv1.VM, flags runFlags, process *request) session {
	config := fromConfig(v.GetConfig())
	command := config.Command(flags.entrypoint, process.argv)
	if len(process.argv) == 0 && isItsInit(v, command) {
		command = nil
	}
	s := session{app: a, daemon: c, vm: v, start: process.start(config, command)}
	if dir := s.start.GetDir(); path.IsAbs(dir) {
		s.start.MakeDirs = append(s.start.MakeDirs, dir)
	}
	if flags.detach {
		s.start.StopSignal = stopSignal(config)
		return s
	}
	s.stdin, s.start.Stdin = true, true
	if flags.tty.wanted(a, len(command) == 0) {
		s.setTTY()
	} else if len(command) > 0 {
		s.start.StopSignal = stopSignal(config)
	}
	return s
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
