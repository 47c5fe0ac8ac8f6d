package ext4

import (
	"fmt"

	"banger/ext4/internal/dir"
	"banger/ext4/internal/disk"
)

// editDir is a directory in an operation: a dir.Blocks whose writes go to the
// transaction. What changes it ends with close.
type editDir struct {
	t     *Tx
	n     *editNode
	p     *dir.Params
	m     *fileMap
	count uint32 // of blocks
	grown bool
}

// openDir opens a directory to change. An inline one moves to a block first.
func (t *Tx) openDir(ino uint32) (*editDir, error) {
	n, err := t.load(ino)
	if err != nil {
		return nil, err
	}
	switch {
	case !n.IsDir():
		return nil, errNotDir
	case n.Flags&(disk.InodeEncrypted|disk.InodeCasefold) != 0:
		return nil, &FeatureError{Op: "edit", Features: []string{"encrypt or casefold"}}
	}
	if n.Flags&disk.InodeInlineData != 0 {
		return t.unpackDir(n)
	}
	b, err := t.v.dirBlocks(ino, &n.Inode)
	if err != nil {
		return nil, err
	}
	d := &editDir{t: t, n: n, p: t.v.dirParams(ino, &n.Inode), m: b.m, count: b.n}
	if k := len(b.m.extents); k > 0 && b.m.extents[k-1].End() > uint64(b.n) {
		return nil, disk.Corrupt("directory %d has blocks behind its end", ino)
	}
	return d, nil
}

// makeDir gives a new directory its first block.
func (t *Tx) makeDir(n *editNode, parent uint32) (*editDir, error) {
	d := &editDir{t: t, n: n, p: t.v.dirParams(n.ino, &n.Inode), m: new(fileMap)}
	if _, err := d.Append(d.p.Init(n.ino, parent)); err != nil {
		return nil, err
	}
	return d, nil
}

// close stores the directory's inode, and its map if that has changed.
func (d *editDir) close() error {
	if d.grown {
		d.grown = false
		d.n.Size = uint64(d.count) * uint64(d.t.v.bs)
		if err := d.t.setMap(d.n, d.m.extents, d.m.nodes); err != nil {
			return err
		}
		if d.n.Size > 1<<31-1 {
			d.t.v.sb.FeatureROCompat |= disk.ROCompatLargeFile
		}
	}
	return d.t.put(d.n)
}

func (d *editDir) Len() uint32 { return d.count }

func (d *editDir) Read(i uint32) ([]byte, error) {
	e, ok := d.m.find(i)
	if !ok || e.Unwritten {
		return nil, nil
	}
	return d.t.v.block(e.Physical + uint64(i-e.Logical))
}

func (d *editDir) Write(i uint32, b []byte) error {
	e, ok := d.m.find(i)
	if !ok || e.Unwritten {
		return disk.Corrupt("directory %d has no block %d", d.n.ino, i)
	}
	d.t.setBlock(e.Physical+uint64(i-e.Logical), b)
	return nil
}

func (d *editDir) Append(b []byte) (uint32, error) {
	goal, extents := d.t.goalOf(d.n.ino), d.m.extents
	last := len(extents) - 1
	if last >= 0 {
		goal = extents[last].Physical + uint64(extents[last].Len)
	}
	at, err := d.t.allocOne(goal)
	if err != nil {
		return 0, err
	}
	d.t.setBlock(at, b)
	if last >= 0 && extents[last].End() == uint64(d.count) && at == goal && !extents[last].Unwritten {
		extents[last].Len++
	} else {
		d.m.extents = append(extents, disk.Extent{Logical: d.count, Len: 1, Physical: at})
	}
	d.grown = true
	d.count++
	return d.count - 1, nil
}

// lookup finds a name.
func (d *editDir) lookup(name string) (dir.Entry, bool, error) {
	return d.p.Lookup(d, d.t.v.indexed(&d.n.Inode), name)
}

// insert adds a name. close is still to be done.
func (d *editDir) insert(name string, n *editNode) error {
	indexed := d.t.v.indexed(&d.n.Inode)
	now, err := d.p.Insert(d, indexed, dir.Entry{Ino: n.ino, Type: disk.FileType(n.Mode), Name: name})
	if err != nil {
		return inDirectory(d.n.ino, err)
	}
	if now {
		d.n.Flags |= disk.InodeIndexed
	} else {
		// Also where the file system has no indexes, and the entry may be on one.
		d.n.Flags &^= disk.InodeIndexed
	}
	d.t.changed(d.n)
	return nil
}

// remove takes out a name that leads to an inode. close is still to be done.
func (d *editDir) remove(name string, ino uint32) error {
	e, err := d.p.Remove(d, d.t.v.indexed(&d.n.Inode), name)
	if err != nil {
		return inDirectory(d.n.ino, err)
	}
	if e.Ino != ino {
		return disk.Corrupt("directory %d has %q twice", d.n.ino, name)
	}
	d.t.changed(d.n)
	return nil
}

// set makes a name lead to another inode. close is still to be done.
func (d *editDir) set(name string, n *editNode) error {
	err := d.p.Set(d, d.t.v.indexed(&d.n.Inode), name, n.ino, disk.FileType(n.Mode))
	if err != nil {
		return inDirectory(d.n.ino, fmt.Errorf("%q: %w", name, err))
	}
	d.t.changed(d.n)
	return nil
}

// emptyDir is an error if a directory has names but "." and "..".
func (t *Tx) emptyDir(n *editNode) error {
	err := t.v.walkDir(n.ino, &n.Inode, func(e dir.Entry) error {
		if e.Name == "." || e.Name == ".." {
			return nil
		}
		return errNotEmpty
	})
	return err
}
