// Package cli is banger's command line: it reads arguments, calls the daemon,
// the shim and the agent, and shows what they say. It decides nothing about VMs.
//
// Words: an operation is a call that streams progress and then its result; a
// session is a command in a guest with its streams, signals and terminal.
package cli

import (
	"context"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"banger/internal/base/errs"
	"banger/internal/base/version"
	"banger/internal/cli/client"
)

// app is one run of the command line.
type app struct {
	in       io.Reader
	out, err io.Writer

	mu sync.Mutex
	// forward, while it is set, takes SIGINT and SIGTERM in the place of the
	// command line itself.
	forward func(syscall.Signal)
	// restore puts back the terminal that is in raw mode, if any.
	restore func()
}

// Main runs the command line with the process's streams and returns the exit
// status. args does not have the program's name.
func Main(args []string) int {
	signals := make(chan os.Signal, 8)
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(s) { // nohup, or the background of a script
			signal.Notify(signals, s)
		}
	}
	defer signal.Stop(signals)
	// Somebody who listens for SIGPIPE gets EPIPE from writes instead. Ignoring the
	// signal would do it too, but the daemon would inherit that.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr}
	return a.run(context.Background(), args, signals)
}

// run executes the command. The first signal that no session takes cancels it;
// the second ends the wait for its clearing away.
func (a *app) run(ctx context.Context, args []string, signals <-chan os.Signal) int {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer a.restoreTerminal()
	done := make(chan error, 1)
	go func() { done <- a.execute(ctx, args) }()
	for {
		select {
		case err := <-done:
			a.restoreTerminal()
			report(a.err, err)
			return exitCode(err)
		case s := <-signals:
			switch {
			case a.takeSignal(s):
			case ctx.Err() != nil:
				return exitInterrupted
			default:
				cancel()
			}
		}
	}
}

func (a *app) execute(ctx context.Context, args []string) error {
	root := a.root()
	root.SetArgs(args)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	return root.ExecuteContext(ctx)
}

// takeSignal hands s to the session, if there is one that takes it.
func (a *app) takeSignal(s os.Signal) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	number, ok := s.(syscall.Signal)
	if !ok || a.forward == nil || number == syscall.SIGHUP {
		return false
	}
	a.forward(number)
	return true
}

// setForward hands signals to f until it is called with nil.
func (a *app) setForward(f func(syscall.Signal)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.forward = f
}

func (a *app) setRestore(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.restore = f
}

func (a *app) restoreTerminal() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.restore != nil {
		a.restore()
	}
}

func (a *app) root() *cobra.Command {
	root := group("banger", "Virtual machines for developers", `Banger gives you Linux machines of your own, each with its own kernel.

  banger vm run                      a new VM and a root shell in it
  banger vm run --rm -- uname -a     a VM for one command`)
	root.Version = version.String()
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(
		a.vmCommand(), a.psCommand(), a.imageCommand(), a.kernelCommand(), a.diskCommand(),
		a.configCommand(), a.daemonCommand(), a.doctorCommand(), a.versionCommand(),
		&cobra.Command{Use: "exit-codes", Short: "What the exit status means", Long: exitHelp},
	)
	return root
}

func (a *app) vmCommand() *cobra.Command {
	c := group("vm", "Manage VMs", "")
	c.AddCommand(
		a.vmRunCommand(), a.vmCreateCommand(),
		a.vmStartCommand(), a.vmStopCommand(), a.vmRestartCommand(), a.vmKillCommand(), a.vmDeleteCommand(),
		a.vmListCommand(), a.vmShowCommand(), a.vmSetCommand(),
		a.vmExecCommand(), a.vmLogsCommand(), a.vmConsoleCommand(),
	)
	return c
}

// group returns a command that only has subcommands. Alone it prints its help;
// an unknown subcommand is an error.
func group(name, short, long string) *cobra.Command {
	return &cobra.Command{
		Use: name, Short: short, Long: long,
		Args: cobra.ArbitraryArgs, SuggestionsMinimumDistance: 2,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return c.Help()
			}
			if near := c.SuggestionsFor(args[0]); len(near) > 0 {
				return errs.New(errs.Invalid, "unknown command %q", args[0]).WithHint("%s %s", c.CommandPath(), near[0])
			}
			return usage(c.CommandPath(), "unknown command %q", args[0])
		},
	}
}

// flagError gives an error of the flag parser its kind, and keeps the hint of a
// value's own parser.
func flagError(c *cobra.Command, err error) error {
	if bad, ok := err.(*pflag.InvalidValueError); ok { //nolint:errorlint // pflag returns it bare
		if cause := bad.Unwrap(); errs.HintOf(cause) != "" {
			return errs.New(errs.Invalid, "--%s: %w", bad.GetFlag().Name, cause)
		}
	}
	return usage(c.CommandPath(), "%w", err)
}

// args gives the errors of an argument check their kind.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return usage(c.CommandPath(), "%w", err)
		}
		return nil
	}
}

// withDaemon runs f with a client of the daemon, which is started if need be.
func withDaemon(ctx context.Context, f func(*client.Client) error) error {
	c, err := client.Connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	return f(c)
}
