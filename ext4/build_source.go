package ext4

import (
	"io/fs"
	"maps"
	"slices"

	"banger/ext4/internal/xattr"
)

// sourceOf reads what FileInfo.Sys has.
func sourceOf(info fs.FileInfo) (source, error) {
	s, ok := info.Sys().(*Stat)
	if !ok {
		return systemSource(info), nil
	}
	src := source{
		uid: s.UID, gid: s.GID, major: s.Major, minor: s.Minor,
		times: true, atime: diskTime(s.Atime), ctime: diskTime(s.Ctime), mtime: diskTime(s.Mtime),
	}
	if s.Links > 1 {
		src.id = fileID{ino: uint64(s.Ino)}
	}
	attrs, err := s.Xattrs()
	for _, name := range slices.Sorted(maps.Keys(attrs)) {
		src.attrs = append(src.attrs, xattr.Attr{Name: name, Value: attrs[name]})
	}
	return src, err
}
