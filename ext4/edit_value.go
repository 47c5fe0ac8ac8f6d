package ext4

import (
	"fmt"
	"maps"
	"slices"

	"banger/ext4/internal/disk"
	"banger/ext4/internal/xattr"
)

// editAttr is an attribute to be written.
type editAttr struct {
	xattr.Attr
	// kept is the entry of one whose value is in an inode of its own, and stays there. Then there
	// is no Value. Else its ValueInode is 0.
	kept xattr.Raw
}

// Values in inodes of their own (feature ea_inode; Documentation/filesystems/ext4/
// attributes.rst; fs/ext4/xattr.c, ext4_xattr_inode_update_ref). Equal values share an inode,
// which counts the entries that name it: the high half of the count is in the seconds of
// i_ctime, the low one in that of i_version. The entries of a block of attributes count
// once, however many inodes have the block. The last reference takes the inode with it.
// Here no such inode is made: what is set goes where other attributes are.

// ownValues counts for each inode of a value, as negative numbers, the entries that go if the
// attributes of n are written anew or freed: not those of a block that others have, too.
func (t *Tx) ownValues(n *editNode) (map[uint32]int64, error) {
	if t.v.sb.FeatureIncompat&disk.IncompatEAInode == 0 {
		return map[uint32]int64{}, nil
	}
	own := *n
	if n.FileACL != 0 {
		_, count, err := t.sharedBlock(n.FileACL)
		if err != nil {
			return nil, err
		}
		if count > 1 {
			own.FileACL = 0
		}
	}
	raws, err := t.rawAttrs(&own)
	refs := make(map[uint32]int64)
	for _, r := range raws {
		if r.ValueInode != 0 {
			refs[r.ValueInode]--
		}
	}
	return refs, err
}

// refer changes the counts of inodes of values by what the attributes of n refer to more,
// or less. In the order of their numbers, so that the same session makes the same bytes.
func (t *Tx) refer(n *editNode, refs map[uint32]int64) error {
	for _, ino := range slices.Sorted(maps.Keys(refs)) {
		if refs[ino] == 0 {
			continue
		}
		i, _, err := t.v.inode(ino)
		if err != nil {
			return err
		}
		if t.v.sb.FeatureIncompat&disk.IncompatEAInode == 0 || !i.IsRegular() || i.Flags&disk.InodeEAInode == 0 || i.FileACL != 0 {
			return disk.Corrupt("inode %d has an attribute in inode %d, which holds none", n.ino, ino)
		}
		if uint32(i.Mtime.Sec) == n.ino && i.Generation == n.Generation {
			return fmt.Errorf("an attribute is in inode %d without a count of its users, as Lustre has it: %w", ino,
				&FeatureError{Op: "edit", Features: []string{"ea_inode"}})
		}
		count := int64(uint32(i.Ctime.Sec))<<32 | int64(uint32(i.Version))
		if count <= 0 || count+refs[ino] < 0 {
			return disk.Corrupt("inode %d holds an attribute's value and counts %d references", ino, count)
		}
		if err := t.setReferences(&editNode{ino, i}, count+refs[ino]); err != nil {
			return err
		}
	}
	return nil
}

func (t *Tx) setReferences(value *editNode, count int64) error {
	if count == 0 {
		if err := t.freeContents(value); err != nil {
			return err
		}
		return t.freeInode(value)
	}
	value.Ctime.Sec = count >> 32
	value.Version = value.Version&^0xffffffff | uint64(uint32(count))
	return t.put(value)
}
