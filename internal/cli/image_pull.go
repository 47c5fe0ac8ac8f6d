package cli

import (
	"github.com/spf13/cobra"

	bangerv1 "banger/api/banger/v1"
	"banger/internal/cli/client"
)

func (a *app) imagePullCommand() *cobra.Command {
	req := &bangerv1.ImagePullRequest{}
	c := &cobra.Command{
		Use: "pull REFERENCE", Short: "Get an image from a registry, and make its disk",
		Long: `Get an image from an OCI or Docker registry, and make the disk that VMs start from.
Layers that are here are not fetched again, and all that comes is checked by its
digest. "vm run --image REFERENCE" does it by itself.

Credentials are those of "docker login" and "podman login". Registries of this
machine are spoken to without TLS; others, mirrors and certificates are in the
configuration ("banger config").`,
		Example: `  banger image pull alpine:3.20
  banger image pull ghcr.io/owner/name@sha256:…
  banger image pull localhost:5000/mine`,
		Args: args(cobra.ExactArgs(1)), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Reference = args[0]
			return withDaemon(cmd.Context(), func(c *client.Client) error {
				s, err := c.Images.Pull(cmd.Context(), req)
				if err != nil {
					return err
				}
				defer s.Close()
				return a.followImage(s.Receive)
			})
		},
	}
	c.Flags().StringVar(&req.Platform, "platform", "", "platform of the image, such as linux/arm64 (default: this machine's)")
	return c
}
