package ext4

import (
	"io/fs"
	"time"

	"banger/ext4/internal/disk"
)

// Attr is what a file gets when it is made.
type Attr struct {
	// Mode has the permissions, and setuid, setgid and sticky as package fs has
	// them or as the octal bits 07000. Types are ignored: they come from the operation.
	Mode     fs.FileMode
	UID, GID uint32
	// ModTime and AccessTime are 1901 to 2446; others become the nearest. Zero is the
	// time of the operation.
	ModTime, AccessTime time.Time
	// Keep leaves the mode and the owner of a file that exists already, and is
	// ignored for a new one.
	Keep bool
}

// modeBits are those of i_mode without the type.
func modeBits(m fs.FileMode) uint16 {
	mode := uint16(m & 0o7777)
	for bit, as := range map[fs.FileMode]uint16{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if m&bit != 0 {
			mode |= as
		}
	}
	return mode
}

// editNode is an inode in an operation. What changes it ends with put.
type editNode struct {
	ino uint32
	disk.Inode
}

// load reads an inode that a name leads to.
func (t *Tx) load(ino uint32) (*editNode, error) {
	i, _, err := t.v.live(ino)
	if err == nil && i.Flags&disk.InodeEAInode != 0 {
		err = disk.Corrupt("inode %d has a name, but holds an attribute's value", ino)
	}
	if err != nil {
		return nil, err
	}
	return &editNode{ino, i}, nil
}

// put stores an inode.
func (t *Tx) put(n *editNode) error {
	slot, err := t.inodeSlot(n.ino)
	if err != nil {
		return err
	}
	t.v.sb.EncodeInode(n.ino, &n.Inode, slot)
	return nil
}

// newNode takes an inode for a file of a type, beside its parent. It has one link, or a
// directory's two, and an empty map. put is still to be done.
func (t *Tx) newNode(parent *editNode, kind uint16, a *Attr) (*editNode, error) {
	ino, err := t.allocInode(parent.ino, kind == disk.ModeDir)
	if err != nil {
		return nil, err
	}
	now := t.now()
	n := &editNode{ino: ino, Inode: disk.Inode{
		Mode: kind | modeBits(a.Mode), UID: a.UID, GID: a.GID, Links: 1, Generation: t.o.Generation(),
		Atime: now, Mtime: now, Ctime: now, Crtime: now,
	}}
	if kind == disk.ModeDir {
		n.Links = 2
	}
	n.setTimes(a)
	const projInherit = 0x20000000 // EXT4_PROJINHERIT_FL
	if parent.Flags&projInherit != 0 {
		n.Projid = parent.Projid
		if kind == disk.ModeDir {
			n.Flags |= projInherit
		}
	}
	sb := t.v.sb
	if room := int(sb.InodeSize) - disk.MinInode; room > 0 {
		n.ExtraIsize = uint16(min(room, disk.ExtraIsize))
		if want := sb.WantExtraIsize; sb.FeatureROCompat&disk.ROCompatExtraIsize != 0 && want > n.ExtraIsize && int(want) <= room && want%4 == 0 {
			n.ExtraIsize = want
		}
	}
	if sb.Extents() && (kind == disk.ModeRegular || kind == disk.ModeDir || kind == disk.ModeSymlink) {
		t.emptyMap(n)
	}
	return n, nil
}

func (n *editNode) setTimes(a *Attr) {
	if !a.ModTime.IsZero() {
		n.Mtime = diskTime(a.ModTime)
	}
	if !a.AccessTime.IsZero() {
		n.Atime = diskTime(a.AccessTime)
	}
}

// setOwner gives an inode mode and owner; its type stays.
func (t *Tx) setOwner(n *editNode, a *Attr) error {
	n.UID, n.GID = a.UID, a.GID
	return t.setMode(n, modeBits(a.Mode))
}

// drop takes away the last or another link of an inode. With none left, it is freed.
func (t *Tx) drop(n *editNode) error {
	if t.locked[n.ino] {
		return errBusy
	}
	if n.Links > 1 && !n.IsDir() {
		n.Links--
		n.Ctime = t.now()
		return t.put(n)
	}
	return t.destroy(n)
}

// destroy frees an inode and all that it has.
func (t *Tx) destroy(n *editNode) error {
	if err := t.freeContents(n); err != nil {
		return err
	}
	if err := t.freeAttrs(n); err != nil {
		return err
	}
	return t.freeInode(n)
}

// mapped says whether i_block is a map of blocks.
func (t *Tx) mapped(n *editNode) bool {
	switch {
	case n.Flags&disk.InodeInlineData != 0:
		return false
	case n.IsSymlink():
		return !t.v.fastLink(&n.Inode)
	}
	return n.IsRegular() || n.IsDir()
}

// freeContents frees the blocks of an inode. put is still to be done.
func (t *Tx) freeContents(n *editNode) error {
	if !t.mapped(n) {
		return nil
	}
	m, err := t.v.fileMap(n.ino, &n.Inode)
	if err != nil {
		return err
	}
	if err := t.freeExtents(m.extents); err != nil {
		return err
	}
	return t.freeBlocks(m.nodes)
}

// addSubdir counts a directory's new subdirectory. From 65000 on it has the count 1, if
// the feature dir_nlink allows it (fs/ext4/namei.c, ext4_inc_count).
func (t *Tx) addSubdir(n *editNode) error {
	switch {
	case n.Links == 1:
	case n.Links < disk.MaxLinks:
		n.Links++
	case t.v.sb.FeatureROCompat&disk.ROCompatDirNlink == 0:
		return errTooManyLinks
	default:
		n.Links = 1
	}
	return nil
}

// dropSubdir is the reverse; a count of 1 stays.
func (n *editNode) dropSubdir() {
	if n.Links > 2 {
		n.Links--
	}
}

// changed stamps a change of the contents.
func (t *Tx) changed(n *editNode) {
	n.Mtime = t.now()
	n.Ctime = n.Mtime
}
