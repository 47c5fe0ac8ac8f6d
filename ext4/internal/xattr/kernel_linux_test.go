package xattr

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"banger/internal/base/testneed"
)

// capability is a struct vfs_cap_data of revision 2 with CAP_NET_RAW permitted and
// effective (include/uapi/linux/capability.h).
var capability = []byte{1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

// example is a file's attributes, in the order in which the kernel gets them. If
// same is set, that is also our order, and the bytes must be equal.
type example struct {
	name  string
	attrs []Attr
	same  bool
}

// examples for inodes with the given capacity for entries, and for such a block.
func examples(inodeCap, blockCap int) []example {
	var many []Attr
	for i := range min(80, blockCap/40) {
		many = append(many, Attr{fmt.Sprintf("user.k%03d", i), fmt.Appendf(nil, "value %d", i)})
	}
	return []example{
		{"small", []Attr{{"user.a", []byte("b")}}, true},
		{"empty", []Attr{{"user.a", nil}, sized("user.b", inodeCap-40), {"user.c", nil}, {"user.dd", []byte{0}}}, true},
		{"many", many, true},
		{"bytes", []Attr{sized("user.a", inodeCap-20), {"user.h\xc3\xb6he", []byte("v\x00\xff")},
			{"user.\xff\xfe\x80", []byte("12345")}, {"trusted.overlay.opaque", []byte("y")},
			{"security.selinux", []byte("system_u:object_r:bin_t:s0\x00")}, {"gnu.translator", []byte("/hurd/x\x00")}}, false},
		{"exact", []Attr{sized("user.a", inodeCap-20), sized("user.b", blockCap-20)}, true},
		{"longest", []Attr{sized("user.a", inodeCap-20), sized("user."+strings.Repeat("n", 250), 1),
			sized("trusted."+strings.Repeat("n", 247), 2)}, true},
		{"mixed", []Attr{sized("user.comment", 101), {"security.capability", capability},
			{"system.posix_acl_access", testACL}, sized("trusted.x", 500)}, false},
		{"dir", []Attr{{"trusted.overlay.opaque", []byte("y")},
			{"system.posix_acl_default", userACL(owner, user1, group, group1, mask, others)},
			{"system.posix_acl_access", testACL}}, false},
	}
}

func TestKernel(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
	}{
		{"4096,256,csum", []string{"-b", "4096", "-I", "256", "-O", "metadata_csum,64bit"}},
		{"1024,256,plain", []string{"-b", "1024", "-I", "256", "-O", "^metadata_csum,^64bit"}},
		{"2048,512,csum", []string{"-b", "2048", "-I", "512", "-O", "metadata_csum"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			im := makeImage(t, c.args...)
			inodeCap := im.inodeSize - 128 - 32 - magicSize - endSize
			blockCap := im.blockSize - headerSize - endSize
			numbers := map[string]uint32{}
			all := examples(inodeCap, blockCap)
			im.mounted(t, "", func(dir string) {
				for _, e := range all {
					path := filepath.Join(dir, e.name)
					create(t, path, e.name == "dir")
					for _, a := range e.attrs {
						if err := syscall.Setxattr(path, a.Name, a.Value, 0); err != nil {
							t.Fatalf("%s: %q: %v", e.name, a.Name, err)
						}
					}
					numbers[e.name] = inodeNumber(t, path)
				}
				overfull(t, dir, inodeCap, blockCap)
			})
			for _, e := range all {
				t.Run(e.name, func(t *testing.T) { kernelWrote(t, im, numbers[e.name], e) })
			}
			for _, e := range all {
				inode, block, err := Encode(e.attrs, len(area(im.inode(numbers[e.name]))), im.blockSize)
				if err != nil {
					t.Fatal(e.name, err)
				}
				im.replace(t, numbers[e.name], inode, block)
			}
			im.write(t)
			testneed.Fsck(t, im.path)
			im.mounted(t, "ro", func(dir string) {
				for _, e := range all {
					if got, want := getAll(t, filepath.Join(dir, e.name)), asMap(e.attrs); !maps.Equal(got, want) {
						t.Errorf("%s: the kernel reads %q\nwant %q", e.name, got, want)
					}
				}
			})
			// The kernel must also be able to change what we wrote.
			im.mounted(t, "", func(dir string) {
				for _, e := range all {
					path := filepath.Join(dir, e.name)
					if err := syscall.Removexattr(path, e.attrs[0].Name); err != nil {
						t.Errorf("%s: %v", e.name, err)
					}
					if err := syscall.Setxattr(path, "user.0", []byte("1"), 0); err != nil {
						t.Errorf("%s: %v", e.name, err)
					}
				}
			})
			testneed.Fsck(t, im.path)
		})
	}
}

