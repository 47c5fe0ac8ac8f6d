package cli

import (
	"errors"
	"io/fs"

	"github.com/spf13/cobra"

	"banger/ext4"
	"banger/internal/base/errs"
)

func (a *app) diskMkdirCommand() *cobra.Command {
	var parents bool
	var uid, gid idFlag
	var mode modeFlag
	var edit editFlags
	c := &cobra.Command{
		Use: "mkdir [flags] DISK PATH…", Short: "Make directories",
		Long: `Make directories, owned by 0:0 and of mode 0755 unless the flags say otherwise. One
that exists gets the owner and mode that are given, and keeps the rest. With
--parents, directories above it that are missing are made in the same way.`,
		Args: args(cobra.MinimumNArgs(1)), ValidArgsFunction: a.completeDisk,
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, paths, err := somePaths(cmd, args)
			if err != nil {
				return err
			}
			return editDisk(cmd, ref, &edit, func(tx *ext4.Tx) error {
				for _, p := range paths {
					p = cleanPath(p)
					attr := ext4.Attr{Mode: mode.or(0o755), UID: uid.or(0), GID: gid.or(0)}
					mkdir := tx.Mkdir
					if parents {
						mkdir = tx.MkdirAll
					}
					if info, err := tx.Stat(p); err == nil && info.IsDir() {
						attr = keepAttr(info, uid, gid, mode)
						mkdir = tx.Mkdir
					}
					if err := mkdir(p, attr); err != nil {
						return withParents(ref, p, parents, err)
					}
				}
				return nil
			})
		},
	}
	f := c.Flags()
	f.BoolVarP(&parents, "parents", "p", false, "also make the directories above that are missing")
	f.Var(&uid, "uid", "owner")
	f.Var(&gid, "gid", "group")
	f.Var(&mode, "mode", "permissions")
	edit.register(f)
	return c
}

// keepAttr is what a file has, but for the flags that were given.
func keepAttr(info fs.FileInfo, uid, gid idFlag, mode modeFlag) ext4.Attr {
	st := info.Sys().(*ext4.Stat)
	return ext4.Attr{Mode: mode.or(fs.FileMode(st.Mode & 0o7777)), UID: uid.or(st.UID), GID: gid.or(st.GID)}
}

// withParents gives the error of a directory that is not there the flag that makes it.
func withParents(ref diskRef, p string, parents bool, err error) error {
	if !parents && errors.Is(err, fs.ErrNotExist) {
		return errs.New(errs.NotFound, "disk %q: %w", ref, err).WithHint("banger disk mkdir --parents %s %s", shellWord(ref.String()), shellWord(p))
	}
	return err
}
