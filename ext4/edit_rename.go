package ext4

import (
	"io/fs"

	"banger/ext4/internal/disk"
)

// Rename gives a file or directory another name, as rename(2) does: what has that
// name already is replaced, if it is no directory, or if both are directories and it
// is empty. Links at the end of either path are not followed. Two names of one file are
// left as they are.
func (t *Tx) Rename(old, path string) error {
	return t.do("rename", path, func() error {
		from, err := t.find(old, false)
		if err != nil {
			return err
		}
		if from.ino == 0 {
			return fs.ErrNotExist
		}
		to, err := t.find(path, false)
		if err != nil {
			return err
		}
		if from.base == "" || to.base == "" || from.ino == disk.RootIno {
			return errBusy
		}
		if from.ino == to.ino {
			return nil
		}
		return t.rename(from, to)
	})
}

func (t *Tx) rename(from, to place) error {
	n, err := t.load(from.ino)
	if err != nil {
		return err
	}
	if n.IsDir() {
		if err := t.notBelow(n.ino, to.parent); err != nil {
			return err
		}
	}
	old, err := t.openDir(from.parent)
	if err != nil {
		return err
	}
	d := old
	if to.parent != from.parent {
		if d, err = t.openDir(to.parent); err != nil {
			return err
		}
	}
	var replaced *editNode
	if to.ino != 0 {
		if replaced, err = t.replaceable(n, to.ino); err != nil {
			return err
		}
		if err := d.set(to.base, n); err != nil {
			return err
		}
		if replaced.IsDir() {
			d.n.dropSubdir()
		}
	} else if err := d.insert(to.base, n); err != nil {
		return err
	}
	if err := old.remove(from.base, n.ino); err != nil {
		return err
	}
	if n.IsDir() && d != old {
		old.n.dropSubdir()
		if err := t.addSubdir(d.n); err != nil {
			return err
		}
	}
	if err := old.close(); err != nil {
		return err
	}
	if d != old {
		if err := d.close(); err != nil {
			return err
		}
	}
	if err := t.moved(n, d); err != nil {
		return err
	}
	if replaced == nil {
		return nil
	}
	if replaced.IsDir() {
		return t.destroy(replaced)
	}
	return t.drop(replaced)
}

// moved stores the inode that was renamed; a directory's ".." is now d.
func (t *Tx) moved(n *editNode, d *editDir) error {
	if !n.IsDir() {
		n.Ctime = t.now()
		return t.put(n)
	}
	c, err := t.openDir(n.ino)
	if err != nil {
		return err
	}
	e, ok, err := c.lookup("..")
	if err != nil || !ok {
		return disk.Corrupt("directory %d has no \"..\": %v", n.ino, err)
	}
	if e.Ino != d.n.ino {
		mtime := c.n.Mtime // its own entries are the same
		if err := c.set("..", d.n); err != nil {
			return err
		}
		c.n.Mtime = mtime
	}
	c.n.Ctime = t.now()
	return c.close()
}

// replaceable loads what n is to replace.
func (t *Tx) replaceable(n *editNode, ino uint32) (*editNode, error) {
	r, err := t.load(ino)
	switch {
	case err != nil:
		return nil, err
	case r.ino == disk.RootIno || t.locked[r.ino]:
		return nil, errBusy
	case r.IsDir() && !n.IsDir():
		return nil, errIsDir
	case !r.IsDir() && n.IsDir():
		return nil, errNotDir
	case r.IsDir():
		return r, t.emptyDir(r)
	}
	return r, nil
}

// notBelow refuses to move a directory into one that is below it, or is it.
func (t *Tx) notBelow(ino, at uint32) error {
	seen := map[uint32]bool{}
	for at != disk.RootIno {
		if at == ino {
			return fs.ErrInvalid
		}
		if seen[at] {
			return disk.Corrupt("directory %d is below itself", at)
		}
		seen[at] = true
		i, _, err := t.v.live(at)
		if err != nil {
			return err
		}
		if at, err = t.v.lookup(at, &i, ".."); err != nil {
			return err
		}
	}
	return nil
}
