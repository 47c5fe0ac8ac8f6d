package cli

import (
	"io"

	"github.com/spf13/cobra"

	"banger/ext4"
	"banger/internal/base/errs"
)

func (a *app) diskCatCommand() *cobra.Command {
	return &cobra.Command{
		Use: "cat DISK PATH…", Short: "Print files",
		Args: args(cobra.MinimumNArgs(1)), ValidArgsFunction: a.completeDisk,
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, paths, err := somePaths(cmd, args)
			if err != nil {
				return err
			}
			return readDisk(cmd, ref, func(im *ext4.Image) error {
				for _, p := range paths {
					if err := a.catFile(cmd, im, p); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
}

// somePaths is diskPaths for a command that needs a path.
func somePaths(cmd *cobra.Command, args []string) (diskRef, []string, error) {
	ref, paths, err := diskPaths(args)
	if err == nil && len(paths) == 0 {
		err = usage(cmd.CommandPath(), "a path on the disk %q is missing", ref)
	}
	return ref, paths, err
}

// catFile writes a regular file to the standard output.
func (a *app) catFile(cmd *cobra.Command, im *ext4.Image, p string) error {
	f, err := im.Open(fsPath(p))
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	switch {
	case info.IsDir():
		return errs.New(errs.Invalid, "%q is a directory", cleanPath(p)).WithHint("banger disk ls, or: banger disk export")
	case !info.Mode().IsRegular():
		return errs.New(errs.Invalid, "%q is a %s, and has no contents", cleanPath(p), typeWord(info.Mode()))
	}
	_, err = io.CopyBuffer(writerOnly{a.out}, contextReader{cmd.Context(), f}, make([]byte, 1<<20))
	return err
}

// writerOnly hides what else a writer can do, so that copies use the given buffer.
type writerOnly struct{ io.Writer }
