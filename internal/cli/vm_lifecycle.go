package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	bangerv1 "banger/api/banger/v1"
	"banger/internal/base/errs"
	"banger/internal/cli/client"
	"banger/internal/vm"
)

// maxStopTimeout is the longest time that a guest may take over its shutdown.
const maxStopTimeout = time.Hour

func (a *app) vmStartCommand() *cobra.Command {
	return &cobra.Command{
		Use: "start VM…", Short: "Start stopped VMs",
		Args: args(cobra.MinimumNArgs(1)), ValidArgsFunction: a.completeVMs(0, isStopped),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.eachVM(cmd, args, func(ctx context.Context, c *client.Client, name string) (opStream, error) {
				return startOp(c.VMs.Start)(ctx, &bangerv1.StartRequest{Vm: name})
			})
		},
	}
}

func (a *app) vmStopCommand() *cobra.Command {
	var timeout time.Duration
	c := &cobra.Command{
		Use: "stop [flags] VM…", Short: "Shut VMs down in order",
		Args: args(cobra.MinimumNArgs(1)), ValidArgsFunction: a.completeVMs(0, isRunning),
		RunE: func(cmd *cobra.Command, args []string) error {
			seconds, err := timeoutSeconds(cmd, timeout)
			if err != nil {
				return err
			}
			return a.eachVM(cmd, args, func(ctx context.Context, c *client.Client, name string) (opStream, error) {
				return startOp(c.VMs.Stop)(ctx, &bangerv1.StopRequest{Vm: name, TimeoutSeconds: seconds})
			})
		},
	}
	c.Flags().DurationVar(&timeout, "timeout", 0, "time for the guest's shutdown, such as 30s; it is killed afterwards")
	return c
}

func (a *app) vmRestartCommand() *cobra.Command {
	var timeout time.Duration
	c := &cobra.Command{
		Use: "restart [flags] VM…", Short: "Stop VMs and start them again",
		Args: args(cobra.MinimumNArgs(1)), ValidArgsFunction: a.completeVMs(0, isRunning),
		RunE: func(cmd *cobra.Command, args []string) error {
			seconds, err := timeoutSeconds(cmd, timeout)
			if err != nil {
				return err
			}
			return a.eachVM(cmd, args, func(ctx context.Context, c *client.Client, name string) (opStream, error) {
				return startOp(c.VMs.Restart)(ctx, &bangerv1.RestartRequest{Vm: name, TimeoutSeconds: seconds})
			})
		},
	}
	c.Flags().DurationVar(&timeout, "timeout", 0, "time for the guest's shutdown, such as 30s; it is killed afterwards")
	return c
}

// timeoutSeconds returns the flag's value in whole seconds, rounded up; 0 if it
// was not given.
func timeoutSeconds(cmd *cobra.Command, d time.Duration) (int32, error) {
	if !cmd.Flags().Changed("timeout") {
		return 0, nil
	}
	if d <= 0 || d > maxStopTimeout {
		return 0, errs.New(errs.Invalid, "a shutdown cannot take %s", d).WithHint("give --timeout 1s to %s", maxStopTimeout)
	}
	return int32((d + time.Second - 1) / time.Second), nil
}

func (a *app) vmKillCommand() *cobra.Command {
	var name string
	c := &cobra.Command{
		Use: "kill [flags] VM…", Short: "End VMs at once, as a power cut would",
		Args: args(cobra.MinimumNArgs(1)), ValidArgsFunction: a.completeVMs(0, isRunning),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := vm.ParseSignal(name)
			if err != nil {
				return err
			}
			return a.eachVM(cmd, args, func(ctx context.Context, c *client.Client, name string) (opStream, error) {
				return startOp(c.VMs.Kill)(ctx, &bangerv1.KillRequest{Vm: name, Signal: int32(s)})
			})
		},
	}
	c.Flags().StringVarP(&name, "signal", "s", "KILL", "signal for the VM's process on the host, by name or number")
	_ = c.RegisterFlagCompletionFunc("signal", cobra.FixedCompletions([]string{"KILL", "TERM", "INT", "QUIT"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

func (a *app) vmDeleteCommand() *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use: "delete [flags] VM…", Aliases: []string{"rm"}, Short: "Delete VMs with their disks",
		Args: args(cobra.MinimumNArgs(1)), ValidArgsFunction: a.completeVMs(0, nil),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.eachVM(cmd, args, func(ctx context.Context, c *client.Client, name string) (opStream, error) {
				return startOp(c.VMs.Delete)(ctx, &bangerv1.DeleteRequest{Vm: name, Force: force})
			})
		},
	}
	c.Flags().BoolVarP(&force, "force", "f", false, "kill running VMs first")
	return c
}
