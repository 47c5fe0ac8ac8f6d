package cli

import (
	"errors"
	"io"
	"math"

	"github.com/spf13/cobra"

	bangerv1 "banger/api/banger/v1"
	"banger/internal/base/errs"
	"banger/internal/cli/client"
	"banger/internal/cli/term"
	"banger/internal/vm"
)

func (a *app) vmLogsCommand() *cobra.Command {
	var follow bool
	var tail int
	c := &cobra.Command{
		Use: "logs [flags] VM", Short: "Print a VM's console log",
		Long: `Print what a VM has written to its console. On a terminal, sequences that would
move the cursor or change colours are left out.`,
		Args: args(cobra.ExactArgs(1)), ValidArgsFunction: a.completeVMs(1, nil),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := vm.ParseName(args[0]); err != nil {
				return err
			}
			if cmd.Flags().Changed("tail") && (tail < 1 || tail > math.MaxInt32) {
				return errs.New(errs.Invalid, "cannot print the last %d lines", tail).WithHint("give --tail 1 or more")
			}
			out := a.out
			if term.IsTerminal(out) {
				out = term.NewCleaner(out)
			}
			return withDaemon(cmd.Context(), func(c *client.Client) error {
				s, err := c.VMs.Logs(cmd.Context(), &bangerv1.LogsRequest{Vm: args[0], Follow: follow, TailLines: int32(tail)})
				if err != nil {
					return err
				}
				defer s.Close()
				for {
					r, err := s.Receive()
					if errors.Is(err, io.EOF) {
						return nil
					}
					if err != nil {
						return err
					}
					if _, err := out.Write(r.GetData()); err != nil {
						return err
					}
				}
			})
		},
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on while the VM runs")
	c.Flags().IntVarP(&tail, "tail", "n", 0, "print only the last lines")
	return c
}
