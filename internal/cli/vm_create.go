package cli

import (
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	bangerv1 "banger/api/banger/v1"
	"banger/internal/base/errs"
	"banger/internal/cli/client"
	"banger/internal/vm"
)

// newVM is what the flags say of a new VM.
type newVM struct {
	name, image  string
	kernel       string
	vcpus        int
	memory, disk vm.Size
}

func (n *newVM) register(a *app, c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&n.name, "name", "", "name of the VM; a random one without it")
	f.StringVar(&n.image, "image", "", "image to make the VM of; Debian without it")
	f.StringVar(&n.kernel, "kernel", "", "kernel to boot (\"banger kernel list\"), or one of Debian's to fetch, such as 6.1; its newest without it")
	f.IntVar(&n.vcpus, "vcpu", 0, "number of virtual CPUs; without it a quarter of the host's")
	f.Var(&n.memory, "memory", "memory, such as 4GiB; without it an eighth of the host's")
	f.Var(&n.disk, "disk-size", "size of the disk at /root, such as 20GiB; without it "+vm.DefaultDisk.String())
	// The names are our own flags': it cannot fail.
	_ = c.RegisterFlagCompletionFunc("image", a.completeImages)
	_ = c.RegisterFlagCompletionFunc("kernel", a.completeKernels)
	for _, flag := range []string{"name", "vcpu", "memory", "disk-size"} {
		_ = c.RegisterFlagCompletionFunc(flag, cobra.NoFileCompletions)
	}
}

// request checks the flags and makes the request of them.
func (n *newVM) request(f *pflag.FlagSet) (*bangerv1.CreateRequest, error) {
	req := &bangerv1.CreateRequest{Name: n.name, Image: n.image, Kernel: n.kernel}
	if f.Changed("name") {
		if _, err := vm.ParseName(n.name); err != nil {
			return nil, err
		}
	}
	if f.Changed("image") && n.image == "" {
		return nil, errs.New(errs.Invalid, "an image's name cannot be empty").WithHint("banger image list")
	}
	if f.Changed("kernel") && n.kernel == "" {
		return nil, errs.New(errs.Invalid, "a kernel's name cannot be empty").WithHint("banger kernel list")
	}
	if f.Changed("vcpu") {
		if err := vm.CheckVCPUs(n.vcpus); err != nil {
			return nil, err
		}
		req.Vcpus = new(int32(n.vcpus))
	}
	if f.Changed("memory") {
		if err := vm.CheckMemory(n.memory); err != nil {
			return nil, err
		}
		req.MemoryBytes = new(int64(n.memory))
	}
	if f.Changed("disk-size") {
		if err := vm.CheckDisk(n.disk); err != nil {
			return nil, err
		}
		req.DiskBytes = new(int64(n.disk))
	}
	return req, nil
}

func (a *app) vmCreateCommand() *cobra.Command {
	var flags newVM
	var noStart bool
	c := &cobra.Command{
		Use: "create [flags]", Short: "Make a VM, start it, and print its name",
		Args: args(cobra.NoArgs), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			req, err := flags.request(cmd.Flags())
			if err != nil {
				return err
			}
			req.Start = !noStart
			return withDaemon(cmd.Context(), func(c *client.Client) error {
				v, err := a.create(cmd.Context(), c, req)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(a.out, v.GetName())
				return err
			})
		},
	}
	flags.register(a, c)
	c.Flags().BoolVar(&noStart, "no-start", false, "do not start the VM")
	return c
}
