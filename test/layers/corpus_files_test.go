package layers_test

import (
	"archive/tar"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
)

// capability is cap_net_raw+ep in the form of revision 2 (capabilities(7)).
const capability = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// acl is an ACL in the form of system calls: of each entry the tag, the permissions, and
// for tags of names the id (include/uapi/linux/posix_acl_xattr.h).
func acl(v ...uint32) string {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, 2)
	for len(v) > 0 {
		tag, perm, id := v[0], v[1], ^uint32(0)
		if v = v[2:]; tag == 0x02 || tag == 0x08 {
			id, v = v[0], v[1:]
		}
		b = le.AppendUint32(le.AppendUint16(le.AppendUint16(b, uint16(tag)), uint16(perm)), id)
	}
	return string(b)
}

// fileImages have all that an inode can say.
func fileImages(t testing.TB) map[string]image {
	var modes, owners, times []entry
	for _, m := range []int64{0, 0o1, 0o644, 0o755, 0o1777, 0o2755, 0o4711, 0o6711, 0o7777} {
		modes = append(modes, file(fmt.Sprintf("f%o", m), "x").chmod(m), dir(fmt.Sprintf("d%o", m)).chmod(m), file(fmt.Sprintf("d%o/f", m), "").chown(5, 6), fifo(fmt.Sprintf("p%o", m)).chmod(m))
	}
	for _, id := range []int{1, 65534, 65535, 65536, 70000, 1<<31 - 1, 1 << 31, 1<<32 - 2} {
		owners = append(owners, file(fmt.Sprint("f", id), "").chown(id, 0).chmod(0o6755), dir(fmt.Sprint("d", id)).chown(0, id).chmod(0o2755), symlink(fmt.Sprint("s", id), "x").chown(id, id))
	}
	for i, at := range [][2]int64{{-1 << 31, 0}, {-1<<31 + 1, 999_999_999}, {-1, 0}, {-1, 1}, {-1, 999_999_999}, {0, 0}, {0, 1}, {1, 500_000_000}, {1<<31 - 1, 999_999_999}, {1 << 31, 0}, {1 << 32, 3}, {1<<32 + 1, 1}, {1 << 33, 7}} {
		for _, e := range []entry{file(fmt.Sprint("f", i), "x"), dir(fmt.Sprint("d", i)), symlink(fmt.Sprint("s", i), "x"), fifo(fmt.Sprint("p", i))} {
			times = append(times, e.at(at[0], at[1]))
		}
		times = append(times, file(fmt.Sprintf("d%d/inside", i), ""))
	}
	large := file("many", "x").at(5, 5)
	for i := range 40 {
		large = large.attr(fmt.Sprintf("user.%d", i), noise(i, i))
	}
	users := acl(0x01, 6, 0x02, 5, 1000, 0x02, 4, 70000, 0x04, 4, 0x08, 2, 3000, 0x10, 7, 0x20, 0)
	return map[string]image{
		"modes":                             one(modes...),
		"owners":                            one(owners...),
		"names of owners count for nothing": one(file("a", "").chown(12, 13).user("nobody", "nogroup"), dir("d").chown(0, 0).user("daemon", "daemon")),
		"times":                             one(times...),
		"access time":                       one(file("a", "1").accessed(1_500_000_000), fifo("b").accessed(1_700_000_000), file("c", "")),
		"far times":                         one(file("late", "").at(1<<34-1<<31, 5), file("early", "").at(-1<<33, 5)).but("times of umoci", "late: mtime=15032385535.999999999", "late: atime=15032385535.999999999"),
		"attributes": of(
			layer(
				file("f", "x").attr("user.a", "b").attr("user.empty", "").attr("user.bytes", "\x00\x01\xff=\n=").attr("trusted.t", "t").attr("security.capability", capability),
				dir("d").attr("user.d", "1").attr("trusted.d", "2"), file("d/inside", "").attr("user.i", "3"),
				symlink("s", "f").attr("trusted.s", "4"), fifo("p").attr("trusted.p", "5"), device(tar.TypeChar, "c", 1, 3).attr("security.c", "6"),
				file("keeps", "").attr("user.k", "7"), file("loses", "").attr("user.l", "8"), dir("strips").attr("user.s", "9").chmod(0o700), file("strips/f", ""),
				large,
			),
			layer(file("loses", ""), dir("strips"), dir("d").attr("user.other", "10"), dir("new").attr("security.capability", capability)),
		).but("empty attributes", `f: xattr user.empty=""`, `many: xattr user.0=""`),
		"a value of 3 KiB": one(file("f", "").attr("user.large", noise(3000, 1)).attr("user.small", "x"), dir("d").attr("user.large", noise(3000, 2))),
		"acls": one(
			file("f", "x").chmod(0o670).attr("system.posix_acl_access", users),
			dir("d").chmod(0o2775).attr("system.posix_acl_access", acl(0x01, 7, 0x04, 5, 0x08, 7, 4000, 0x10, 7, 0x20, 5)).attr("system.posix_acl_default", users),
			file("d/not-heir", "").chmod(0o600), dir("d/sub"),
		),
		"an acl and another mode":         one(file("f", "").chmod(0o4604).attr("system.posix_acl_access", users)).but("acls and modes", "f: mode=104604", fmt.Sprintf("f: xattr system.posix_acl_access=%q", acl(0x01, 6, 0x02, 5, 1000, 0x02, 4, 70000, 0x04, 4, 0x08, 2, 3000, 0x10, 0, 0x20, 4))),
		"an acl that says nothing":        one(file("f", "").chmod(0o777).attr("system.posix_acl_access", acl(0x01, 6, 0x04, 4, 0x20, 4))).but("acls and modes", "f: mode=100777"),
		"attributes of links and devices": one(symlink("s", "x").attr("user.s", "1").attr("trusted.s", "2"), fifo("p").attr("user.p", "1")).alone("attributes misplaced").have("s", `120777 0:0 target "x" trusted.s="2"`, "p", "10600 0:0"),
		"attributes of other systems":     one(file("f", "").attr("com.apple.quarantine", "x").attr("system.nfs4_acl", "x").attr("user.yes", "1")),
		"selinux":                         one(file("f", "").attr("security.selinux", "system_u:object_r:bin_t:s0\x00")).but("selinux", `f: xattr security.selinux="system_u:object_r:bin_t:s0\x00"`),
		"devices": one(
			device(tar.TypeChar, "null", 1, 3).chmod(0o666), device(tar.TypeBlock, "sda", 8, 0), device(tar.TypeChar, "big", 4095, 1<<20-1),
			device(tar.TypeBlock, "mid", 259, 70000), device(tar.TypeChar, "zero", 0, 0), device(tar.TypeBlock, "edge", 255, 256), fifo("fifo").chown(7, 8),
		),
		"a device number that is too large": one(device(tar.TypeChar, "huge", 4096, 0)).refuse(`entry "huge"`).alone("large devices"),
		"symlinks":                          one(symlink("s1", "x"), symlink("s59", strings.Repeat("x", 59)), symlink("s60", strings.Repeat("y", 60)), symlink("s4095", strings.Repeat("z/", 2047)+"z"), symlink("dangling", "/no/where"), symlink("self", "self"), symlink("bytes", "\xff\x80 \n")),
		"the root": of(
			layer(dir("./").chmod(0o711).chown(5, 6).at(7, 8).attr("user.r", "1"), file("./a", "1")),
			layer(file("b", "2")),
			layer(dir(".").chmod(0o1755).chown(0, 9).at(9, 10)),
		),
	}
}
