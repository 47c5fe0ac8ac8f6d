package xattr

import (
	"encoding/binary"
	"fmt"
)

// An ACL has two forms. System calls use version 2: eight bytes an entry, tag,
// permissions, id (include/uapi/linux/posix_acl_xattr.h). The disk has version 1:
// the same, but only entries of a named user or group have the id (fs/ext4/acl.h).
const (
	aclHeader   = 4
	aclShort    = 4
	aclLong     = 8
	aclDiskVer  = 1
	aclUserVer  = 2
	aclNobodyID = 0xFFFFFFFF // the id of an entry that has none

	tagUserObj  = 0x01
	tagUser     = 0x02
	tagGroupObj = 0x04
	tagGroup    = 0x08
	tagMask     = 0x10
	tagOther    = 0x20
)

type aclEntry struct {
	tag, perm uint16
	id        uint32
}

func (e aclEntry) named() bool { return e.tag == tagUser || e.tag == tagGroup }

func aclError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrACL, fmt.Sprintf(format, args...))
}

// aclFromDisk converts the disk form. It checks what the kernel checks when it
// reads one: the version, whole entries, known tags; and, as no entry at all means "no
// ACL", that there is one.
func aclFromDisk(disk []byte) ([]byte, error) {
	le := binary.LittleEndian
	if len(disk) < aclHeader {
		return nil, aclError("%d bytes", len(disk))
	}
	if v := le.Uint32(disk); v != aclDiskVer {
		return nil, aclError("version %d on disk", v)
	}
	disk = disk[aclHeader:]
	if len(disk) == 0 {
		return nil, aclError("no entries")
	}
	user := le.AppendUint32(make([]byte, 0, aclHeader+2*len(disk)), aclUserVer)
	for len(disk) > 0 {
		if len(disk) < aclShort {
			return nil, aclError("its last entry is cut off")
		}
		e := aclEntry{le.Uint16(disk), le.Uint16(disk[2:]), aclNobodyID}
		switch e.tag {
		case tagUserObj, tagGroupObj, tagMask, tagOther:
			disk = disk[aclShort:]
		case tagUser, tagGroup:
			if len(disk) < aclLong {
				return nil, aclError("its last entry is cut off")
			}
			e.id = le.Uint32(disk[aclShort:])
			disk = disk[aclLong:]
		default:
			return nil, aclError("unknown tag %#x", e.tag)
		}
		user = le.AppendUint16(user, e.tag)
		user = le.AppendUint16(user, e.perm)
		user = le.AppendUint32(user, e.id)
	}
	return user, nil
}

// aclToDisk converts the form of the system calls, if the kernel would accept it.
// Ids of entries that have none are dropped, whatever they are.
func aclToDisk(user []byte) ([]byte, error) {
	le := binary.LittleEndian
	if len(user) < aclHeader {
		return nil, aclError("%d bytes", len(user))
	}
	if v := le.Uint32(user); v != aclUserVer {
		return nil, aclError("version %d", v)
	}
	user = user[aclHeader:]
	if len(user)%aclLong != 0 {
		return nil, aclError("its last entry is cut off")
	}
	entries := make([]aclEntry, 0, len(user)/aclLong)
	for ; len(user) > 0; user = user[aclLong:] {
		entries = append(entries, aclEntry{le.Uint16(user), le.Uint16(user[2:]), le.Uint32(user[4:])})
	}
	if err := validACL(entries); err != nil {
		return nil, err
	}
	disk := le.AppendUint32(nil, aclDiskVer)
	for _, e := range entries {
		disk = le.AppendUint16(disk, e.tag)
		disk = le.AppendUint16(disk, e.perm)
		if e.named() {
			disk = le.AppendUint32(disk, e.id)
		}
	}
	return disk, nil
}

// validACL holds an ACL to the rules of posix_acl_valid: owner, named users, owning
// group, named groups, mask, others, in this order. Owner, owning group and others
// are there once; so is the mask, which only an ACL without named entries may
// omit. Named entries need not be sorted by id or distinct.
func validACL(entries []aclEntry) error {
	var last uint16
	var seen uint16 // tags are distinct bits
	for _, e := range entries {
		switch {
		case e.tag == 0 || e.tag > tagOther || e.tag&(e.tag-1) != 0:
			return aclError("unknown tag %#x", e.tag)
		case e.perm > 7:
			return aclError("permissions %#o", e.perm)
		case e.tag < last:
			return aclError("%s after %s", tagName(e.tag), tagName(last))
		case !e.named() && seen&e.tag != 0:
			return aclError("%s twice", tagName(e.tag))
		case e.named() && e.id == aclNobodyID:
			return aclError("%s without an id", tagName(e.tag))
		}
		last = e.tag
		seen |= e.tag
	}
	need := []uint16{tagUserObj, tagGroupObj, tagOther}
	if seen&(tagUser|tagGroup) != 0 {
		need = append(need, tagMask)
	}
	for _, tag := range need {
		if seen&tag == 0 {
			return aclError("no %s", tagName(tag))
		}
	}
	return nil
}

func tagName(tag uint16) string {
	switch tag {
	case tagUserObj:
		return "entry of the owner"
	case tagUser:
		return "entry of a named user"
	case tagGroupObj:
		return "entry of the owning group"
	case tagGroup:
		return "entry of a named group"
	case tagMask:
		return "mask"
	}
	return "entry of others"
}
