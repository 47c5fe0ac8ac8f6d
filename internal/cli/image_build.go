package cli

import (
	"github.com/spf13/cobra"

	bangerv1 "banger/api/banger/v1"
	"banger/internal/cli/client"
	"banger/internal/imagecatalog"
)

func (a *app) imageBuildCommand() *cobra.Command {
	req := &bangerv1.ImageBuildRequest{}
	c := &cobra.Command{
		Use: "build [IMAGE] | build --from debian:SUITE --name NAME", Short: "Make an image: one of the catalog, or of Debian packages",
		Long: `Make an image of the catalog now, as its first use would, or with --from a new one of
Debian's packages, from the mirrors of this host.

Variants are base (systemd and everyday tools), dev (compilers, Python and search tools
besides) and docker (Docker besides). --packages come on top. What an image was made of
is in it: /usr/share/banger/packages.`,
		Example: `  banger image build debian-trixie-docker
  banger image build --fresh debian-trixie
  banger image build --from debian:trixie --packages golang,postgresql --name lab
  banger image build --from debian:bookworm --variant dev --packages gdb --name lab`,
		Args: args(cobra.MaximumNArgs(1)), ValidArgsFunction: a.completeImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case req.From == "" && (req.Name != "" || req.Variant != "" || len(req.Packages) > 0):
				return usage(cmd.CommandPath(), "--name, --variant and --packages go with --from debian:SUITE")
			case req.From != "" && req.Fresh:
				return usage(cmd.CommandPath(), "an image with --from is always made afresh: --fresh is for those of the catalog")
			case req.From != "" && len(args) > 0:
				return usage(cmd.CommandPath(), "either name an image of the catalog, or describe a new one with --from")
			case req.From != "" && req.Name == "":
				return usage(cmd.CommandPath(), "the image needs a name: --name is missing")
			case req.From != "":
				// The daemon checks it too; here it costs no daemon.
				if _, err := imagecatalog.NewDebian(req.From, req.Variant, req.Packages); err != nil {
					return err
				}
			case len(args) > 0:
				req.Image = args[0]
			}
			return withDaemon(cmd.Context(), func(c *client.Client) error {
				s, err := c.Images.Build(cmd.Context(), req)
				if err != nil {
					return err
				}
				defer s.Close()
				return a.followImage(s.Receive)
			})
		},
	}
	c.Flags().BoolVar(&req.Fresh, "fresh", false, "make it again if it is here: of newer packages; VMs keep the one before")
	c.Flags().StringVar(&req.From, "from", "", "what to make a new image of: debian:SUITE")
	c.Flags().StringVar(&req.Variant, "variant", "", "list of packages: base, dev or docker (default base)")
	c.Flags().StringSliceVar(&req.Packages, "packages", nil, "more packages, with commas between")
	c.Flags().StringVar(&req.Name, "name", "", "name of the new image")
	const noFiles = cobra.ShellCompDirectiveNoFileComp
	_ = c.RegisterFlagCompletionFunc("from", cobra.FixedCompletions([]string{"debian:bookworm", "debian:trixie"}, noFiles))
	_ = c.RegisterFlagCompletionFunc("variant", cobra.FixedCompletions(imagecatalog.Variants(), noFiles))
	for _, flag := range []string{"packages", "name"} {
		_ = c.RegisterFlagCompletionFunc(flag, cobra.NoFileCompletions)
	}
	return c
}