func create(t *testing.T, path string, dir bool) {
	t.Helper()
	err := error(nil)
	if dir {
		err = os.Mkdir(path, 0o755)
	} else {
		err = os.WriteFile(path, []byte("x"), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// overfull: a byte more than fits is refused by the kernel and by us.
func overfull(t *testing.T, dir string, inodeCap, blockCap int) {
	t.Helper()
	path := filepath.Join(dir, "overfull")
	create(t, path, false)
	a, b := sized("user.a", inodeCap-20), sized("user.b", blockCap-20+1)
	if err := syscall.Setxattr(path, a.Name, a.Value, 0); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setxattr(path, b.Name, b.Value, 0); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("the kernel says %v", err)
	}
	if _, _, err := Encode([]Attr{a, b}, inodeCap+8, blockCap+headerSize+endSize); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
}

func kernelWrote(t *testing.T, im *image, number uint32, e example) {
	inode := im.inode(number)
	block, n := im.block(inode)
	if got, want := decodeAll(t, area(inode), block), asMap(e.attrs); !maps.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	if block != nil && im.csum && !VerifyBlockChecksum(block, im.seed, n) {
		t.Error("the kernel's checksum does not verify")
	}
	if block != nil {
		checkHashes(t, block)
	}
	if !e.same {
		return
	}
	i2, b2, err := Encode(e.attrs, len(area(inode)), im.blockSize)
	if err != nil {
		t.Fatal(err)
	}
	if b2 != nil && im.csum {
		SetBlockChecksum(b2, im.seed, n)
	}
	sameBytes(t, "inode", i2, area(inode))
	sameBytes(t, "block", b2, block)
}

// sameBytes shows the first difference only: a block is long.
func sameBytes(t *testing.T, what string, ours, kernels []byte) {
	t.Helper()
	if len(ours) != len(kernels) {
		t.Errorf("%s: %d bytes, the kernel's %d", what, len(ours), len(kernels))
		return
	}
	for i := range ours {
		if ours[i] != kernels[i] {
			end := min(i+32, len(ours))
			t.Errorf("%s at %d: % x, the kernel's % x", what, i, ours[i:end], kernels[i:end])
			return
		}
	}
}

// checkHashes compares the hashes in a block of the kernel's with ours.
func checkHashes(t *testing.T, block []byte) {
	t.Helper()
	raws, _, err := ParseBlock(block)
	if err != nil {
		t.Fatal(err)
	}
	var hashes []uint32
	pos := headerSize
	for _, r := range raws {
		h := hashEntry(r.Name, r.Value)
		if got := le.Uint32(block[pos+12:]); got != h {
			t.Errorf("e_hash of %q is %#x, ours %#x", r.Name, got, h)
		}
		hashes = append(hashes, h)
		pos += entrySize + pad4(len(r.Name))
	}
	if got := le.Uint32(block[hdrHash:]); got != hashBlock(hashes) {
		t.Errorf("h_hash is %#x, ours %#x", got, hashBlock(hashes))
	}
}

// TestKernelACLs: the kernel refuses what we refuse, but for what it takes as a removal.
func TestKernelACLs(t *testing.T) {
	im := makeImage(t, "-b", "4096")
	tags := []uint16{tagUserObj, tagUser, tagGroupObj, tagGroup, tagMask, tagOther, 0x40}
	im.mounted(t, "", func(dir string) {
		path := filepath.Join(dir, "d")
		create(t, path, true)
		// All sequences of up to five entries.
		for n := range 7 * 7 * 7 * 7 * 7 {
			var entries []aclEntry
			for k := n; k > 0; k /= 7 {
				entries = append(entries, aclEntry{tags[k%7], uint16(n % 9 % 8), 5})
			}
			if len(entries) == 0 {
				continue
			}
			acl := userACL(entries...)
			kernel := syscall.Setxattr(path, "system.posix_acl_default", acl, 0)
			_, ours := aclToDisk(acl)
			if (kernel == nil) != (ours == nil) {
				t.Fatalf("%v: the kernel says %v, we say %v", entries, kernel, ours)
			}
		}
	})
}

// TestKernelFeatures: values in inodes of their own, and inline data.
func TestKernelFeatures(t *testing.T) {
	im := makeImage(t, "-b", "4096", "-I", "256", "-O", "ea_inode,inline_data")
	content := []byte(strings.Repeat("0123456789", 10))
	var big, inline uint32
	im.mounted(t, "", func(dir string) {
		path := filepath.Join(dir, "big")
		create(t, path, false)
		if err := syscall.Setxattr(path, "user.big", bytes.Repeat([]byte("b"), 5000), 0); err != nil {
			t.Fatal(err)
		}
		big = inodeNumber(t, path)
		path = filepath.Join(dir, "inline")
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		inline = inodeNumber(t, path)
	})
	i := im.inode(big)
	raws, err := ParseInode(area(i))
	if err != nil {
		t.Fatal(err)
	}
	if block, _ := im.block(i); block != nil {
		more, _, err := ParseBlock(block)
		if err != nil {
			t.Fatal(err)
		}
		raws = append(raws, more...)
	}
	found := false
	for _, r := range raws {
		found = found || r.Name == "big" && r.ValueInode != 0 && r.Size == 5000 && r.Value == nil
	}
	if !found {
		t.Errorf("user.big: %v", raws)
	}
	i = im.inode(inline)
	raws, err = ParseInode(area(i))
	if err != nil || len(raws) != 1 || !raws[0].IsInlineData() {
		t.Fatal(raws, err)
	}
	if got := append(bytes.Clone(i[40:100]), raws[0].Value...); !bytes.Equal(got[:len(content)], content) {
		t.Errorf("inline data %q", got)
	}
	// We can write it too, as it is where the kernel looks for it.
	a, err := Decode(raws[0])
	if err != nil {
		t.Fatal(err)
	}
	inode, _, err := Encode([]Attr{{"user.x", []byte("y")}, a}, len(area(i)), im.blockSize)
	if err != nil {
		t.Fatal(err)
	}
	im.replace(t, inline, inode, nil)
	im.write(t)
	testneed.Fsck(t, im.path)
	im.mounted(t, "ro", func(dir string) {
		got, err := os.ReadFile(filepath.Join(dir, "inline"))
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("the kernel reads %q, %v", got, err)
		}
		if got := getAll(t, filepath.Join(dir, "inline")); got["user.x"] != "y" || len(got) != 1 {
			t.Errorf("the kernel reads %q", got)
		}
	})
}
