package cli

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	bangerv1 "banger/api/banger/v1"
	"banger/internal/cli/client"
)

func (a *app) vmShowCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "show [flags] VM…", Short: "Show everything about VMs",
		Args: args(cobra.MinimumNArgs(1)), ValidArgsFunction: a.completeVMs(0, nil),
		RunE: func(cmd *cobra.Command, args []string) error {
			names, err := vmNames(args)
			if err != nil {
				return err
			}
			return withDaemon(cmd.Context(), func(c *client.Client) error {
				var vms []*bangerv1.VM
				var failed manyErrors
				for _, name := range names {
					v, err := getVM(cmd.Context(), c, name)
					if err != nil {
						failed = append(failed, err)
						continue
					}
					vms = append(vms, v)
				}
				if err := a.showVMs(vms, asJSON); err != nil {
					return err
				}
				if len(failed) > 0 {
					return failed
				}
				return nil
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (a *app) showVMs(vms []*bangerv1.VM, asJSON bool) error {
	if asJSON {
		return writeJSON(a.out, convert(vms, newVMJSON))
	}
	for i, v := range vms {
		if i > 0 {
			if _, err := fmt.Fprintln(a.out); err != nil {
				return err
			}
		}
		if err := writeFields(a.out, vmFields(v)); err != nil {
			return err
		}
	}
	return nil
}

func vmFields(v *bangerv1.VM) [][2]string {
	number := func(n int32) string {
		if n == 0 {
			return ""
		}
		return strconv.Itoa(int(n))
	}
	disk := bytesText(v.GetDiskBytes())
	if used := bytesText(v.GetDiskUsedBytes()); used != "" {
		disk += ", " + used + " used on the host"
	}
	remove := ""
	if v.GetRemoveOnStop() {
		remove = "when it stops"
	}
	return append([][2]string{
		{"name", v.GetName()},
		{"id", v.GetId()},
		{"state", stateWord(v.GetState())},
		{"reason", v.GetReason()},
		{"image", v.GetImage()},
		{"image digest", v.GetImageDigest()},
		{"kernel", pending(v, v.GetKernel(), v.GetBoot().GetKernel())},
		{"cpus", pending(v, number(v.GetVcpus()), number(v.GetBoot().GetVcpus()))},
		{"memory", pending(v, bytesText(v.GetMemoryBytes()), bytesText(v.GetBoot().GetMemoryBytes()))},
		{"disk", disk},
		{"created", timeText(v.GetCreatedAt())},
		{"started", timeText(v.GetStartedAt())},
		{"deleted", remove},
		{"vmm", v.GetVmm()},
		{"accelerator", v.GetAccelerator()},
		{"pid", number(v.GetPid())},
		{"shim pid", number(v.GetShimPid())},
		{"init", v.GetInit()},
		{"boot id", v.GetBootId()},
		{"console log", v.GetConsoleLog()},
	}, configFields(v.GetConfig())...)
}

// pending is a property of a VM, with what it runs on until its next start if that is
// something else.
func pending(v *bangerv1.VM, next, now string) string {
	if v.GetBoot() == nil || next == now {
		return next
	}
	return now + ", from the next start " + next
}
