package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	bangerv1 "banger/api/banger/v1"
	"banger/internal/cli/client"
)

func (a *app) kernelShowCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "show [flags] KERNEL", Short: "Show a kernel: where it is from, how that was checked, what it has",
		Args: args(cobra.ExactArgs(1)), ValidArgsFunction: a.completeKernel,
		RunE: func(cmd *cobra.Command, args []string) error {
			return withDaemon(cmd.Context(), func(c *client.Client) error {
				r, err := c.Kernels.Get(cmd.Context(), &bangerv1.KernelGetRequest{Kernel: args[0]})
				if err != nil {
					return err
				}
				k := r.GetKernel()
				if asJSON {
					return writeJSON(a.out, []kernelJSON{newKernelJSON(k)})
				}
				if err := writeFields(a.out, kernelFields(k)); err != nil {
					return err
				}
				if len(k.GetOptions()) == 0 { // made by an older banger
					return nil
				}
				if _, err := fmt.Fprintln(a.out); err != nil {
					return err
				}
				return writeTable(a.out, []string{"OPTION", "STATE", "MODULE", "REQUIRED", "FOR"}, convert(k.GetOptions(), func(o *bangerv1.KernelOption) []string {
					return []string{o.GetName(), o.GetState(), o.GetModule(), yes(o.GetRequired()), o.GetReason()}
				}))
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func kernelFields(k *bangerv1.Kernel) [][2]string {
	o := k.GetOrigin()
	signed := ""
	if o.GetKey() != "" {
		signed = fmt.Sprintf("%s of %s, by the key %s", o.GetSuite(), timeText(o.GetIndexDate()), o.GetKey())
	}
	return [][2]string{
		{"name", k.GetName()},
		{"release", k.GetRelease()},
		{"version", k.GetVersion()},
		{"default", yes(k.GetDefault())},
		{"created", timeText(k.GetCreatedAt())},
		{"size", bytesText(k.GetDiskBytes())},
		{"VMs", strings.Join(k.GetVms(), " ")},
		{"source", k.GetSource()},
		{"from", o.GetUrl()},
		{"from digest", o.GetFileDigest()},
		{"modules from", o.GetModulesUrl()},
		{"modules from digest", o.GetModulesFileDigest()},
		{"package", o.GetPackage()},
		{"signed index", signed},
		{"came as", k.GetFormat()},
		{"image digest", k.GetImageDigest()},
		{"ELF", k.GetPath()},
		{"ELF digest", k.GetDigest()},
		{"modules disk", k.GetModulesDisk()},
		{"modules digest", k.GetModulesDigest()},
		{"modules", strconv.Itoa(int(k.GetModules()))},
	}
}
