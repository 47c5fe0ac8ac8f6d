package layers_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"banger/ext4"
)

// facts are what a file is, each as a text: "mode" (with the type, octal), "owner",
// "mtime", "atime", "size", "content", "target", "device", "names" (all of a link group,
// of which there is more than one), and "xattr NAME". Where two views of one disk are
// compared there are "inode", "links" and "blocks", too.
type facts map[string]string

// String is the facts in a line, without the times and what only follows from the disk.
func (f facts) String() string {
	s := f["mode"] + " " + f["owner"]
	for _, k := range []string{"content", "target", "device", "names"} {
		if v, ok := f[k]; ok {
			s += " " + k + " " + v
		}
	}
	for _, k := range slices.Sorted(maps.Keys(f)) {
		if strings.HasPrefix(k, "xattr ") {
			s += " " + k[len("xattr "):] + "=" + f[k]
		}
	}
	return s
}

// tree is a file system by its paths; the root is ".".
type tree map[string]facts

// link fills in "names" from the inodes.
func (m tree) link(inodes map[string]uint64) {
	groups := map[uint64][]string{}
	for path, ino := range inodes {
		groups[ino] = append(groups[ino], path)
	}
	for _, names := range groups {
		slices.Sort(names)
		if len(names) > 1 {
			for _, n := range names {
				m[n]["names"] = fmt.Sprintf("%q", names)
			}
		}
	}
}

// set notes what all views have in common.
func (f facts) set(mode uint32, uid, gid uint32, size int64, atime, mtime time.Time) {
	f["mode"] = fmt.Sprintf("%o", mode)
	f["owner"] = fmt.Sprintf("%d:%d", uid, gid)
	f["mtime"] = stamp(mtime)
	if mode&unix.S_IFMT != unix.S_IFDIR && mode&unix.S_IFMT != unix.S_IFLNK {
		f["atime"] = stamp(atime) // of the others, looking at them changes it
	}
	if mode&unix.S_IFMT == unix.S_IFREG {
		f["size"] = fmt.Sprint(size)
	}
}

func stamp(t time.Time) string { return fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond()) }

// onHost reads a folder of the host: by the kernel. With disk it says of the inodes
// what only this file system can say.
func onHost(t testing.TB, root string, disk bool) tree {
	t.Helper()
	m, inodes := tree{}, map[string]uint64{}
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(strings.TrimPrefix(path, root), "/")
		if name == "" {
			name = "."
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		f := facts{}
		f.set(st.Mode, st.Uid, st.Gid, st.Size, time.Unix(st.Atim.Unix()), time.Unix(st.Mtim.Unix()))
		if disk {
			f["inode"], f["links"], f["blocks"] = fmt.Sprint(st.Ino), fmt.Sprint(st.Nlink), fmt.Sprint(st.Blocks)
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			r, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOATIME, 0) // another name may come
			if err != nil {
				return err
			}
			f["content"], err = content(r, st.Size)
			if err := errors.Join(err, r.Close()); err != nil {
				return err
			}
		case unix.S_IFLNK:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			f["target"] = fmt.Sprintf("%q", target)
		case unix.S_IFCHR, unix.S_IFBLK:
			f["device"] = fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			inodes[name] = st.Ino
		}
		m[name] = f
		return f.hostXattrs(path)
	})
	if err != nil {
		t.Fatal(err)
	}
	m.link(inodes)
	return m
}

func (f facts) hostXattrs(path string) error {
	list := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, list)
	if err != nil {
		return fmt.Errorf("%q: %w", path, err)
	}
	for name := range strings.SplitSeq(string(list[:n]), "\x00") {
		if name == "" {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return fmt.Errorf("%q: %s: %w", path, name, err)
		}
		f["xattr "+name] = fmt.Sprintf("%q", value[:n])
	}
	return nil
}

// inImage reads a disk with our own reader.
func inImage(t testing.TB, im *ext4.Image) tree {
	t.Helper()
	m, inodes := tree{}, map[string]uint64{}
	err := fs.WalkDir(im, ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := im.Lstat(name)
		if err != nil {
			return err
		}
		st := info.Sys().(*ext4.Stat)
		f := facts{}
		f.set(uint32(st.Mode), st.UID, st.GID, st.Size, st.Atime, st.Mtime)
		f["inode"], f["links"], f["blocks"] = fmt.Sprint(st.Ino), fmt.Sprint(st.Links), fmt.Sprint(st.Blocks)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			r, err := im.Open(name)
			if err != nil {
				return err
			}
			if f["content"], err = content(r.(io.ReaderAt), st.Size); err != nil {
				return err
			}
		case unix.S_IFLNK:
			f["target"] = fmt.Sprintf("%q", st.Target)
		case unix.S_IFCHR, unix.S_IFBLK:
			f["device"] = fmt.Sprintf("%d:%d", st.Major, st.Minor)
		}
		if !info.IsDir() {
			inodes[name] = uint64(st.Ino)
		}
		attrs, err := st.Xattrs()
		if err != nil {
			return err
		}
		for k, v := range attrs {
			f["xattr "+k] = fmt.Sprintf("%q", v)
		}
		m[name] = f
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	m.link(inodes)
	return m
}

// content is a short file as it is, and the digest of a longer one. Of one that is
// too long to read, pieces count.
func content(r io.ReaderAt, size int64) (string, error) {
	if size <= 40 {
		b := make([]byte, size)
		_, err := r.ReadAt(b, 0)
		if size == 0 || errors.Is(err, io.EOF) {
			err = nil
		}
		return fmt.Sprintf("%q", b), err
	}
	const most = 64 << 20
	h := sha256.New()
	if size <= most {
		n, err := io.Copy(h, io.NewSectionReader(r, 0, size))
		return fmt.Sprintf("%d bytes %x", n, h.Sum(nil)[:8]), err
	}
	for i := range int64(64) {
		if _, err := io.Copy(h, io.NewSectionReader(r, size/64*i, 64<<10)); err != nil {
			return "", err
		}
	}
	_, err := io.Copy(h, io.NewSectionReader(r, size-64<<10, 64<<10))
	return fmt.Sprintf("pieces %x", h.Sum(nil)[:8]), err
}

// difference is a fact that is not the same in two trees. A field of "" is the whole
// file, which one of them lacks.
type difference struct{ path, field, one, other string }

func (d difference) String() string {
	return fmt.Sprintf("%q %s: %s and %s", d.path, d.field, d.one, d.other)
}

const missing = "nothing"

// compare returns how two trees differ, in order.
func compare(one, other tree) (all []difference) {
	for _, path := range slices.Sorted(maps.Keys(union(one, other))) {
		a, b := one[path], other[path]
		switch {
		case a == nil:
			all = append(all, difference{path, "", missing, b.String()})
			continue
		case b == nil:
			all = append(all, difference{path, "", a.String(), missing})
			continue
		}
		for _, field := range slices.Sorted(maps.Keys(union(a, b))) {
			va, okA := a[field]
			vb, okB := b[field]
			if !okA {
				va = missing
			}
			if !okB {
				vb = missing
			}
			if va != vb {
				all = append(all, difference{path, field, va, vb})
			}
		}
	}
	return all
}

func union[M ~map[string]V, V any](a, b M) map[string]bool {
	all := map[string]bool{}
	for k := range a {
		all[k] = true
	}
	for k := range b {
		all[k] = true
	}
	return all
}
