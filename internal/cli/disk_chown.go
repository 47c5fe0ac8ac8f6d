package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"banger/ext4"
)

func (a *app) diskChownCommand() *cobra.Command {
	var uid, gid idFlag
	var edit editFlags
	c := &cobra.Command{
		Use: "chown [flags] DISK PATH… UID[:GID]", Short: "Set owner and group",
		Long: `Set owner and group, as numbers: UID, UID:GID or :GID behind the paths, or by the flags.
What is not given stays. Of a link, its own owner is set. The mode stays, with
set-user-ID and set-group-ID bits.`,
		Example: `  banger disk chown dev:work /src 1000:1000
  banger disk chown --uid 0 --gid 0 root.img etc/passwd etc/group`,
		Args: args(cobra.MinimumNArgs(1)), ValidArgsFunction: a.completeDisk,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !uid.set && !gid.set {
				if len(args) < 2 {
					return usage(cmd.CommandPath(), "the owner is missing")
				}
				if err := parseOwner(args[len(args)-1], &uid, &gid); err != nil {
					return err
				}
				args = args[:len(args)-1]
			}
			ref, paths, err := somePaths(cmd, args)
			if err != nil {
				return err
			}
			return editDisk(cmd, ref, &edit, func(tx *ext4.Tx) error {
				for _, p := range paths {
					info, err := tx.Lstat(cleanPath(p))
					if err != nil {
						return err
					}
					st := info.Sys().(*ext4.Stat)
					if err := tx.SetOwner(cleanPath(p), uid.or(st.UID), gid.or(st.GID)); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	f := c.Flags()
	f.Var(&uid, "uid", "owner")
	f.Var(&gid, "gid", "group")
	edit.register(f)
	return c
}

// parseOwner reads UID, UID:GID or :GID.
func parseOwner(s string, uid, gid *idFlag) error {
	owner, group, both := strings.Cut(s, ":")
	if owner != "" || !both {
		if err := uid.Set(owner); err != nil {
			return err
		}
	}
	if !both {
		return nil
	}
	return gid.Set(group)
}
