package ext4

import (
	"errors"
	"io/fs"
	"strings"

	"banger/ext4/internal/dir"
	"banger/ext4/internal/disk"
)

// Mkdir makes a directory. One that exists, also at the end of a link, gets owner and
// mode of a, and its times if a has any; what it contains stays. Unlike
// mkdir(2), a new one inherits neither the group of a set-group-ID directory nor default ACLs:
// it is as a says.
func (t *Tx) Mkdir(path string, a Attr) error {
	return t.do("mkdir", path, func() error { return t.mkdir(path, &a) })
}

// MkdirAll is Mkdir that also makes the directories above that are missing; they
// get the same attributes.
func (t *Tx) MkdirAll(path string, a Attr) error {
	return t.do("mkdir", path, func() error {
		for i := 0; ; {
			next := strings.IndexByte(path[i:], '/')
			if next < 0 {
				return t.mkdir(path, &a)
			}
			i += next + 1
			head := path[:i]
			if _, base := splitPath(head); base == "" || base == ".." {
				continue
			}
			p, err := t.find(head, true)
			if err != nil {
				return err
			}
			if p.ino == 0 {
				err = t.mkdir(head, &a)
			} else if n, lerr := t.load(p.ino); lerr != nil {
				err = lerr
			} else if !n.IsDir() {
				err = errNotDir
			}
			if err != nil {
				return err
			}
		}
	})
}

func (t *Tx) mkdir(path string, a *Attr) error {
	p, err := t.find(path, true)
	if err != nil {
		return err
	}
	if p.ino == 0 {
		// A link that leads nowhere is in the way.
		if at, err := t.find(path, false); err != nil || at.ino != 0 {
			return errors.Join(err, fs.ErrExist)
		}
		return t.mkdirAt(p, a)
	}
	n, err := t.load(p.ino)
	if err != nil {
		return err
	}
	if !n.IsDir() {
		return fs.ErrExist
	}
	if !a.Keep {
		if err := t.setOwner(n, a); err != nil {
			return err
		}
	}
	n.setTimes(a)
	n.Ctime = t.now()
	return t.put(n)
}

func (t *Tx) mkdirAt(p place, a *Attr) error {
	d, err := t.openDir(p.parent)
	if err != nil {
		return err
	}
	if err := t.addSubdir(d.n); err != nil {
		return err
	}
	n, err := t.newNode(d.n, disk.ModeDir, a)
	if err != nil {
		return err
	}
	c, err := t.makeDir(n, d.n.ino)
	if err != nil {
		return err
	}
	if err := errors.Join(c.close(), d.insert(p.base, n)); err != nil {
		return err
	}
	return d.close()
}

// Symlink makes a symbolic link at path to target, which is not looked at. The
// target has 1 to 4095 bytes, and fewer than a block has, without NUL. Of a, the mode is
// ignored: a link's is 0777.
func (t *Tx) Symlink(target, path string, a Attr) error {
	return t.do("symlink", path, func() error {
		switch {
		case target == "":
			return fs.ErrNotExist
		case len(target) > maxPath || len(target) >= t.v.bs:
			return errTooLong
		case strings.IndexByte(target, 0) >= 0:
			return fs.ErrInvalid
		}
		a.Mode = 0o777
		d, base, err := t.freeName(path)
		if err != nil {
			return err
		}
		n, err := t.newNode(d.n, disk.ModeSymlink, &a)
		if err != nil {
			return err
		}
		n.Size = uint64(len(target))
		if len(target) < len(n.Block) {
			n.Flags &^= disk.InodeExtents
			clear(n.Block[:])
			copy(n.Block[:], target)
		} else {
			c := t.newContents(n.ino)
			if err := c.write([]byte(target), 0, 1); err != nil {
				return err
			}
			if err := c.install(n); err != nil {
				return err
			}
		}
		return t.enter(d, base, n)
	})
}

