package cli

import (
	"fmt"
	"io/fs"
	"path"
	"strconv"

	"github.com/spf13/cobra"

	"banger/ext4"
)

func (a *app) diskLsCommand() *cobra.Command {
	var long, recursive, asJSON bool
	c := &cobra.Command{
		Use: "ls [flags] DISK [PATH…]", Short: "List directories",
		Long: `List what is in directories; without a path, in the root of the disk. Of other
files, the name is printed. With -R, and with several paths, names are whole paths.`,
		Args: args(cobra.MinimumNArgs(1)), ValidArgsFunction: a.completeDisk,
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, paths, err := diskPaths(args)
			if err != nil {
				return err
			}
			if len(paths) == 0 {
				paths = []string{"/"}
			}
			return readDisk(cmd, ref, func(im *ext4.Image) error {
				l := lister{app: a, cmd: cmd, im: im, whole: recursive || len(paths) > 1, recursive: recursive}
				switch {
				case asJSON:
					l.emit = l.keep
				case long:
					l.emit = l.long
				default:
					l.emit = l.short
				}
				for _, p := range paths {
					if err := l.list(cleanPath(p)); err != nil {
						return err
					}
				}
				if asJSON {
					return writeJSON(a.out, convert(l.files, func(f fileJSON) fileJSON { return f }))
				}
				return nil
			})
		},
	}
	f := c.Flags()
	f.BoolVarP(&long, "long", "l", false, "with mode, owner, group, size and time")
	f.BoolVarP(&recursive, "recursive", "R", false, "with all that is below, as whole paths")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// lister lists files by emit; names are whole paths, or the last part.
type lister struct {
	*app
	cmd              *cobra.Command
	im               *ext4.Image
	whole, recursive bool
	emit             func(name string, e fs.DirEntry) error
	files            []fileJSON
}

func (l *lister) list(p string) error {
	info, err := l.im.Stat(fsPath(p))
	if err != nil {
		// A link to nothing is there all the same.
		if info, err2 := l.im.Lstat(fsPath(p)); err2 == nil {
			return l.emit(p, fs.FileInfoToDirEntry(info))
		}
		return err
	}
	if !info.IsDir() {
		if info, err = l.im.Lstat(fsPath(p)); err != nil {
			return err
		}
		return l.emit(p, fs.FileInfoToDirEntry(info))
	}
	return l.below(p)
}

// below lists a directory. What could be read of a damaged one comes before the error.
func (l *lister) below(p string) error {
	if err := l.cmd.Context().Err(); err != nil {
		return err
	}
	list, damage := l.im.ReadDir(fsPath(p))
	for i, e := range list {
		list[i] = nil // what has been listed needs no memory
		full := path.Join(p, e.Name())
		if err := l.emit(full, e); err != nil {
			return err
		}
		if l.recursive && e.IsDir() {
			if err := l.below(full); err != nil {
				return err
			}
		}
	}
	return damage
}

func (l *lister) name(full string) string {
	if l.whole {
		return full
	}
	return path.Base(full)
}

func (l *lister) short(full string, _ fs.DirEntry) error { return writeName(l.out, l.name(full)) }

func (l *lister) keep(full string, e fs.DirEntry) error {
	info, err := e.Info()
	if err == nil {
		l.files = append(l.files, newFileJSON(full, info.Sys().(*ext4.Stat)))
	}
	return err
}

// long is a line as of ls -ln, with the mode in letters and in octal.
func (l *lister) long(full string, e fs.DirEntry) error {
	info, err := e.Info()
	if err != nil {
		return err
	}
	st := info.Sys().(*ext4.Stat)
	size := strconv.FormatInt(st.Size, 10)
	if info.Mode()&fs.ModeDevice != 0 {
		size = fmt.Sprintf("%d,%d", st.Major, st.Minor)
	}
	line := fmt.Sprintf("%s %s %3d %6d %6d %12s %s %s", info.Mode(), modeText(st), st.Links, st.UID, st.GID, size,
		st.Mtime.Local().Format("2006-01-02 15:04:05"), l.name(full))
	if info.Mode()&fs.ModeSymlink != 0 {
		line += " -> " + st.Target
	}
	return writeName(l.out, line)
}
