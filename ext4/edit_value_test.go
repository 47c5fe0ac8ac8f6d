package ext4

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"banger/internal/base/testneed"
)

// valueInodes counts the inodes that hold values.
func valueInodes(t testing.TB, path string) (n int) {
	t.Helper()
	v := openImage(t, path).v
	for ino := v.sb.FirstIno; ino <= v.sb.InodesCount; ino++ {
		if i, _, err := v.inode(ino); err == nil && i.Links > 0 && i.Flags&0x200000 != 0 {
			n++
		}
	}
	return n
}

// eaImage makes files /f0, /f1, … with an attribute in an inode of its own each.
func eaImage(t testing.TB, args string, files int) string {
	t.Helper()
	path := mkfsImage(t, args, 32)
	session(t, path, func(x *Tx) {
		for i := range files {
			must(t, x.WriteFile(fmt.Sprintf("/f%d", i), strings.NewReader("x"), Attr{Mode: 0o644}))
		}
	})
	value := t.TempDir() + "/value"
	for i := range files {
		must(t, os.WriteFile(value, pattern(i, 3000), 0o600))
		testneed.Run(t, "debugfs", "-w", "-R", fmt.Sprintf("ea_set -f %s /f%d user.large", value, i), path)
	}
	// debugfs does not count their blocks.
	testneed.Status(t, "e2fsck", "-fy", path)
	quiet(t, path)
	if n := valueInodes(t, path); n != files {
		t.Fatalf("%d inodes of values", n)
	}
	return path
}

// Attributes in inodes of their own stay there, and go with what has them.
func TestEAInode(t *testing.T) {
	t.Parallel()
	for _, args := range []string{"-t ext4 -b 1024 -O ea_inode", "-t ext4 -b 1024 -O ea_inode,inline_data -I 512", "-t ext4 -b 1024 -O ea_inode,^metadata_csum -I 128"} {
		path := eaImage(t, args, 5)
		left := func(want int) {
			t.Helper()
			quiet(t, path)
			checkClean(t, path)
			if n := valueInodes(t, path); n != want {
				t.Errorf("%s: %d inodes of values, want %d", args, n, want)
			}
		}
		has := func(x *Tx, name string, attrs ...string) {
			t.Helper()
			m, err := x.Xattrs(name)
			if err != nil || len(m) != len(attrs) {
				t.Fatalf("%s: %d attributes, %v", name, len(m), err)
			}
			for _, a := range attrs {
				if _, ok := m[a]; !ok {
					t.Errorf("%s has no %s", name, a)
				}
			}
			// debugfs takes a block of a value at most.
			if v, ok := m["user.large"]; ok && name != "/f4" && (len(v) < 1000 || !bytes.HasPrefix(pattern(int(name[2]-'0'), 3000), v)) {
				t.Errorf("%s has another value, of %d bytes", name, len(v))
			}
		}
		session(t, path, func(x *Tx) {
			must(t, x.SetXattr("/f0", "user.b", pattern(1, 300)))
			must(t, x.SetXattr("/f0", "user.c", nil))
			must(t, x.Chmod("/f0", 0o600))
			must(t, x.WriteFile("/f0", strings.NewReader(strings.Repeat("other", 2000)), Attr{Mode: 0o644}))
			must(t, x.Rename("/f0", "/g0"))
			must(t, x.Rename("/g0", "/f0"))
			has(x, "/f0", "user.large", "user.b", "user.c")
		})
		left(5)
		session(t, path, func(x *Tx) {
			must(t, x.RemoveXattr("/f0", "user.b"))
			must(t, x.RemoveXattr("/f0", "user.large"))
			has(x, "/f0", "user.c")
			must(t, x.Remove("/f1"))
			must(t, x.Rename("/f0", "/f2"))
		})
		left(2)
		session(t, path, func(x *Tx) {
			must(t, x.SetXattr("/f4", "user.large", []byte("small")))
			has(x, "/f3", "user.large")
			has(x, "/f4", "user.large")
		})
		left(1)
		// What would not fit leaves all as it was.
		session(t, path, func(x *Tx) {
			if err := x.SetXattr("/f3", "user.large", pattern(7, 3000)); err == nil {
				t.Error("3000 bytes fit into a block of 1024")
			}
			has(x, "/f3", "user.large")
			must(t, x.Mkdir("/new", Attr{}))
		})
		left(1)
		session(t, path, func(x *Tx) { must(t, x.Remove("/f3")) })
		left(0)
	}
}

// Damage to what counts references is an error, with nothing changed.
func TestEAInodeDamage(t *testing.T) {
	t.Parallel()
	path := eaImage(t, "-t ext4 -b 1024 -O ea_inode,^metadata_csum", 2)
	v := openImage(t, path).v
	var value uint32
	for ino := v.sb.FirstIno; value == 0; ino++ {
		if i, _, err := v.inode(ino); err == nil && i.Flags&0x200000 != 0 {
			value = ino
		}
	}
	good, err := os.ReadFile(path)
	must(t, err)
	for name, change := range map[string]func(inode []byte, p *patchedImage){
		"no count":  func(b []byte, _ *patchedImage) { le.PutUint32(b[0x24:], 0) },
		"no value":  func(b []byte, _ *patchedImage) { b[0x22] &^= 0x20 },
		"directory": func(b []byte, _ *patchedImage) { b[1] = 0x41 },
		"own block": func(b []byte, p *patchedImage) { le.PutUint32(b[0x68:], uint32(p.first("/f1"))) },
		"of Lustre": func(b []byte, p *patchedImage) {
			le.PutUint32(b[0x10:], p.ino("/f0"))
			copy(b[0x64:0x68], p.inode("/f0")[0x64:])
		},
		"no such map": func(b []byte, _ *patchedImage) { le.PutUint32(b[0x28+0x14:], 1<<30) },
	} {
		b := bytes.Clone(good)
		p := patchImage(t, b)
		change(p.inode(fmt.Sprintf("<%d>", value)), p)
		r := newRecorder(b)
		x, err := Edit(r, int64(len(b)), &testOptions)
		must(t, err)
		for what, err := range map[string]error{"remove": x.Remove("/f0"), "attribute": x.RemoveXattr("/f0", "user.large")} {
			if !errors.Is(err, ErrCorrupt) && !isFeature("ea_inode")(err) {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
		must(t, x.Commit())
		if len(r.writes) > 0 {
			t.Errorf("%s: %d writes", name, len(r.writes))
		}
	}
}

// A name for the inode of a value is damage, and nothing is done to it.
func TestEAInodeWithAName(t *testing.T) {
	t.Parallel()
	path := eaImage(t, "-t ext4 -b 1024 -O ea_inode", 1)
	v := openImage(t, path).v
	for ino := v.sb.FirstIno; ino <= v.sb.InodesCount; ino++ {
		if i, _, err := v.inode(ino); err == nil && i.Flags&0x200000 != 0 {
			testneed.Run(t, "debugfs", "-w", "-R", fmt.Sprintf("ln <%d> /named", ino), path)
		}
	}
	x := begin(t, path)
	defer x.Close()
	if err := x.Remove("/named"); !errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
}
