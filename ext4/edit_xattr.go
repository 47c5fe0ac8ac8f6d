package ext4

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"

	"banger/ext4/internal/disk"
	"banger/ext4/internal/xattr"
)

// SetXattr sets an extended attribute of a file; a link at the end of the path is
// not followed. The name has its prefix ("user.x", "security.capability"); the value
// of an ACL ("system.posix_acl_access", "system.posix_acl_default") has the form of
// setxattr(2), and an access ACL also sets the permissions in the mode. All
// attributes of a file share what is left in its inode, about 100 bytes, and one block;
// more is ENOSPC. Values that are in inodes of their own (feature ea_inode) stay there until
// they are set or removed.
func (t *Tx) SetXattr(path, name string, value []byte) error {
	return t.do("setxattr", path, func() error {
		n, err := t.existing(path, false)
		if err != nil {
			return err
		}
		switch {
		case strings.HasPrefix(name, "user.") && !n.IsRegular() && !n.IsDir():
			return errPerm
		case strings.HasPrefix(name, "system.") && name != accessACL && name != defaultACL:
			return syscall.ENOTSUP
		case name == defaultACL && !n.IsDir():
			return syscall.EACCES
		case name == accessACL && n.IsSymlink():
			return syscall.ENOTSUP
		}
		attrs, err := t.attrsOf(n)
		if err != nil {
			return err
		}
		if name == accessACL {
			mode, keep, err := aclMode(value)
			if err != nil {
				return err
			}
			n.Mode = n.Mode&^0o777 | mode
			if !keep {
				return t.storeAttrs(n, without(attrs, name))
			}
		}
		return t.storeAttrs(n, append(without(attrs, name), editAttr{Attr: xattr.Attr{Name: name, Value: slices.Clone(value)}}))
	})
}

// RemoveXattr removes an extended attribute; that it is not there is ENODATA. A link at
// the end of the path is not followed.
func (t *Tx) RemoveXattr(path, name string) error {
	return t.do("removexattr", path, func() error {
		n, err := t.existing(path, false)
		if err != nil {
			return err
		}
		attrs, err := t.attrsOf(n)
		if err != nil {
			return err
		}
		rest := without(attrs, name)
		if len(rest) == len(attrs) || name == inlineAttr {
			return syscall.ENODATA
		}
		return t.storeAttrs(n, rest)
	})
}

func (t *Tx) storeAttrs(n *editNode, attrs []editAttr) error {
	n.Ctime = t.now()
	return t.putAttrs(n, attrs)
}

// without returns a new list without one attribute.
func without(attrs []editAttr, name string) []editAttr {
	rest := make([]editAttr, 0, len(attrs)+1)
	for _, a := range attrs {
		if a.Name != name {
			rest = append(rest, a)
		}
	}
	return rest
}

// attrsOf returns all attributes of an inode to write them anew, the rest of inline
// contents among them. What could not be written as it was is an error.
func (t *Tx) attrsOf(n *editNode) ([]editAttr, error) {
	raws, err := t.rawAttrs(n)
	if err != nil {
		return nil, err
	}
	attrs := make([]editAttr, 0, len(raws)+1)
	for _, r := range raws {
		var a editAttr
		if r.ValueInode != 0 {
			a.kept = r
			a.Name, err = r.FullName()
		} else {
			a.Attr, err = xattr.Decode(r)
		}
		if err != nil {
			return nil, fmt.Errorf("inode %d: %w", n.ino, err)
		}
		// One in the inode hides one of its name in the block.
		if !slices.ContainsFunc(attrs, func(b editAttr) bool { return a.Name == b.Name }) {
			attrs = append(attrs, a)
		}
	}
	return attrs, nil
}

func (t *Tx) rawAttrs(n *editNode) ([]xattr.Raw, error) {
	_, raw, err := t.v.inode(n.ino)
	if err != nil {
		return nil, err
	}
	attrs, err := t.v.inodeAttrs(n.ino, &n.Inode, raw)
	if err != nil || n.FileACL == 0 {
		return attrs, err
	}
	more, err := t.v.attrBlock(n.ino, n.FileACL)
	return append(attrs, more...), err
}

