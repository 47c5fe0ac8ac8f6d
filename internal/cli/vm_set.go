package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	bangerv1 "banger/api/banger/v1"
	"banger/ext4"
	"banger/internal/base/errs"
	"banger/internal/base/progress"
	"banger/internal/cli/client"
	"banger/internal/cli/term"
	"banger/internal/vm"
)

// setFlags are the properties that "vm set" can change.
type setFlags struct {
	kernel       string
	vcpus        int
	memory, disk vm.Size
}

func (a *app) vmSetCommand() *cobra.Command {
	var flags setFlags
	c := &cobra.Command{
		Use: "set [flags] VM…", Short: "Change the kernel, CPUs, memory or disk of VMs",
		Long: `Change properties of VMs. Kernel, CPUs and memory are fixed while a VM runs: it has the
new ones from its next start. The disk at /root can only grow, while the VM is stopped.

--kernel takes the name of a kernel ("banger kernel list"), or what "banger kernel pull"
takes, such as 6.1: it is fetched if it is not here.`,
		Example: `  banger vm set devbox --kernel 6.1
  banger vm set devbox --vcpu 4 --memory 8GiB
  banger vm set devbox --disk-size 40GiB`,
		Args: args(cobra.MinimumNArgs(1)), ValidArgsFunction: a.completeVMs(0, nil),
		RunE: func(cmd *cobra.Command, argv []string) error {
			names, err := vmNames(argv)
			if err != nil {
				return err
			}
			req, err := flags.request(cmd)
			if err != nil {
				return err
			}
			return withDaemon(cmd.Context(), func(c *client.Client) error {
				failures := make([]error, len(names))
				for i, name := range names {
					failures[i] = a.setVM(cmd, c, name, req, flags.disk)
				}
				return a.outcome(names, failures)
			})
		},
	}
	f := c.Flags()
	f.StringVar(&flags.kernel, "kernel", "", "kernel to boot")
	f.IntVar(&flags.vcpus, "vcpu", 0, "number of virtual CPUs")
	f.Var(&flags.memory, "memory", "memory, such as 4GiB")
	f.Var(&flags.disk, "disk-size", "size that the disk at /root is to grow to, such as 20GiB")
	_ = c.RegisterFlagCompletionFunc("kernel", a.completeKernels)
	for _, flag := range []string{"vcpu", "memory", "disk-size"} {
		_ = c.RegisterFlagCompletionFunc(flag, cobra.NoFileCompletions)
	}
	return c
}

// request checks the flags and makes a request of them, without a VM; nil if it would
// change nothing.
func (s *setFlags) request(cmd *cobra.Command) (*bangerv1.SetRequest, error) {
	f := cmd.Flags()
	req := &bangerv1.SetRequest{}
	changed := 0
	f.Visit(func(flag *pflag.Flag) { changed++ })
	if changed == 0 {
		return nil, usage(cmd.CommandPath(), "there is nothing to change: give --kernel, --vcpu, --memory or --disk-size")
	}
	if f.Changed("kernel") {
		if s.kernel == "" {
			return nil, errs.New(errs.Invalid, "a kernel's name cannot be empty").WithHint("banger kernel list")
		}
		req.Kernel = &s.kernel
	}
	if f.Changed("vcpu") {
		if err := vm.CheckVCPUs(s.vcpus); err != nil {
			return nil, err
		}
		req.Vcpus = new(int32(s.vcpus))
	}
	if f.Changed("memory") {
		if err := vm.CheckMemory(s.memory); err != nil {
			return nil, err
		}
		req.MemoryBytes = new(int64(s.memory))
	}
	if f.Changed("disk-size") {
		if err := vm.CheckDisk(s.disk); err != nil {
			return nil, err
		}
	}
	if req.Kernel == nil && req.Vcpus == nil && req.MemoryBytes == nil {
		return nil, nil //nolint:nilnil // the disk alone
	}
	return req, nil
}

// setVM changes one VM: the disk first, since that can be refused for the VM's state.
func (a *app) setVM(cmd *cobra.Command, c *client.Client, name string, req *bangerv1.SetRequest, disk vm.Size) error {
	if disk != 0 {
		if err := growDisk(cmd, diskRef{vm: name, name: "work"}, disk, &ext4.EditOptions{}); err != nil {
			return err
		}
	}
	if req == nil {
		return nil
	}
	v, err := a.sendSet(cmd.Context(), c, name, req)
	if err != nil {
		return err
	}
	if b := v.GetBoot(); b != nil && (b.GetKernel() != v.GetKernel() || b.GetVcpus() != v.GetVcpus() || b.GetMemoryBytes() != v.GetMemoryBytes()) {
		_, _ = fmt.Fprintf(a.err, "%s runs: it has this from its next start (banger vm restart %s)\n", v.GetName(), v.GetName())
	}
	return nil
}

func (a *app) sendSet(ctx context.Context, c *client.Client, name string, req *bangerv1.SetRequest) (*bangerv1.VM, error) {
	painter := term.NewPainter(a.err)
	defer painter.Clear()
	s, err := startOp(c.VMs.Set)(ctx, &bangerv1.SetRequest{Vm: name, Kernel: req.Kernel, Vcpus: req.Vcpus, MemoryBytes: req.MemoryBytes})
	return follow(s, err, func(r progress.Report) { painter.Report("", r) })
}
