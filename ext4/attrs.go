package ext4

import (
	"errors"
	"fmt"
	"io"

	"banger/ext4/internal/disk"
	"banger/ext4/internal/xattr"
)

// maxAttrs bounds the values of one file's attributes together, in bytes. System
// calls stop at 64 KiB a value; the bound is for images in which a thousand
// entries name one large value.
const maxAttrs = 64 << 20

// attrs reads the extended attributes of a file, those in the inode first. What
// the kernel does not show is left out: inline content, unknown namespaces. Damage to one
// attribute does not hide the others: they come with the error.
func (v *volume) attrs(ino uint32, i *disk.Inode, raw []byte) ([]xattr.Attr, error) {
	if raw == nil {
		var err error
		if _, raw, err = v.inode(ino); err != nil {
			return nil, err
		}
	}
	raws, err := v.inodeAttrs(ino, i, raw)
	if i.FileACL != 0 {
		more, err2 := v.attrBlock(ino, i.FileACL)
		raws, err = append(raws, more...), errors.Join(err, err2)
	}
	if len(raws) == 0 {
		return nil, err
	}
	r := attrReader{v: v}
	attrs := make([]xattr.Attr, 0, len(raws))
	seen := make(map[string]bool, len(raws))
	for _, raw := range raws {
		if raw.IsInlineData() {
			continue
		}
		a, err2 := r.read(raw)
		if errors.Is(err2, xattr.ErrName) {
			continue
		}
		if err2 != nil {
			err = errors.Join(err, fmt.Errorf("inode %d: %w", ino, err2))
			continue
		}
		// One in the inode hides one of its name in the block, as in the kernel.
		if !seen[a.Name] {
			seen[a.Name] = true
			attrs = append(attrs, a)
		}
	}
	return attrs, err
}

// attrBlock reads the attributes in a block of their own.
func (v *volume) attrBlock(ino uint32, n uint64) ([]xattr.Raw, error) {
	b, err := v.block(n)
	if err != nil {
		return nil, err
	}
	attrs, _, err := xattr.ParseBlock(b)
	if err != nil {
		return nil, fmt.Errorf("inode %d, block %d: %w", ino, n, err)
	}
	if v.sb.MetadataCsum() && !xattr.VerifyBlockChecksum(b, v.seed, n) {
		return nil, disk.Corrupt("the checksum of block %d, attributes of inode %d, is wrong", n, ino)
	}
	return attrs, nil
}

// attrReader fetches the values that are in inodes of their own (feature ea_inode).
type attrReader struct {
	v      *volume
	values map[uint32][]byte
	total  uint64
}

func (r *attrReader) read(raw xattr.Raw) (xattr.Attr, error) {
	if raw.ValueInode != 0 {
		if r.total += uint64(raw.Size); r.total > maxAttrs {
			return xattr.Attr{}, disk.Corrupt("its attributes have more than %d bytes", maxAttrs)
		}
		var err error
		if raw.Value, err = r.value(raw.ValueInode, raw.Size); err != nil {
			return xattr.Attr{}, err
		}
	}
	return xattr.Decode(raw)
}

// value reads the value in an inode. Its hash, which only finds values to share,
// is not compared.
func (r *attrReader) value(ino, size uint32) ([]byte, error) {
	if b, ok := r.values[ino]; ok && len(b) == int(size) {
		return b, nil
	}
	if r.v.sb.FeatureIncompat&disk.IncompatEAInode == 0 {
		return nil, disk.Corrupt("an attribute is in inode %d, without the feature ea_inode", ino)
	}
	i, raw, err := r.v.inode(ino)
	if err != nil {
		return nil, err
	}
	if !i.IsRegular() || i.Flags&disk.InodeEAInode == 0 || i.Size != uint64(size) {
		return nil, disk.Corrupt("inode %d does not hold an attribute of %d bytes", ino, size)
	}
	f, err := r.v.fileReader(ino, &i, raw)
	if err != nil {
		return nil, err
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil && err != io.EOF {
		return nil, err
	}
	if r.values == nil {
		r.values = make(map[uint32][]byte)
	}
	r.values[ino] = b
	return b, nil
}
