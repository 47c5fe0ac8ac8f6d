package ext4

import (
	"io/fs"
	"syscall"

	"banger/ext4/internal/disk"
)

// More of what the kernel would say.
var (
	errBusy         error = syscall.EBUSY
	errTooManyLinks error = syscall.EMLINK
	errPerm         error = syscall.EPERM
	errNotFile      error = syscall.EINVAL // the contents of a device, FIFO or socket
)

// place is what a path leads to: the entry base in the directory parent, with the
// inode ino, or 0 where it does not exist. For the root, and for paths that
// end in "..", base is empty.
type place struct {
	parent uint32
	base   string
	ino    uint32
}

// find finds the place of a path, or with follow that which a link at its end leads to.
func (t *Tx) find(path string, follow bool) (place, error) {
	v := t.v
	w := walker{v: v, at: disk.RootIno}
	for {
		head, base := splitPath(path)
		if base == "" || base == ".." {
			if err := w.walk(path, true); err != nil {
				return place{}, err
			}
			return place{ino: w.at}, nil
		}
		if err := w.walk(head, true); err != nil {
			return place{}, err
		}
		i, _, err := v.live(w.at)
		if err != nil {
			return place{}, err
		}
		if !i.IsDir() {
			return place{}, errNotDir
		}
		p := place{parent: w.at, base: base}
		e, err := v.lookup(w.at, &i, base)
		if err == fs.ErrNotExist {
			return p, nil
		}
		if err != nil {
			return place{}, err
		}
		c, raw, err := v.live(e)
		if err != nil {
			return place{}, err
		}
		p.ino = e
		if !follow || !c.IsSymlink() {
			return p, nil
		}
		if w.hops++; w.hops > maxHops {
			return place{}, errLoop
		}
		if path, err = v.readLink(e, &c, raw); err != nil {
			return place{}, err
		}
		if path[0] == '/' {
			w.at = disk.RootIno
		}
	}
}

// existing is find and load; what is not there is fs.ErrNotExist.
func (t *Tx) existing(path string, follow bool) (*editNode, error) {
	p, err := t.find(path, follow)
	if err != nil {
		return nil, err
	}
	if p.ino == 0 {
		return nil, fs.ErrNotExist
	}
	return t.load(p.ino)
}

// freeName is find for a new name: one that is there is fs.ErrExist. It opens
// the directory.
func (t *Tx) freeName(path string) (*editDir, string, error) {
	p, err := t.find(path, false)
	if err != nil {
		return nil, "", err
	}
	if p.ino != 0 {
		return nil, "", fs.ErrExist
	}
	d, err := t.openDir(p.parent)
	return d, p.base, err
}
