// Package xattr reads and writes the extended attributes of ext4: the entries in
// an inode's spare bytes, those in an attribute block, and the disk form of POSIX
// ACLs (Documentation/filesystems/ext4/attributes.rst; fs/ext4/xattr.h and acl.h).
//
// It works on bytes it is given and does no I/O. Parsing bounds everything by the
// length of its input, so damaged or hostile bytes give an error, never a panic.
package xattr

import (
	"errors"
	"fmt"
	"slices"
)

var (
	// ErrCorrupt says that bytes read from an image are not what ext4 writes.
	ErrCorrupt = errors.New("corrupt extended attributes")
	// ErrTooLarge says that attributes fit neither in the inode nor in its one block.
	ErrTooLarge = errors.New("extended attributes too large")
	// ErrName says that a name has no place in ext4: an unknown namespace, nothing
	// after the prefix, more than 255 bytes after it, a NUL byte, or a name twice.
	ErrName = errors.New("invalid extended attribute name")
	// ErrACL says that a POSIX ACL is malformed or breaks the rules of acl(5).
	ErrACL = errors.New("invalid POSIX ACL")
	// ErrNotFetched says that a value is in an inode of its own and was not put
	// into Raw.Value before Decode.
	ErrNotFetched = errors.New("attribute value not fetched from its inode")
)

const (
	magic       = 0xEA020000
	headerSize  = 32 // struct ext4_xattr_header
	entrySize   = 16 // struct ext4_xattr_entry without the name
	magicSize   = 4  // struct ext4_xattr_ibody_header
	endSize     = 4  // the zero word after the last entry
	maxName     = 255
	maxValue    = 1 << 24 // EXT4_XATTR_SIZE_MAX
	hdrRefcount = 4
	hdrBlocks   = 8
	hdrHash     = 12
	hdrChecksum = 16
)

// pad4 rounds up to the four bytes on which names and values are aligned.
func pad4(n int) int { return (n + 3) &^ 3 }

// Attr is an attribute as the system calls show it. Name has its prefix
// ("user.x", "system.posix_acl_access"); Value is what getxattr(2) gives, so an
// ACL is in its version 2 form (include/uapi/linux/posix_acl_xattr.h).
type Attr struct {
	Name  string
	Value []byte
}

// Raw is an attribute as the disk has it: a namespace index (Index*), the name
// without its prefix, and the value in its disk form.
type Raw struct {
	Index uint8
	Name  string
	// Value aliases the parsed bytes. It is nil if ValueInode is not 0: the value
	// is then the Size bytes of content of that inode (feature ea_inode), and the
	// caller puts it here before Decode.
	Value      []byte
	ValueInode uint32
	Size       uint32 // of the value, in bytes, at most 1<<24
	Hash       uint32 // e_hash, unchecked
}

// FullName is the name with its prefix; ErrName as for Decode.
func (r Raw) FullName() (string, error) { return fullName(r.Index, r.Name) }

// IsInlineData says whether r is the part of a small file's or directory's
// content that did not fit in the 60 bytes of i_block (feature inline_data;
// Documentation/filesystems/ext4/inlinedata.rst). No system call shows it.
func (r Raw) IsInlineData() bool {
	return r.Index == IndexSystem && r.Name == inlineData
}

// Decode gives the attribute that r stands for. The result shares no memory with r.
//
// Errors: ErrName for a namespace without a prefix, which the kernel's listxattr
// hides too (0, lustre 5, encryption 9), or a name that the namespace cannot
// have; ErrACL for an ACL that the kernel could not read; ErrNotFetched for a value
// whose length is not r.Size. ACLs are held to their form only, as in the
// kernel's reading: Encode may still refuse one for its meaning.
func Decode(r Raw) (Attr, error) {
	name, err := fullName(r.Index, r.Name)
	if err != nil {
		return Attr{}, err
	}
	if uint64(len(r.Value)) != uint64(r.Size) {
		return Attr{}, fmt.Errorf("%q: %w: %d bytes in inode %d, %d given",
			name, ErrNotFetched, r.Size, r.ValueInode, len(r.Value))
	}
	if !isACL(r.Index) {
		// Not slices.Clone: it keeps nil, and an empty value is a value.
		return Attr{name, append([]byte{}, r.Value...)}, nil
	}
	v, err := aclFromDisk(r.Value)
	if err != nil {
		return Attr{}, fmt.Errorf("%q: %w", name, err)
	}
	return Attr{name, v}, nil
}

// item is an attribute on its way to the disk.
type item struct {
	full   string // with the prefix, for errors
	index  uint8
	name   string
	value  []byte // disk form
	wanted int    // place in the queue for the inode, the lowest first
	kept   *Raw   // of a value that stays in an inode of its own; else nil
}

// cost is what it takes of an area: entry, padded name, padded value.
func (it *item) cost() int {
	return entrySize + pad4(len(it.name)) + pad4(len(it.value))
}

// items converts and sorts attributes the way the kernel searches a block:
// by index, then length of the name, then its bytes (xattr_find_entry).
func items(attrs []Attr, kept []Raw) ([]item, error) {
	its := make([]item, 0, len(attrs)+len(kept))
	for _, a := range attrs {
		index, name, err := diskName(a.Name)
		if err != nil {
			return nil, err
		}
		value := a.Value
		if isACL(index) {
			if value, err = aclToDisk(a.Value); err != nil {
				return nil, fmt.Errorf("%q: %w", a.Name, err)
			}
		}
		its = append(its, item{full: a.Name, index: index, name: name, value: value, wanted: wanted(a.Name, index)})
	}
	for i := range kept {
		r := &kept[i]
		full, err := r.FullName()
		if err != nil {
			return nil, err
		}
		its = append(its, item{full: full, index: r.Index, name: r.Name, wanted: wanted(full, r.Index), kept: r})
	}
	slices.SortFunc(its, compareItems)
	for i := 1; i < len(its); i++ {
		if compareItems(its[i-1], its[i]) == 0 {
			return nil, fmt.Errorf("%w: %q is given twice", ErrName, its[i].full)
		}
	}
	return its, nil
}
