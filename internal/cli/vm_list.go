package cli

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	bangerv1 "banger/api/banger/v1"
	"banger/internal/cli/client"
)

// isRunning, isStopped and nil select VMs.
func isRunning(v *bangerv1.VM) bool { return v.GetState() == bangerv1.State_STATE_RUNNING }
func isStopped(v *bangerv1.VM) bool { return v.GetState() == bangerv1.State_STATE_STOPPED }

func (a *app) vmListCommand() *cobra.Command {
	return a.listCommand("list", "List all VMs", []string{"ls"}, nil)
}

func (a *app) psCommand() *cobra.Command {
	return a.listCommand("ps", "List the running VMs", nil, isRunning)
}

// listCommand lists the VMs for which keep, if there is one, returns true.
func (a *app) listCommand(use, short string, aliases []string, keep func(*bangerv1.VM) bool) *cobra.Command {
	var asJSON, quiet bool
	c := &cobra.Command{
		Use: use, Aliases: aliases, Short: short,
		Args: args(cobra.NoArgs), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withDaemon(cmd.Context(), func(c *client.Client) error {
				r, err := c.VMs.List(cmd.Context(), &bangerv1.ListRequest{})
				if err != nil {
					return err
				}
				vms := slices.DeleteFunc(r.GetVms(), func(v *bangerv1.VM) bool { return keep != nil && !keep(v) })
				switch {
				case asJSON:
					return writeJSON(a.out, convert(vms, newVMJSON))
				case quiet:
					for _, v := range vms {
						if _, err := fmt.Fprintln(a.out, v.GetName()); err != nil {
							return err
						}
					}
					return nil
				}
				return a.writeVMs(vms)
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "print names only")
	return c
}

func (a *app) writeVMs(vms []*bangerv1.VM) error {
	now := time.Now()
	return writeTable(a.out, []string{"NAME", "STATE", "IMAGE", "CPUS", "MEMORY", "DISK", "UPTIME/REASON"}, convert(vms, func(v *bangerv1.VM) []string {
		last := v.GetReason()
		if v.GetStartedAt() != nil {
			last = ago(v.GetStartedAt(), now)
		}
		return []string{
			v.GetName(), stateWord(v.GetState()), v.GetImage(), strconv.Itoa(int(v.GetVcpus())),
			bytesText(v.GetMemoryBytes()), bytesText(v.GetDiskBytes()), last,
		}
	}))
}