// putAttrs makes attrs the attributes of an inode, and stores it.
func (t *Tx) putAttrs(n *editNode, attrs []editAttr) error {
	refs, err := t.ownValues(n)
	if err != nil {
		return err
	}
	had, err := t.valueBlocks(n)
	if err != nil {
		return err
	}
	var near []xattr.Attr
	var kept []xattr.Raw
	for _, a := range attrs {
		if a.kept.ValueInode == 0 {
			near = append(near, a.Attr)
			continue
		}
		kept = append(kept, a.kept)
		refs[a.kept.ValueInode]++
	}
	slot, err := t.inodeSlot(n.ino)
	if err != nil {
		return err
	}
	var room []byte
	if len(slot) > disk.MinInode && n.ExtraIsize > 0 {
		room = slot[disk.MinInode+int(n.ExtraIsize):]
	}
	inside, block, err := xattr.EncodeKeeping(near, kept, len(room), t.v.bs)
	if err != nil {
		return attrError(err)
	}
	clear(room)
	copy(room, inside)
	if n.FileACL != 0 {
		had++
	}
	if block == nil {
		if err := t.freeAttrBlock(n); err != nil {
			return err
		}
	} else if err := t.putAttrBlock(n, block); err != nil {
		return err
	}
	t.v.sb.FeatureCompat |= disk.CompatExtAttr
	has := t.blocksOf(kept)
	if n.FileACL != 0 {
		has++
	}
	sectors := uint64(t.v.bs / 512)
	n.Sectors = n.Sectors - min(n.Sectors, had*sectors) + has*sectors
	// Whoever reads the inode again in this operation compares its checksum.
	if err := t.put(n); err != nil {
		return err
	}
	return t.refer(n, refs)
}

// putAttrBlock gives an inode its attribute block. One that others share stays
// theirs.
func (t *Tx) putAttrBlock(n *editNode, block []byte) error {
	shared := true
	if n.FileACL != 0 {
		_, count, err := t.sharedBlock(n.FileACL)
		if err != nil {
			return err
		}
		shared = count > 1
	}
	if shared {
		if err := t.freeAttrBlock(n); err != nil {
			return err
		}
		at, err := t.allocOne(t.goalOf(n.ino))
		if err != nil {
			return err
		}
		if at>>32 != 0 && !t.v.sb.Has64Bit() {
			return disk.Corrupt("block %d without the feature 64bit", at)
		}
		n.FileACL = at
	}
	t.sealAttrs(n.FileACL, block)
	return nil
}

func (t *Tx) sealAttrs(at uint64, block []byte) {
	if t.v.sb.MetadataCsum() {
		xattr.SetBlockChecksum(block, t.v.seed, at)
	}
	t.setBlock(at, block)
}

// sharedBlock returns an attribute block, and how many inodes have it.
func (t *Tx) sharedBlock(at uint64) ([]byte, uint32, error) {
	b, err := t.v.block(at)
	if err != nil {
		return nil, 0, err
	}
	_, count, err := xattr.ParseBlock(b)
	if err == nil && count == 0 {
		err = disk.Corrupt("block %d of attributes counts no users", at)
	}
	return b, count, err
}

// freeAttrBlock takes the attribute block from an inode; its last user frees it.
func (t *Tx) freeAttrBlock(n *editNode) error {
	if n.FileACL == 0 {
		return nil
	}
	at := n.FileACL
	n.FileACL = 0
	b, count, err := t.sharedBlock(at)
	if err != nil {
		return err
	}
	if count == 1 {
		return t.free(at, 1)
	}
	b = slices.Clone(b)
	xattr.SetRefcount(b, count-1)
	t.sealAttrs(at, b)
	return nil
}

// freeAttrs frees the attributes of an inode that is freed.
func (t *Tx) freeAttrs(n *editNode) error {
	refs, err := t.ownValues(n)
	if err != nil {
		return err
	}
	if err := t.freeAttrBlock(n); err != nil {
		return err
	}
	return t.refer(n, refs)
}

// attrError gives errors of attributes those that setxattr(2) has.
func attrError(err error) error {
	for from, to := range map[error]error{
		xattr.ErrTooLarge: syscall.ENOSPC, xattr.ErrName: syscall.ENOTSUP, xattr.ErrACL: fs.ErrInvalid,
	} {
		if errors.Is(err, from) {
			return fmt.Errorf("%w: %v", to, err)
		}
	}
	return err
}
