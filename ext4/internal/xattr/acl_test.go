package xattr

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
)

func userACL(entries ...aclEntry) []byte {
	b := binary.LittleEndian.AppendUint32(nil, aclUserVer)
	for _, e := range entries {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return b
}

var (
	owner   = aclEntry{tagUserObj, 7, aclNobodyID}
	group   = aclEntry{tagGroupObj, 5, aclNobodyID}
	mask    = aclEntry{tagMask, 7, aclNobodyID}
	others  = aclEntry{tagOther, 0, aclNobodyID}
	user1   = aclEntry{tagUser, 6, 1000}
	group1  = aclEntry{tagGroup, 4, 70000}
	testACL = userACL(owner, user1, group, mask, others)
)

func TestACL(t *testing.T) {
	for _, c := range []struct {
		acl    []byte
		reason string // "" if it is valid
	}{
		{userACL(owner, group, others), ""},
		{userACL(owner, group, mask, others), ""},
		{testACL, ""},
		{userACL(owner, user1, user1, group, group1, group1, mask, others), ""},
		{userACL(owner, group, group1, mask, others), ""},
		{nil, "0 bytes"},
		{[]byte{2, 0, 0}, "3 bytes"},
		{userACL(), "no entry of the owner"},
		{append([]byte{1}, userACL(owner, group, others)[1:]...), "version 1"},
		{testACL[:len(testACL)-1], "cut off"},
		{userACL(owner, group), "no entry of others"},
		{userACL(group, others), "no entry of the owner"},
		{userACL(owner, others), "no entry of the owning group"},
		{userACL(owner, user1, group, others), "no mask"},
		{userACL(owner, group, group1, others), "no mask"},
		{userACL(owner, owner, group, others), "twice"},
		{userACL(owner, group, others, others), "twice"},
		{userACL(owner, group, mask, mask, others), "twice"},
		{userACL(group, owner, others), "after"},
		{userACL(owner, group, user1, mask, others), "after"},
		{userACL(owner, group, others, mask), "after"},
		{userACL(owner, group, aclEntry{tagOther, 8, 0}), "permissions"},
		{userACL(owner, aclEntry{tagUser, 7, aclNobodyID}, group, mask, others), "without an id"},
		{userACL(owner, group, mask, aclEntry{0x40, 7, 0}), "unknown tag"},
		{userACL(owner, group, aclEntry{0x30, 7, 0}), "unknown tag"},
		{userACL(aclEntry{0, 7, 0}, owner, group, others), "unknown tag"},
	} {
		attrs := []Attr{{"system.posix_acl_default", c.acl}}
		if c.reason == "" {
			roundTrip(t, attrs, 96, 1024)
			continue
		}
		_, _, err := Encode(attrs, 96, 1024)
		if !errors.Is(err, ErrACL) || !strings.Contains(err.Error(), c.reason) || !strings.Contains(err.Error(), "acl_default") {
			t.Errorf("%v, want %q", err, c.reason)
		}
	}
}

func TestACLOnDisk(t *testing.T) {
	disk, err := aclToDisk(userACL(aclEntry{tagUserObj, 7, 123}, user1, group, mask, others))
	want := []byte{1, 0, 0, 0, 1, 0, 7, 0, 2, 0, 6, 0, 0xe8, 3, 0, 0, 4, 0, 5, 0, 16, 0, 7, 0, 32, 0, 0, 0}
	if err != nil || !bytes.Equal(disk, want) {
		t.Errorf("% x %v", disk, err)
	}
	if got, err := aclFromDisk(disk); err != nil || !bytes.Equal(got, testACL) {
		t.Errorf("% x %v", got, err)
	}
	for _, bad := range [][]byte{nil, want[:3], want[:4], want[:5], want[:10], want[:14], testACL,
		{1, 0, 0, 0, 3, 0, 7, 0}, {0, 0, 0, 0, 1, 0, 7, 0}} {
		r := Raw{Index: IndexACLAccess, Value: bad, Size: uint32(len(bad))}
		if a, err := Decode(r); !errors.Is(err, ErrACL) {
			t.Errorf("% x: %v %v", bad, a, err)
		}
	}
}
