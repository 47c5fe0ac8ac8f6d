package ext4

import (
	"strings"

	"banger/ext4/internal/dir"
	"banger/ext4/internal/disk"
	"banger/ext4/internal/xattr"
)

// Small files, links and directories can be in their inode: the first 60 bytes in
// i_block, the rest in the attribute "system.data" (feature inline_data;
// Documentation/filesystems/ext4/inlinedata.rst).

// inlineParts returns the two places. rest is nil where there is no attribute; it
// aliases raw.
func (v *volume) inlineParts(ino uint32, i *disk.Inode, raw []byte) (first, rest []byte, err error) {
	if v.sb.FeatureIncompat&disk.IncompatInlineData == 0 {
		return nil, nil, disk.Corrupt("inode %d holds its content, without the feature inline_data", ino)
	}
	if raw == nil {
		if _, raw, err = v.inode(ino); err != nil {
			return nil, nil, err
		}
	}
	attrs, err := v.inodeAttrs(ino, i, raw)
	if err != nil {
		return nil, nil, err
	}
	for _, a := range attrs {
		if a.IsInlineData() {
			if a.ValueInode != 0 {
				return nil, nil, disk.Corrupt("the inline content of inode %d is in another inode", ino)
			}
			return i.Block[:], a.Value, nil
		}
	}
	return i.Block[:], nil, nil
}

// inlineContent returns the content of an inline file or link as far as the inode
// has it. If that is less than its size, the rest is a hole: mke2fs makes such files.
func (v *volume) inlineContent(ino uint32, i *disk.Inode, raw []byte) ([]byte, error) {
	first, rest, err := v.inlineParts(ino, i, raw)
	if err != nil {
		return nil, err
	}
	content := make([]byte, 0, len(first)+len(rest))
	content = append(append(content, first...), rest...)
	return content[:min(uint64(len(content)), i.Size)], nil
}

// walkInline yields the entries of an inline directory. "." is not stored, of ".."
// only the inode number is; the entries fill the rest of the two places.
func (v *volume) walkInline(ino uint32, i *disk.Inode, yield func(dir.Entry) error) error {
	first, rest, err := v.inlineParts(ino, i, nil)
	if err != nil {
		return err
	}
	if err := yield(dir.Entry{Ino: ino, Type: disk.FTDir, Name: "."}); err != nil {
		return err
	}
	if err := yield(dir.Entry{Ino: le.Uint32(first), Type: disk.FTDir, Name: ".."}); err != nil {
		return err
	}
	for _, b := range [][]byte{first[4:], rest} {
		if err := v.inlineEntries(ino, b, yield); err != nil {
			return err
		}
	}
	return nil
}

func (v *volume) inlineEntries(ino uint32, b []byte, yield func(dir.Entry) error) error {
	const head = 8
	for len(b) > 0 {
		if len(b) < head {
			return disk.Corrupt("the inline directory %d ends within an entry", ino)
		}
		record, name := int(le.Uint16(b[4:])), int(b[6])
		if record < head+4 || record%4 != 0 || record > len(b) || head+name > record {
			return disk.Corrupt("the inline directory %d has an entry of %d bytes for a name of %d", ino, record, name)
		}
		e := dir.Entry{Ino: le.Uint32(b), Type: b[7], Name: string(b[head : head+name])}
		if v.sb.FeatureIncompat&disk.IncompatFiletype == 0 {
			e.Type = disk.FTUnknown
		}
		b = b[record:]
		if e.Ino == 0 {
			continue
		}
		if name == 0 || strings.ContainsAny(e.Name, "/\x00") {
			return disk.Corrupt("the inline directory %d has the name %q", ino, e.Name)
		}
		if err := yield(e); err != nil {
			return err
		}
	}
	return nil
}

// inodeAttrs reads the attributes inside an inode, as they are on the disk. An
// inode that does not say how long its fields are has none.
func (v *volume) inodeAttrs(ino uint32, i *disk.Inode, raw []byte) ([]xattr.Raw, error) {
	if len(raw) <= disk.MinInode || i.ExtraIsize == 0 {
		return nil, nil
	}
	attrs, err := xattr.ParseInode(raw[disk.MinInode+int(i.ExtraIsize):])
	return attrs, wrapf(err, "inode %d", ino)
}
