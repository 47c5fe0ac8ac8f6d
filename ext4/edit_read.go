package ext4

import (
	"errors"
	"io/fs"
	"math"
)

// What follows reads the file system as it will be after Commit. Paths are those of
// Tx, not those of package fs.

// FS returns the file system as it will be after Commit, as an fs.FS. It must not be
// used while a method of Tx runs, nor after Commit or Close.
func (t *Tx) FS() *Image { return &Image{v: t.v, size: math.MaxInt64} }

// Exists says whether a path leads to something, following links. An error is one
// of reading, not that there is nothing.
func (t *Tx) Exists(path string) (bool, error) {
	_, err := t.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Stat describes a file, following links. Sys of the result is a *Stat.
func (t *Tx) Stat(path string) (fs.FileInfo, error) { return t.stat("stat", path, true) }

// Lstat is Stat for a symbolic link itself.
func (t *Tx) Lstat(path string) (fs.FileInfo, error) { return t.stat("lstat", path, false) }

func (t *Tx) stat(op, path string, follow bool) (fs.FileInfo, error) {
	ino, err := t.resolve(path, follow)
	if err != nil {
		return nil, pathError(op, path, err)
	}
	_, base := splitPath(path)
	if base == "" {
		base = "/"
	}
	info, err := t.v.info(base, ino)
	if err != nil {
		return nil, pathError(op, path, err)
	}
	return info, nil
}

// ReadDir returns the entries of a directory, sorted by name, following links.
func (t *Tx) ReadDir(path string) ([]fs.DirEntry, error) {
	ino, err := t.resolve(path, true)
	if err != nil {
		return nil, pathError("readdir", path, err)
	}
	list, err := t.v.readDir(ino)
	return list, pathError("readdir", path, err)
}

// ReadFile returns the contents of a regular file, following links.
func (t *Tx) ReadFile(path string) ([]byte, error) {
	ino, err := t.resolve(path, true)
	if err != nil {
		return nil, pathError("read", path, err)
	}
	i, raw, err := t.v.live(ino)
	if err != nil {
		return nil, pathError("read", path, err)
	}
	if i.IsDir() {
		return nil, pathError("read", path, errIsDir)
	}
	if !i.IsRegular() {
		return []byte{}, nil
	}
	r, err := t.v.fileReader(ino, &i, raw)
	if err != nil {
		return nil, pathError("read", path, err)
	}
	if r.size > maxHollow && uint64(r.size) > t.v.sb.Blocks()*uint64(t.v.bs) {
		return nil, pathError("read", path, errTooBig)
	}
	b := make([]byte, r.size)
	if len(b) > 0 {
		if n, err := r.ReadAt(b, 0); n < len(b) {
			return b[:n], pathError("read", path, err)
		}
	}
	return b, nil
}

// ReadLink returns the target of a symbolic link, as it is stored.
func (t *Tx) ReadLink(path string) (string, error) {
	ino, err := t.resolve(path, false)
	if err != nil {
		return "", pathError("readlink", path, err)
	}
	i, raw, err := t.v.live(ino)
	if err != nil {
		return "", pathError("readlink", path, err)
	}
	target, err := t.v.readLink(ino, &i, raw)
	return target, pathError("readlink", path, err)
}

// Xattrs returns the extended attributes of a file; a link at the end of the path is
// not followed. See Stat.Xattrs.
func (t *Tx) Xattrs(path string) (map[string][]byte, error) {
	ino, err := t.resolve(path, false)
	if err != nil {
		return nil, pathError("getxattr", path, err)
	}
	m, err := (&Stat{Ino: ino, v: t.v}).Xattrs()
	return m, pathError("getxattr", path, err)
}

func (t *Tx) resolve(path string, follow bool) (uint32, error) {
	if t.done {
		return 0, ErrClosed
	}
	return t.v.resolve(path, follow)
}
