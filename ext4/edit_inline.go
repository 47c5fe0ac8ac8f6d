package ext4

import (
	"banger/ext4/internal/dir"
	"banger/ext4/internal/disk"
)

// Contents inside an inode (feature inline_data) move to blocks when they change;
// nothing is ever moved back.

// dropInline makes an inode one with an empty map of blocks. Of its attributes the
// one with the rest of the contents goes.
func (t *Tx) dropInline(n *editNode) error {
	attrs, err := t.attrsOf(n)
	if err != nil {
		return err
	}
	kept := attrs[:0]
	for _, a := range attrs {
		if a.Name != inlineAttr {
			kept = append(kept, a)
		}
	}
	n.Flags &^= disk.InodeInlineData
	t.emptyMap(n)
	return t.putAttrs(n, kept)
}

// inlineAttr is the attribute with what does not fit into i_block.
const inlineAttr = "system.data"

// unpackDir moves the entries of an inline directory to a block.
func (t *Tx) unpackDir(n *editNode) (*editDir, error) {
	parent := uint32(0)
	var entries []dir.Entry
	err := t.v.walkInline(n.ino, &n.Inode, func(e dir.Entry) error {
		switch e.Name {
		case ".":
		case "..":
			parent = e.Ino
		default:
			entries = append(entries, e)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if parent == 0 || parent > t.v.sb.InodesCount {
		return nil, disk.Corrupt("directory %d is in directory %d", n.ino, parent)
	}
	if err := t.dropInline(n); err != nil {
		return nil, err
	}
	d, err := t.makeDir(n, parent)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		indexed, err := d.p.Insert(d, false, e)
		if err != nil {
			return nil, inDirectory(n.ino, err)
		}
		if indexed {
			return nil, disk.Corrupt("directory %d has more entries than an inode holds", n.ino)
		}
	}
	return d, d.close()
}
