package cli

import (
	"github.com/spf13/cobra"

	"banger/ext4"
)

func (a *app) diskChmodCommand() *cobra.Command {
	var edit editFlags
	c := &cobra.Command{
		Use: "chmod [flags] DISK PATH… MODE", Short: "Set permissions",
		Long:    `Set permissions, in octal and as a whole: 644, 0755, 4755. Links are followed.`,
		Example: "  banger disk chmod dev:work / 0700\n  banger disk chmod root.img:/usr/bin/sudo 4755",
		Args:    args(cobra.MinimumNArgs(2)), ValidArgsFunction: a.completeDisk,
		RunE: func(cmd *cobra.Command, args []string) error {
			mode, err := parseMode(args[len(args)-1])
			if err != nil {
				return err
			}
			ref, paths, err := somePaths(cmd, args[:len(args)-1])
			if err != nil {
				return err
			}
			return editDisk(cmd, ref, &edit, func(tx *ext4.Tx) error {
				for _, p := range paths {
					if err := tx.Chmod(cleanPath(p), mode); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	edit.register(c.Flags())
	return c
}
