package ext4

import (
	"encoding/binary"
	"fmt"
	"io/fs"

	"banger/ext4/internal/disk"
	"banger/ext4/internal/xattr"
)

// ACLs in the form of the system calls: le32 version 2, then for each entry le16 tag,
// le16 permissions, le32 id (include/uapi/linux/posix_acl_xattr.h). The permissions
// in the mode are those of the owner, of the mask or, without one, of the group,
// and of others; either changes with the other.
const (
	accessACL  = "system.posix_acl_access"
	defaultACL = "system.posix_acl_default"

	aclUserObj  = 0x01
	aclGroupObj = 0x04
	aclMask     = 0x10
	aclOther    = 0x20
)

// aclMode returns the permissions that an access ACL gives the mode. keep says whether
// the ACL says more than they do.
func aclMode(acl []byte) (mode uint16, keep bool, err error) {
	if len(acl) < 4 || len(acl)%8 != 4 || le.Uint32(acl) != 2 {
		return 0, false, fmt.Errorf("%w: no ACL", fs.ErrInvalid)
	}
	masked := false
	for e := acl[4:]; len(e) > 0; e = e[8:] {
		perm := le.Uint16(e[2:]) & 7
		switch le.Uint16(e) {
		case aclUserObj:
			mode |= perm << 6
		case aclGroupObj:
			if !masked {
				mode |= perm << 3
			}
		case aclMask:
			mode, masked, keep = mode&^0o070|perm<<3, true, true
		case aclOther:
			mode |= perm
		default:
			keep = true
		}
	}
	return mode, keep, nil
}

// setMode sets the permissions of an inode, and those in its access ACL, as
// chmod(2) does (fs/posix_acl.c, posix_acl_chmod). put is still to be done.
func (t *Tx) setMode(n *editNode, mode uint16) error {
	n.Mode = n.Mode&disk.ModeFmt | mode&^disk.ModeFmt
	if n.FileACL == 0 && t.v.sb.InodeSize == disk.MinInode || n.IsSymlink() {
		return nil
	}
	raws, err := t.rawAttrs(n)
	if err != nil {
		return err
	}
	has := false
	for _, r := range raws {
		has = has || r.Index == xattr.IndexACLAccess
	}
	if !has {
		return nil
	}
	attrs, err := t.attrsOf(n)
	if err != nil {
		return err
	}
	for i := range attrs {
		a := &attrs[i]
		if a.Name != accessACL {
			continue
		}
		if a.kept.ValueInode != 0 { // it moves to where it can be changed, if that has room
			if a.Attr, err = (&attrReader{v: t.v}).read(a.kept); err != nil {
				return err
			}
			a.kept = xattr.Raw{}
		}
		setACLMode(a.Value, mode)
	}
	return t.putAttrs(n, attrs)
}

// setACLMode changes an ACL in place.
func setACLMode(acl []byte, mode uint16) {
	group := -1
	for i := 4; i+8 <= len(acl); i += 8 {
		put := func(perm uint16) { binary.LittleEndian.PutUint16(acl[i+2:], perm&7) }
		switch le.Uint16(acl[i:]) {
		case aclUserObj:
			put(mode >> 6)
		case aclGroupObj:
			if group < 0 {
				group = i
			}
		case aclMask:
			put(mode >> 3)
			group = 0
		case aclOther:
			put(mode)
		}
	}
	if group > 0 {
		binary.LittleEndian.PutUint16(acl[group+2:], mode>>3&7)
	}
}
