package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	bangerv1 "banger/api/banger/v1"
	"banger/internal/cli/client"
	"banger/internal/vm"
)

// prunedJSON is what a prune removed, in --json output.
type prunedJSON struct {
	Images        []string `json:"images"`
	DiskBytes     int64    `json:"disk_bytes"`
	DownloadBytes int64    `json:"download_bytes"`
}

func (a *app) imagePruneCommand() *cobra.Command {
	req := &bangerv1.ImagePruneRequest{}
	var asJSON bool
	c := &cobra.Command{
		Use: "prune [flags]", Short: "Remove downloads, and with --all the images that no VM uses",
		Long: `Remove what was downloaded to make images; it is fetched again when it is needed.
With --all, the images that no VM uses go, too.`,
		Args: args(cobra.NoArgs), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withDaemon(cmd.Context(), func(c *client.Client) error {
				r, err := c.Images.Prune(cmd.Context(), req)
				if err != nil {
					return err
				}
				if asJSON {
					return writeJSON(a.out, []prunedJSON{{append([]string{}, r.GetImages()...), r.GetDiskBytes(), r.GetDownloadBytes()}})
				}
				for _, name := range r.GetImages() {
					if _, err := fmt.Fprintln(a.out, name); err != nil {
						return err
					}
				}
				_, err = fmt.Fprintf(a.err, "freed %s of downloads and %s of disks\n", vm.Size(r.GetDownloadBytes()).Approx(), vm.Size(r.GetDiskBytes()).Approx())
				return err
			})
		},
	}
	c.Flags().BoolVarP(&req.All, "all", "a", false, "remove the images that no VM uses, too")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}
