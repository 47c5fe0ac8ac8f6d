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
	Name          string             `json:"name"`
	Release       string             `json:"release"`
	Version       string             `json:"version"`
	Default       bool               `json:"default"`
	Format        string             `json:"format"`
	Path          string             `json:"path"`
	Digest        string             `json:"digest"`
	ImageDigest   string             `json:"image_digest"`
	ModulesDisk   string             `json:"modules_disk"`
	ModulesDigest string             `json:"modules_digest"`
	Modules       int32              `json:"modules"`
	DiskBytes     int64              `json:"disk_bytes"`
	Source        string             `json:"source"`
	Origin        kernelOriginJSON   `json:"origin"`
	CreatedAt     *time.Time         `json:"created_at"`
	InUse         int32              `json:"in_use"`
	VMs           []string           `json:"vms"`
	Options       []kernelOptionJSON `json:"options"`
}

// kernelOriginJSON is where a kernel came from, and how that was checked.
type kernelOriginJSON struct {
	Kind              string     `json:"kind"`
	URL               string     `json:"url"`
	FileDigest        string     `json:"file_digest"`
	ModulesURL        string     `json:"modules_url"`
	ModulesFileDigest string     `json:"modules_file_digest"`
	Package           string     `json:"package"`
	Suite             string     `json:"suite"`
	IndexDate         *time.Time `json:"index_date"`
	Key               string     `json:"key"`
}

// kernelOptionJSON is one thing that a kernel was checked for.
type kernelOptionJSON struct {
	Name     string `json:"name"`
	Module   string `json:"module"`
	State    string `json:"state"`
	Reason   string `json:"reason"`
	Required bool   `json:"required"`
}

func newKernelJSON(k *bangerv1.Kernel) kernelJSON {
	o := k.GetOrigin()
	return kernelJSON{
		Name: k.GetName(), Release: k.GetRelease(), Version: k.GetVersion(), Default: k.GetDefault(), Format: k.GetFormat(),
		Path: k.GetPath(), Digest: k.GetDigest(), ImageDigest: k.GetImageDigest(),
		ModulesDisk: k.GetModulesDisk(), ModulesDigest: k.GetModulesDigest(), Modules: k.GetModules(),
		DiskBytes: k.GetDiskBytes(), Source: k.GetSource(), CreatedAt: timeOf(k.GetCreatedAt()), InUse: k.GetInUse(),
		VMs: convert(k.GetVms(), func(name string) string { return name }),
		Origin: kernelOriginJSON{
			Kind: o.GetKind(), URL: o.GetUrl(), FileDigest: o.GetFileDigest(), ModulesURL: o.GetModulesUrl(), ModulesFileDigest: o.GetModulesFileDigest(),
			Package: o.GetPackage(), Suite: o.GetSuite(), IndexDate: timeOf(o.GetIndexDate()), Key: o.GetKey(),
		},
		Options: convert(k.GetOptions(), func(o *bangerv1.KernelOption) kernelOptionJSON {
			return kernelOptionJSON{Name: o.GetName(), Module: o.GetModule(), State: o.GetState(), Reason: o.GetReason(), Required: o.GetRequired()}
		}),
	}
}

func (a *app) kernelCommand() *cobra.Command {
	c := group("kernel", "Manage kernels", `A VM boots a kernel of its own, not the host's. Without --kernel it is Debian's newest
for virtual machines that is on disk, and a VM keeps its kernel until "banger vm set
VM --kernel NAME" says otherwise.`)
	c.AddCommand(a.kernelListCommand(), a.kernelShowCommand(), a.kernelCatalogCommand(), a.kernelPullCommand(), a.kernelImportCommand(), a.kernelDeleteCommand())
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
				return writeTable(a.out, []string{"NAME", "VERSION", "SIZE", "AGE", "VMS", "DEFAULT", "SOURCE"}, convert(r.GetKernels(), func(k *bangerv1.Kernel) []string {
					return []string{
						k.GetName(), k.GetVersion(), bytesText(k.GetDiskBytes()), ago(k.GetCreatedAt(), now), strconv.Itoa(int(k.GetInUse())),
						yes(k.GetDefault()), k.GetSource(),
					}
				}))
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// yes is a cell of a table: "yes", or empty.
func yes(b bool) string {
	if b {
		return "yes"
	}
	return ""
}

func (a *app) kernelDeleteCommand() *cobra.Command {
	return &cobra.Command{
		Use: "delete KERNEL…", Aliases: []string{"rm"}, Short: "Delete kernels that no VM uses",
		Args: args(cobra.MinimumNArgs(1)), ValidArgsFunction: a.completeKernels,
		RunE: func(cmd *cobra.Command, args []string) error {
			return withDaemon(cmd.Context(), func(c *client.Client) error {
				failures := make([]error, len(args))
				for i, name := range args {
					_, failures[i] = c.Kernels.Delete(cmd.Context(), &bangerv1.KernelDeleteRequest{Kernel: name})
				}
				return a.outcome(args, failures)
			})
		},
	}
}
