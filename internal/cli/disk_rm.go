package cli

import (
	"errors"
	"io/fs"

	"github.com/spf13/cobra"

	"banger/ext4"
	"banger/internal/base/errs"
)

func (a *app) diskRmCommand() *cobra.Command {
	var recursive, force bool
	var edit editFlags
	c := &cobra.Command{
		Use: "rm [flags] DISK PATH…", Short: "Remove files and directories",
		Args: args(cobra.MinimumNArgs(1)), ValidArgsFunction: a.completeDisk,
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, paths, err := somePaths(cmd, args)
			if err != nil {
				return err
			}
			return editDisk(cmd, ref, &edit, func(tx *ext4.Tx) error {
				for _, p := range paths {
					if err := removeFrom(tx, cleanPath(p), recursive, force); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	f := c.Flags()
	f.BoolVarP(&recursive, "recursive", "r", false, "remove directories with all that is in them")
	f.BoolVarP(&force, "force", "f", false, "what does not exist is no error")
	edit.register(f)
	return c
}

func removeFrom(tx *ext4.Tx, p string, recursive, force bool) error {
	info, err := tx.Lstat(p)
	switch {
	case force && errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case p == "/":
		return errs.New(errs.Invalid, "the root of a disk cannot be removed").WithHint("name what is in it")
	case !info.IsDir():
		return tx.Remove(p)
	case !recursive:
		return errs.New(errs.Invalid, "%q is a directory", p).WithHint("add -r")
	}
	return tx.RemoveAll(p)
}
