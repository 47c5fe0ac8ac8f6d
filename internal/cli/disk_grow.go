package cli

import (
	"github.com/spf13/cobra"

	"banger/ext4"
	"banger/internal/base/errs"
	"banger/internal/vm"
)

func (a *app) diskGrowCommand() *cobra.Command {
	var edit editFlags
	c := &cobra.Command{
		Use: "grow [flags] DISK SIZE", Short: "Make a file system and its image larger",
		Long: `Make a file system, and the file that it is in, larger: SIZE is that of the whole, such as
20GiB. What is added takes no space on the host until it is used.`,
		Args: args(cobra.ExactArgs(2)), ValidArgsFunction: a.completeDisk,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			size, err := vm.ParseSize(args[1])
			if err != nil {
				return err
			}
			ref, err := oneDisk(args[0])
			if err != nil {
				return err
			}
			return growDisk(cmd, ref, size, edit.options())
		},
	}
	edit.register(c.Flags())
	return c
}

// growDisk makes a disk larger, to a size of the whole.
func growDisk(cmd *cobra.Command, ref diskRef, size vm.Size, o *ext4.EditOptions) (err error) {
	if size > ext4.MaxSize {
		return errs.New(errs.Invalid, "a disk cannot have %s", size).WithHint("give a size up to %s", vm.Size(ext4.MaxSize))
	}
	d, err := openDisk(cmd, ref, true)
	if err != nil {
		return diskError(ref, err)
	}
	ref.opened = d.path
	defer func() {
		if closeErr := d.Close(); err == nil {
			err = closeErr
		}
	}()
	return diskError(ref, ext4.Grow(d.File, int64(size), o))
}
