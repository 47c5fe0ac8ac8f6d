package cli

import (
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"banger/ext4"
	"banger/internal/base/errs"
	"banger/internal/cli/term"
)

// copyFlags are the flags of cp.
type copyFlags struct {
	recursive bool
	uid, gid  idFlag
	mode      modeFlag
	edit      editFlags
}

func (c *copyFlags) register(f *pflag.FlagSet) {
	f.BoolVarP(&c.recursive, "recursive", "r", false, "copy directories, with all that is in them; links as links")
	f.Var(&c.uid, "uid", "owner of what is copied")
	f.Var(&c.gid, "gid", "group of what is copied")
	f.Var(&c.mode, "mode", "permissions, of one file")
	c.edit.register(f)
}

func (a *app) diskCpCommand() *cobra.Command {
	var flags copyFlags
	c := &cobra.Command{
		Use: "cp [flags] SRC DISK:PATH | DISK:PATH DST", Short: "Copy files onto a disk, or off it",
		Long: `Copy a file, or with -r a directory, between the host and a disk. "-" is the standard
input or output. What exists as a directory is copied into, under the name of the
source; a source that ends in "/." puts its contents there.

Permissions, times, links, extended attributes and holes are kept. Onto a disk, root
keeps the owners too, and for others everything belongs to 0:0 unless --uid and --gid
say otherwise. Off it, only root can keep owners, set-user-ID bits and devices.
Directories that exist keep what they have.

What is on a disk is not trusted: no file is written outside the destination, and a
link that stands in a file's place is replaced, not followed.`,
		Example: `  banger disk cp id_ed25519.pub dev:work:/.ssh/authorized_keys --mode 600
  echo hello | banger disk cp - root.img:/etc/motd
  banger disk cp -r dev:work:/results .
  banger disk cp dev:system:/upper/var/log/dpkg.log -`,
		Args: args(cobra.ExactArgs(2)), ValidArgsFunction: a.completeFileOrDisk,
		RunE: func(cmd *cobra.Command, args []string) error {
			src, srcDisk, err := copySide(args[0])
			if err != nil {
				return err
			}
			dst, dstDisk, err := copySide(args[1])
			switch {
			case err != nil:
				return err
			case srcDisk == nil && dstDisk == nil:
				return usage(cmd.CommandPath(), "neither %q nor %q is a path on a disk, as in IMAGE:/path or VM:work:/path", args[0], args[1])
			case srcDisk != nil && dstDisk != nil:
				return errs.New(errs.Invalid, "cannot copy from disk to disk").
					WithHint("%s %s - | %s - %s", cmd.CommandPath(), shellWord(args[0]), cmd.CommandPath(), shellWord(args[1]))
			case srcDisk == nil:
				return a.copyOnto(cmd, src, *dstDisk, dst, &flags)
			}
			return a.copyOff(cmd, *srcDisk, src, dst, &flags)
		},
	}
	flags.register(c.Flags())
	return c
}

// copySide reads one side of a copy: a path on a disk, or a path on the host. A file
// of the host that exists is that.
func copySide(arg string) (p string, disk *diskRef, err error) {
	if _, err := os.Lstat(arg); err == nil || arg == "-" {
		return arg, nil, nil
	}
	if arg == "" {
		return "", nil, errs.New(errs.Invalid, "a path is empty").WithHint("write . for the current directory")
	}
	ref, inside, joined, ok := splitDisk(arg)
	switch {
	case !ok:
		return arg, nil, nil
	case !joined:
		return "", nil, errs.New(errs.Invalid, "%q is a disk, and the path on it is missing", arg).WithHint("write %s:/ for its root", arg)
	case strings.IndexByte(inside, 0) >= 0:
		return "", nil, errs.New(errs.Invalid, "a path has a NUL byte")
	}
	return inside, &ref, nil
}

// copyOnto copies a file or tree of the host, or the standard input, onto a disk.
func (a *app) copyOnto(cmd *cobra.Command, src string, ref diskRef, dst string, flags *copyFlags) error {
	if src == "-" && term.IsTerminal(a.in) {
		say(a.err, "reading from the terminal; end with Ctrl-D")
	}
	return editDisk(cmd, ref, &flags.edit, func(tx *ext4.Tx) error {
		c := newCopyIn(a, cmd.Context(), tx, ref, flags)
		target := cleanPath(dst)
		info, err := tx.Stat(target)
		isDir := err == nil && info.IsDir()
		switch {
		case src == "-" && isDir:
			return errs.New(errs.Invalid, "%q is a directory on the disk, and the standard input has no name", target).WithHint("name a file: %s:%s/NAME", ref, strings.TrimSuffix(target, "/"))
		case src == "-":
			return c.stream(target)
		case isDir:
			target = cleanPath(target + "/" + lastPart(src))
		case strings.HasSuffix(dst, "/"):
			return errs.New(errs.NotFound, "there is no directory %q on the disk %q", target, ref).
				WithHint("banger disk mkdir --parents %s %s", shellWord(ref.String()), shellWord(target))
		}
		return c.top(src, target)
	})
}

// copyOff copies a file or tree of a disk to the host, or to the standard output.
func (a *app) copyOff(cmd *cobra.Command, ref diskRef, src, dst string, flags *copyFlags) error {
	return readDisk(cmd, ref, func(im *ext4.Image) error {
		if dst == "-" {
			return a.catFile(cmd, im, src)
		}
		p := fsPath(src)
		stat := im.Stat
		if flags.recursive {
			stat = im.Lstat
		}
		info, err := stat(p)
		if err != nil {
			return err
		}
		if err := flags.check(cleanPath(src), info); err != nil {
			return err
		}
		c := newCopyOut(a, cmd.Context(), im, flags)
		return c.top(p, lastPart(src), dst, info)
	})
}

// check refuses what the flags do not allow.
func (c *copyFlags) check(name string, info fs.FileInfo) error {
	switch {
	case info.IsDir() && !c.recursive:
		return errs.New(errs.Invalid, "%q is a directory", name).WithHint("add -r")
	case info.IsDir() && c.mode.set:
		return errs.New(errs.Invalid, "--mode is for one file, and %q is a directory", name).WithHint("copy it without --mode, then: banger disk chmod")
	}
	return nil
}

// lastPart is the name under which a source goes into a directory: "." for one that
// ends in "/.", and for a root, whose contents are meant.
func lastPart(p string) string {
	p = strings.TrimRight(p, "/")
	p = p[strings.LastIndexByte(p, '/')+1:]
	if p == "" || p == ".." {
		return "."
	}
	return p
}
