package cli

import (
	"github.com/spf13/cobra"
)

const diskHelp = `Read and change ext4 file systems in image files and on the disks of stopped VMs.
Nothing is mounted, no privilege is needed, and an image file needs no daemon.

DISK names a file system:
  FILE       an image file or a block device that exists
  VM:work    the disk at /root of a VM that is stopped
  VM:system  what the VM has changed in its root file system
  VM:base    the image below it; it can only be read

A path follows as an argument of its own, or behind a colon; "cp" wants the colon:
  banger disk ls dev:work /src      banger disk ls dev:work:/src
  banger disk cat root.img etc/passwd
  banger disk cp notes.txt dev:work:/notes.txt
Paths begin at the root of the file system, with or without a slash. Links are
followed inside it; neither they nor ".." lead out.

What an argument means is decided in this order: a file that exists; a file that
exists up to one of the colons, from the left; VM:work, VM:system or VM:base. Where
a file on the host could be taken for a disk, write it with a slash: ./dev:work:x.

All changes of one command are one transaction: after a kill or a power failure
all of them are there, or none. A journal that a killed VM left is replayed first.
Owners are numbers: the names in the guest's /etc/passwd are not the host's.`

func (a *app) diskCommand() *cobra.Command {
	c := group("disk", "Read and change disks and images", diskHelp)
	c.AddCommand(
		a.diskLsCommand(), a.diskCatCommand(), a.diskCpCommand(), a.diskMkdirCommand(), a.diskRmCommand(),
		a.diskChownCommand(), a.diskChmodCommand(), a.diskStatCommand(), a.diskCheckCommand(), a.diskGrowCommand(), a.diskExportCommand(),
	)
	return c
}
