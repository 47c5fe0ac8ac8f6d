package ext4

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/base/testneed"
)

var cloneUUID = [16]byte{0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0x4d, 0xef, 0x81, 2, 3, 4, 5, 6, 7, 8}

const cloneUUIDText = "12345678-9abc-4def-8102-030405060708"

// backupsOf lists the superblocks of an image, by dumpe2fs.
func backupsOf(t *testing.T, path string) (list []map[string]string) {
	sb := openImage(t, path).v.sb
	for _, g := range append([]uint32{0}, backupGroups(sb)...) {
		m := map[string]string{}
		args := []string{"-h", path}
		if g > 0 {
			args = []string{"-h", "-o", "superblock=" + fmt.Sprint(sb.GroupStart(g)), "-o", "blocksize=" + fmt.Sprint(sb.BlockSize()), path}
		}
		for _, line := range strings.Split(testneed.Run(t, "dumpe2fs", args...), "\n") {
			k, v, _ := strings.Cut(line, ":")
			m[k] = strings.TrimSpace(v)
		}
		list = append(list, m)
	}
	return list
}

func TestSetUUIDAndLabel(t *testing.T) {
	for _, c := range []struct {
		name, args string
		refused    string
	}{
		{"seed", "-t ext4 -b 1024 -O metadata_csum_seed", ""},
		{"meta_bg", "-t ext4 -b 1024 -O metadata_csum_seed,meta_bg,^resize_inode", ""},
		{"ext3", "-t ext3 -b 1024", ""},
		{"nojournal", "-t ext2 -b 4096", ""},
		{"sums", "-t ext4 -b 1024", "metadata_csum_seed"},
		{"uninit", "-t ext4 -b 1024 -O ^metadata_csum,uninit_bg", "uninit_bg"},
		{"stable", "-t ext4 -b 1024 -O metadata_csum_seed,stable_inodes", "stable_inodes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			path := mkfsImage(t, c.args, 100)
			plantFiles(t, path)
			want := treeOf(t, path)
			must(t, resized(t, path, func(f *os.File) error { return SetLabel(f, "a new label, 16B") }))
			quiet(t, path)
			err := resized(t, path, func(f *os.File) error { return SetUUID(f, cloneUUID) })
			if c.refused != "" {
				var why *UUIDError
				if !errors.As(err, &why) || !strings.Contains(err.Error(), c.refused) {
					t.Fatal(err)
				}
				quiet(t, path)
				return
			}
			must(t, err)
			quiet(t, path)
			for i, m := range backupsOf(t, path) {
				if m["Filesystem UUID"] != cloneUUIDText || m["Filesystem volume name"] != "a new label, 16B" {
					t.Errorf("superblock %d: %q %q", i, m["Filesystem UUID"], m["Filesystem volume name"])
				}
			}
			if d := treeOf(t, path).diff(want); d != "" {
				t.Error(d)
			}
			// The journal works all the same, ours and the kernel's.
			plantFiles(t, path)
			grow(t, path, 300<<20)
			quiet(t, path)
		})
	}
}

// A clone and its original are mounted at once, and a clone that crashes is recovered:
// nobody minds that the journal has the old UUID.
func TestCloneIsMounted(t *testing.T) {
	t.Parallel()
	testneed.Loop(t)
	path := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(path)
	must(t, err)
	must(t, Format(f, &Options{Size: 64 << 20, UUID: [16]byte{1, 2, 3}}))
	f.Close()
	plantFiles(t, path)
	clone, crashed := testneed.Copy(t, path), filepath.Join(t.TempDir(), "crashed")
	must(t, resized(t, clone, func(f *os.File) error { return SetUUID(f, cloneUUID) }))
	testneed.Mounted(t, path, "", func(string) {
		testneed.Mounted(t, clone, "", func(root string) {
			must(t, os.WriteFile(filepath.Join(root, "written"), pattern(2, 100_000), 0o600))
			testneed.Run(t, "sync", "-f", root)
			testneed.Run(t, "cp", "--sparse=always", clone, crashed)
		})
	})
	quiet(t, clone)
	ours := testneed.Copy(t, crashed)
	session(t, ours, func(x *Tx) { must(t, x.Chmod("/written", 0o640)) })
	quiet(t, ours)
	testneed.Mounted(t, crashed, "", func(root string) {
		if b, err := os.ReadFile(filepath.Join(root, "written")); err != nil || len(b) != 100_000 {
			t.Error(err, len(b))
		}
	})
	quiet(t, crashed)
}

func TestSetUUIDRefusals(t *testing.T) {
	t.Parallel()
	path := mkfsImage(t, "-t ext3 -b 1024", 16)
	var why *UUIDError
	if err := resized(t, path, func(f *os.File) error { return SetUUID(f, [16]byte{}) }); !errors.As(err, &why) {
		t.Error(err)
	}
	for _, label := range []string{"seventeen bytes..", "a\x00b"} {
		if err := resized(t, path, func(f *os.File) error { return SetLabel(f, label) }); err == nil {
			t.Errorf("%q", label)
		}
	}
	must(t, resized(t, path, func(f *os.File) error { return SetLabel(f, "") }))
	quiet(t, path)
}
