package cli

import (
	"bufio"

	"github.com/spf13/cobra"

	"banger/ext4"
	"banger/internal/base/errs"
	"banger/internal/cli/term"
)

func (a *app) diskExportCommand() *cobra.Command {
	return &cobra.Command{
		Use: "export DISK [PATH] > TAR", Short: "Write a directory as a tar",
		Long: `Write a directory, the whole disk without a path, as a tar to the standard output:
with owners, modes, times, links, devices, extended attributes, ACLs and holes. The
same contents give the same tar. Sockets, which tar does not know, are left out.`,
		Example: "  banger disk export dev:work /src | zstd > src.tar.zst\n  banger disk export root.img | banger image import - --name mine",
		Args:    args(cobra.RangeArgs(1, 2)), ValidArgsFunction: a.completeDisk,
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, paths, err := diskPaths(args)
			if err != nil {
				return err
			}
			if len(paths) > 1 {
				return usage(cmd.CommandPath(), "one directory becomes a tar, not %d", len(paths))
			}
			if term.IsTerminal(a.out) {
				return errs.New(errs.Invalid, "cannot write a tar to a terminal").WithHint("%s > FILE.tar", cmd.CommandPath()+" "+shellWord(args[0]))
			}
			root := "."
			if len(paths) == 1 {
				root = fsPath(paths[0])
			}
			return readDisk(cmd, ref, func(im *ext4.Image) error {
				w := bufio.NewWriterSize(contextWriter{cmd.Context(), a.out}, 1<<20)
				if err := im.ExportTree(w, ext4.ExportOptions{Root: root}); err != nil {
					return err
				}
				return w.Flush()
			})
		},
	}
}
