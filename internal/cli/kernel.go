package cli

import (
	"strconv"
	"time"

	"github.com/spf13/cobra"

	bangerv1 "banger/api/banger/v1"
	"banger/internal/cli/client"
)

// kernelJSON is a kernel in --json output.
type kernelJSON struct {
	Release     string     `json:"release"`
	Version     string     `json:"version"`
	Digest      string     `json:"digest"`
	Path        string     `json:"path"`
	ModulesDisk string     `json:"modules_disk"`
	DiskBytes   int64      `json:"disk_bytes"`
	Source      string     `json:"source"`
	CreatedAt   *time.Time `json:"created_at"`
	InUse       int32      `json:"in_use"`
}

func newKernelJSON(k *bangerv1.Kernel) kernelJSON {
	return kernelJSON{
		Release: k.GetRelease(), Version: k.GetVersion(), Digest: k.GetDigest(), Path: k.GetPath(), ModulesDisk: k.GetModulesDisk(),
		DiskBytes: k.GetDiskBytes(), Source: k.GetSource(), CreatedAt: timeOf(k.GetCreatedAt()), InUse: k.GetInUse(),
	}
}

func (a *app) kernelCommand() *cobra.Command {
	c := group("kernel", "Look at kernels", "")
	c.AddCommand(a.kernelListCommand())
	return c
}

func (a *app) kernelListCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the kernels on disk",
		Args: args(cobra.NoArgs), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withDaemon(cmd.Context(), func(c *client.Client) error {
				r, err := c.Kernels.List(cmd.Context(), &bangerv1.KernelListRequest{})
				if err != nil {
					return err
				}
				if asJSON {
					return writeJSON(a.out, convert(r.GetKernels(), newKernelJSON))
				}
				now := time.Now()
				return writeTable(a.out, []string{"RELEASE", "VERSION", "SIZE", "AGE", "VMS", "SOURCE"}, convert(r.GetKernels(), func(k *bangerv1.Kernel) []string {
					return []string{k.GetRelease(), k.GetVersion(), bytesText(k.GetDiskBytes()), ago(k.GetCreatedAt(), now), strconv.Itoa(int(k.GetInUse())), k.GetSource()}
				}))
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}
