package xattr

import (
	"cmp"
	"fmt"
	"strings"
)

// The namespaces, as e_name_index has them (attributes.rst, "Attribute Name
// Indices"; fs/ext4/xattr.h).
const (
	IndexUser       = 1
	IndexACLAccess  = 2
	IndexACLDefault = 3
	IndexTrusted    = 4
	IndexLustre     = 5 // unused by the kernel, and without a prefix
	IndexSecurity   = 6
	IndexSystem     = 7
	IndexRichACL    = 8
	IndexEncryption = 9 // the fscrypt context; no system call shows it
	IndexHurd       = 10
)

const inlineData = "data" // of IndexSystem

// namespaces: the whole names are before the prefix that would also match them.
var namespaces = []struct {
	index uint8
	text  string
	whole bool // text is the whole name and nothing is left to store
}{
	{IndexUser, "user.", false},
	{IndexACLAccess, "system.posix_acl_access", true},
	{IndexACLDefault, "system.posix_acl_default", true},
	{IndexTrusted, "trusted.", false},
	{IndexSecurity, "security.", false},
	{IndexRichACL, "system.richacl", true},
	{IndexSystem, "system.", false},
	{IndexHurd, "gnu.", false},
}

func isACL(index uint8) bool { return index == IndexACLAccess || index == IndexACLDefault }

// diskName splits a name into its namespace and the part that is stored.
func diskName(full string) (index uint8, name string, err error) {
	for _, ns := range namespaces {
		rest, ok := strings.CutPrefix(full, ns.text)
		switch {
		case !ok || ns.whole && rest != "":
			continue
		case ns.whole:
			return ns.index, "", nil
		case rest == "":
			return 0, "", fmt.Errorf("%w: %q is only a prefix", ErrName, full)
		case len(rest) > maxName:
			return 0, "", fmt.Errorf("%w: %.40q... has %d bytes after its prefix, %d are possible",
				ErrName, full, len(rest), maxName)
		case strings.IndexByte(rest, 0) >= 0:
			return 0, "", fmt.Errorf("%w: %q has a NUL byte", ErrName, full)
		}
		return ns.index, rest, nil
	}
	return 0, "", fmt.Errorf("%w: %.40q is in no namespace of ext4", ErrName, full)
}

// fullName is the inverse of diskName. What diskName would not give back exactly
// is refused, so that no two entries can decode to one name.
func fullName(index uint8, name string) (string, error) {
	for _, ns := range namespaces {
		if ns.index != index {
			continue
		}
		full := ns.text + name
		i, n, err := diskName(full)
		if err != nil {
			return "", err
		}
		if i != index || n != name {
			return "", fmt.Errorf("%w: %q in namespace %d", ErrName, name, index)
		}
		return full, nil
	}
	return "", fmt.Errorf("%w: namespace %d of %q has no prefix", ErrName, index, name)
}

// compareItems is the order in which the kernel searches an attribute block.
func compareItems(a, b item) int {
	return cmp.Or(cmp.Compare(a.index, b.index), cmp.Compare(len(a.name), len(b.name)),
		strings.Compare(a.name, b.name))
}

// pinned is the rank of what must be in the inode: the kernel finds inline data
// only there.
const pinned = 0

// wanted ranks attributes for the inode, where reading one costs no block. Those
// that come early are the ones that the kernel reads by itself on open, exec or write.
func wanted(full string, index uint8) int {
	switch {
	case full == "system."+inlineData:
		return pinned
	case full == "security.capability":
		return 1
	case full == "security.selinux":
		return 2
	case index == IndexACLAccess:
		return 3
	case index == IndexACLDefault:
		return 4
	case index == IndexSecurity:
		return 5
	}
	return 6
}