// Mknod makes a device (mode has fs.ModeDevice, and fs.ModeCharDevice for a
// character device), a FIFO (fs.ModeNamedPipe) or a socket (fs.ModeSocket); the
// permissions are in a. Device numbers have 12 bits (major) and 20 (minor).
func (t *Tx) Mknod(path string, mode fs.FileMode, major, minor uint32, a Attr) error {
	return t.do("mknod", path, func() error {
		var kind uint16
		switch mode.Type() {
		case fs.ModeDevice:
			kind = disk.ModeBlock
		case fs.ModeDevice | fs.ModeCharDevice, fs.ModeCharDevice:
			kind = disk.ModeChar
		case fs.ModeNamedPipe:
			kind = disk.ModeFIFO
		case fs.ModeSocket:
			kind = disk.ModeSocket
		default:
			return fs.ErrInvalid
		}
		device := kind == disk.ModeBlock || kind == disk.ModeChar
		if device && (major >= 1<<12 || minor >= 1<<20) || !device && (major != 0 || minor != 0) {
			return fs.ErrInvalid
		}
		d, base, err := t.freeName(path)
		if err != nil {
			return err
		}
		n, err := t.newNode(d.n, kind, &a)
		if err != nil {
			return err
		}
		if device {
			n.SetDevice(major, minor)
		}
		return t.enter(d, base, n)
	})
}

// enter stores a new inode and its name.
func (t *Tx) enter(d *editDir, base string, n *editNode) error {
	if err := t.put(n); err != nil {
		return err
	}
	if err := d.insert(base, n); err != nil {
		return err
	}
	return d.close()
}

// Link gives the file old another name. A link at the end of old is not followed;
// directories cannot have two names (EPERM).
func (t *Tx) Link(old, path string) error {
	return t.do("link", path, func() error {
		n, err := t.existing(old, false)
		if err != nil {
			return err
		}
		if n.IsDir() {
			return errPerm
		}
		if n.Links >= disk.MaxLinks {
			return errTooManyLinks
		}
		d, base, err := t.freeName(path)
		if err != nil {
			return err
		}
		n.Links++
		n.Ctime = t.now()
		return t.enter(d, base, n)
	})
}

// Remove removes a name, and the file with its last. A directory must be empty.
// Links are not followed.
func (t *Tx) Remove(path string) error {
	return t.do("remove", path, func() error {
		p, err := t.find(path, false)
		if err != nil {
			return err
		}
		return t.unlink(p, false)
	})
}

// RemoveAll removes a name and all that is below it. That it is not there is no
// error.
func (t *Tx) RemoveAll(path string) error {
	return t.do("removeall", path, func() error {
		p, err := t.find(path, false)
		if errors.Is(err, fs.ErrNotExist) || err == nil && p.ino == 0 {
			return nil
		}
		if err != nil {
			return err
		}
		return t.unlink(p, true)
	})
}

func (t *Tx) unlink(p place, all bool) error {
	if p.ino == 0 {
		return fs.ErrNotExist
	}
	if p.base == "" || p.ino == disk.RootIno {
		return errBusy
	}
	n, err := t.load(p.ino)
	if err != nil {
		return err
	}
	if n.IsDir() && !all {
		if err := t.emptyDir(n); err != nil {
			return err
		}
	}
	d, err := t.openDir(p.parent)
	if err != nil {
		return err
	}
	if err := d.remove(p.base, p.ino); err != nil {
		return err
	}
	if n.IsDir() {
		d.n.dropSubdir()
	}
	if err := d.close(); err != nil {
		return err
	}
	if n.IsDir() {
		return t.destroyTree(n)
	}
	return t.drop(n)
}

// destroyTree frees a directory that has no name any more, and all below it.
func (t *Tx) destroyTree(top *editNode) error {
	rest, seen := []uint32{top.ino}, map[uint32]bool{top.ino: true}
	for len(rest) > 0 {
		n, err := t.load(rest[len(rest)-1])
		if err != nil {
			return err
		}
		rest = rest[:len(rest)-1]
		var names []dir.Entry
		err = t.v.walkDir(n.ino, &n.Inode, func(e dir.Entry) error {
			if e.Name != "." && e.Name != ".." {
				names = append(names, dir.Entry{Ino: e.Ino})
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, e := range names {
			c, err := t.load(e.Ino)
			switch {
			case err != nil:
				return err
			case !c.IsDir():
				if err := t.drop(c); err != nil {
					return err
				}
			case seen[c.ino] || c.ino == disk.RootIno:
				return disk.Corrupt("directory %d has two names", c.ino)
			default:
				seen[c.ino] = true
				rest = append(rest, c.ino)
			}
		}
		if err := t.destroy(n); err != nil {
			return err
		}
	}
	return nil
}
