package ext4

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
)

// treeLines is all that can be seen of a tree: a line for each path.
type treeLines map[string]string

// manifestOf reads a tree through our reader. Inode numbers are not in it, but
// which names are one file is.
func manifestOf(im *Image) (treeLines, error) {
	m := make(treeLines)
	first := make(map[uint32]string)
	err := fs.WalkDir(im, ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := im.Lstat(path)
		if err != nil {
			return err
		}
		s := info.Sys().(*Stat)
		attrs, err := s.Xattrs()
		if err != nil {
			return err
		}
		l := line{mode: s.Mode, uid: s.UID, gid: s.GID, links: uint32(s.Links), mtime: s.Mtime.UnixNano(), attrs: attrs,
			major: s.Major, minor: s.Minor, target: s.Target}
		if info.Mode().IsRegular() {
			b, err := im.ReadFile(path)
			if err != nil {
				return err
			}
			l.size, l.hash = int64(len(b)), sha256.Sum256(b)
		}
		if s.Links > 1 && !info.IsDir() {
			if first[s.Ino] == "" {
				first[s.Ino] = path
			}
			l.same = first[s.Ino]
		}
		m[path] = l.String()
		return nil
	})
	return m, err
}

// line is what a treeLines has of a file.
type line struct {
	mode         uint16
	uid, gid     uint32
	links        uint32
	size         int64
	mtime        int64
	hash         [32]byte
	target, same string
	major, minor uint32
	attrs        map[string][]byte
}

func (l line) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%#o %d:%d links=%d", l.mode, l.uid, l.gid, l.links)
	switch l.mode & 0xf000 {
	case 0x8000:
		fmt.Fprintf(&b, " size=%d %x", l.size, l.hash[:6])
	case 0xa000:
		fmt.Fprintf(&b, " -> %q", l.target)
	case 0x2000, 0x6000:
		fmt.Fprintf(&b, " %d:%d", l.major, l.minor)
	}
	if l.same != "" {
		fmt.Fprintf(&b, " is %s", l.same)
	}
	if l.mtime != 0 {
		fmt.Fprintf(&b, " at %d", l.mtime)
	}
	for _, k := range slices.Sorted(maps.Keys(l.attrs)) {
		fmt.Fprintf(&b, " %s=%x", k, l.attrs[k])
	}
	return b.String()
}

// diff says where two manifests differ; "" if nowhere.
func (m treeLines) diff(want treeLines) string {
	var b strings.Builder
	for _, p := range slices.Sorted(maps.Keys(want)) {
		if m[p] != want[p] {
			fmt.Fprintf(&b, "%s\n  is   %s\n  want %s\n", p, m[p], want[p])
		}
	}
	for _, p := range slices.Sorted(maps.Keys(m)) {
		if _, ok := want[p]; !ok {
			fmt.Fprintf(&b, "%s should not be there\n", p)
		}
	}
	return b.String()[:min(b.Len(), 4000)]
}

func mustManifest(t testing.TB, im *Image) treeLines {
	t.Helper()
	m, err := manifestOf(im)
	if err != nil {
		t.Fatal(err)
	}
	return m
}
