package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	bangerv1 "banger/api/banger/v1"
	"banger/internal/cli/client"
)

// completionTimeout bounds the question for live names: a shell waits for it.
const completionTimeout = 500 * time.Millisecond

// completeVMs completes names of VMs that keep, if there is one, selects. most is
// how many arguments are VMs; 0 means all.
func (a *app) completeVMs(most int, keep func(*bangerv1.VM) bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if most > 0 && len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return liveNames(cmd.Context(), args, func(ctx context.Context, c *client.Client) (names []string, err error) {
			r, err := c.VMs.List(ctx, &bangerv1.ListRequest{})
			for _, v := range r.GetVms() {
				if keep == nil || keep(v) {
					names = append(names, v.GetName())
				}
			}
			return names, err
		})
	}
}

// completeImages completes names of images.
func (a *app) completeImages(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return liveNames(cmd.Context(), args, func(ctx context.Context, c *client.Client) (names []string, err error) {
		r, err := c.Images.List(ctx, &bangerv1.ImageListRequest{})
		for _, i := range r.GetImages() {
			names = append(names, i.GetName())
		}
		return names, err
	})
}

// completeKernels completes names of kernels.
func (a *app) completeKernels(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return liveNames(cmd.Context(), args, func(ctx context.Context, c *client.Client) (names []string, err error) {
		r, err := c.Kernels.List(ctx, &bangerv1.KernelListRequest{})
		for _, k := range r.GetKernels() {
			names = append(names, k.GetName())
		}
		return names, err
	})
}

// completeKernel completes the one argument that is a kernel.
func (a *app) completeKernel(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.completeKernels(cmd, args, word)
}

// liveNames asks the daemon, if one runs, for names, and leaves out those that
// the line has already. The shell drops those that do not match what is typed.
func liveNames(ctx context.Context, have []string, ask func(context.Context, *client.Client) ([]string, error)) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(ctx, completionTimeout)
	defer cancel()
	c, err := client.ConnectIfRunning(ctx)
	if c == nil || err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer c.Close()
	names, err := ask(ctx, c)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return slices.DeleteFunc(names, func(n string) bool { return slices.Contains(have, n) }), cobra.ShellCompDirectiveNoFileComp
}

// completeDisk completes the first argument, a DISK: disks of VMs, or else files on
// the host. Paths on a disk are not looked up.
func (a *app) completeDisk(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.completeFileOrDisk(cmd, args, word)
}

// completeFileOrDisk completes the disks of VMs that are stopped, each with the
// colon that a path follows; if none begins with the word, the shell completes files.
func (a *app) completeFileOrDisk(cmd *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
	names, _ := liveNames(cmd.Context(), nil, func(ctx context.Context, c *client.Client) (disks []string, err error) {
		r, err := c.VMs.List(ctx, &bangerv1.ListRequest{})
		for _, v := range r.GetVms() {
			if !isStopped(v) {
				continue
			}
			for _, disk := range diskNames {
				if d := v.GetName() + ":" + disk + ":"; strings.HasPrefix(d, word) {
					disks = append(disks, d)
				}
			}
		}
		return disks, err
	})
	if len(names) == 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return names, cobra.ShellCompDirectiveNoSpace
}
