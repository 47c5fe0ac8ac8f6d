package ext4

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"banger/ext4/internal/dir"
	"banger/ext4/internal/disk"
)

const (
	// maxHops is how many symbolic links may be followed in one path, as in the
	// kernel (MAXSYMLINKS).
	maxHops = 40
	// maxPath bounds paths and targets of links in bytes (PATH_MAX less its NUL).
	maxPath = 4095
)

// errLoop and the like are what the kernel would say; errors.Is finds them.
var (
	errLoop     error = syscall.ELOOP
	errNotDir   error = syscall.ENOTDIR
	errIsDir    error = syscall.EISDIR
	errTooLong  error = syscall.ENAMETOOLONG
	errNotEmpty error = syscall.ENOTEMPTY
)

// resolve finds the inode that a path names, from the root of the image, whether
// the path begins with a slash or not. Links are followed inside the image, ".." of
// the root is the root: nothing leads out. A link that ends the path is
// followed only with follow; one with a slash behind it always.
func (v *volume) resolve(path string, follow bool) (uint32, error) {
	w := walker{v: v, at: disk.RootIno}
	if err := w.walk(path, follow); err != nil {
		return 0, err
	}
	return w.at, nil
}

// resolveParent finds the directory in which the last part of a path is, or would
// be, and that part. Links in the parents are followed, not the last part. The
// error is fs.ErrInvalid for the root, and for a path that ends in "..".
func (v *volume) resolveParent(path string) (parent uint32, base string, err error) {
	head, base := splitPath(path)
	if base == "" || base == ".." {
		return 0, "", fs.ErrInvalid
	}
	if len(base) > dir.MaxName {
		return 0, "", errTooLong
	}
	w := walker{v: v, at: disk.RootIno}
	if err := w.walk(head, true); err != nil {
		return 0, "", err
	}
	if i, _, err := v.inode(w.at); err != nil {
		return 0, "", err
	} else if !i.IsDir() {
		return 0, "", errNotDir
	}
	return w.at, base, nil
}

// splitPath cuts off the last part that is not ".". Slashes at the end do not count.
func splitPath(path string) (head, base string) {
	for {
		path = strings.TrimRight(path, "/")
		i := strings.LastIndexByte(path, '/')
		head, base = path[:i+1], path[i+1:]
		if base != "." {
			return head, base
		}
		path = head
	}
}

type walker struct {
	v    *volume
	at   uint32
	hops int
}

func (w *walker) walk(path string, follow bool) error {
	if len(path) > maxPath {
		return errTooLong
	}
	for path != "" {
		part, rest, slash := strings.Cut(path, "/")
		path = rest
		if part == "" {
			continue
		}
		i, _, err := w.v.inode(w.at)
		if err != nil {
			return err
		}
		if !i.IsDir() {
			return errNotDir
		}
		if part == "." {
			continue
		}
		from := w.at
		if w.at, err = w.v.lookup(from, &i, part); err != nil {
			return err
		}
		i, raw, err := w.v.inode(w.at)
		if err != nil {
			return err
		}
		if i.Mode&disk.ModeFmt == disk.ModeSymlink && (slash || follow) {
			if w.hops++; w.hops > maxHops {
				return errLoop
			}
			target, err := w.v.readLink(w.at, &i, raw)
			if err != nil {
				return err
			}
			if target == "" {
				return fs.ErrNotExist
			}
			w.at = from
			if target[0] == '/' {
				w.at = disk.RootIno
			}
			// The link's own last part is followed as the path goes on.
			if slash {
				target += "/"
			}
			if err := w.walk(target, follow || slash); err != nil {
				return err
			}
			continue
		}
		if slash && !i.IsDir() {
			return errNotDir
		}
	}
	return nil
}

// lookup finds a name in a directory; ".." of the root is the root. i is the inode
// of the directory.
func (v *volume) lookup(parent uint32, i *disk.Inode, name string) (uint32, error) {
	if parent == disk.RootIno && name == ".." {
		return disk.RootIno, nil
	}
	if len(name) > dir.MaxName {
		return 0, errTooLong
	}
	e, ok, err := v.find(parent, i, name)
	if err != nil {
		return 0, err
	}
	if !ok {
		return 0, fs.ErrNotExist
	}
	if e.Ino == 0 || e.Ino > v.sb.InodesCount {
		return 0, disk.Corrupt("the entry %q of directory %d names inode %d", name, parent, e.Ino)
	}
	return e.Ino, nil
}

// pathError wraps an error for a path, as package os does. Damage is told as such.
func pathError(op, path string, err error) error {
	if err == nil {
		return nil
	}
	var p *fs.PathError
	if errors.As(err, &p) {
		return err
	}
	if path == "" {
		path = "/"
	}
	return &fs.PathError{Op: op, Path: path, Err: public(err)}
}

func wrapf(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format+": %w", append(args, err)...)
}
