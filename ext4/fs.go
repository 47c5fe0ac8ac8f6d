package ext4

import (
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"banger/ext4/internal/dir"
	"banger/ext4/internal/disk"
)

// file is an open file or directory.
type file struct {
	im   *Image
	name string // as it was opened
	info fileInfo
	data *fileReader // of a regular file, else nil

	mu   sync.Mutex
	pos  int64
	list []fs.DirEntry // what ReadDir has still to give
	err  error         // after list
	read bool          // list and err are set
}

func (im *Image) open(name string) (*file, error) {
	ino, err := im.resolve(name, true)
	if err != nil {
		return nil, err
	}
	i, raw, err := im.v.live(ino)
	if err != nil {
		return nil, err
	}
	f := &file{im: im, name: name, info: fileInfo{baseName(name), im.v.stat(ino, &i, raw)}}
	switch {
	case i.IsRegular():
		f.data, err = im.v.fileReader(ino, &i, raw)
	case i.IsDir():
		err = refused(&i)
	}
	return f, err
}

func (f *file) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *file) Close() error               { return nil }

// Size is the length of the content in bytes.
func (f *file) Size() int64 {
	if f.data == nil {
		return 0
	}
	return f.data.size
}

func (f *file) Read(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(p) == 0 && !f.info.IsDir() {
		return 0, nil
	}
	n, err := f.ReadAt(p, f.pos)
	f.pos += int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	switch {
	case f.info.IsDir():
		return 0, pathError("read", f.name, errIsDir)
	case off < 0:
		return 0, pathError("read", f.name, fs.ErrInvalid)
	case f.data == nil:
		return 0, io.EOF
	}
	n, err := f.data.ReadAt(p, off)
	if err != io.EOF {
		err = pathError("read", f.name, err)
	}
	return n, err
}

func (f *file) Seek(offset int64, whence int) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += f.pos
	case io.SeekEnd:
		offset += f.Size()
	default:
		return 0, pathError("seek", f.name, fs.ErrInvalid)
	}
	if offset < 0 || f.info.IsDir() && offset != 0 {
		return 0, pathError("seek", f.name, fs.ErrInvalid)
	}
	f.pos = offset
	if f.info.IsDir() {
		f.list, f.err, f.read = nil, nil, false
	}
	return offset, nil
}

// copyBuffer is how much WriteTo reads at once, in bytes.
const copyBuffer = 1 << 20

// WriteTo implements io.WriterTo: io.Copy reads in large pieces.
func (f *file) WriteTo(w io.Writer) (written int64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := make([]byte, min(copyBuffer, max(f.Size()-f.pos, 1)))
	for {
		n, err := f.ReadAt(b, f.pos)
		m, werr := w.Write(b[:n])
		f.pos, written = f.pos+int64(m), written+int64(m)
		if werr == nil && m < n {
			werr = io.ErrShortWrite
		}
		if werr != nil || err != nil {
			if werr == nil && err == io.EOF {
				return written, nil
			}
			return written, errors.Join(werr, err)
		}
	}
}

// ReadDir implements fs.ReadDirFile. The first call reads the whole directory.
func (f *file) ReadDir(n int) ([]fs.DirEntry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.info.IsDir() {
		return nil, pathError("readdir", f.name, errNotDir)
	}
	if !f.read {
		f.read = true
		f.list, f.err = f.im.ReadDir(f.name)
	}
	if n <= 0 {
		list, err := f.list, f.err
		f.list, f.err = nil, nil
		return list, err
	}
	if len(f.list) == 0 {
		err := f.err
		if f.err = nil; err == nil {
			err = io.EOF
		}
		return nil, err
	}
	n = min(n, len(f.list))
	list := f.list[:n:n]
	f.list = f.list[n:]
	return list, nil
}

// dirEntry is an entry of a directory. What its inode says is read when asked for.
type dirEntry struct {
	v    *volume
	name string
	ino  uint32
	mode fs.FileMode // the type
}

func (e *dirEntry) Name() string      { return e.name }
func (e *dirEntry) IsDir() bool       { return e.mode.IsDir() }
func (e *dirEntry) Type() fs.FileMode { return e.mode }
func (e *dirEntry) String() string    { return fs.FormatDirEntry(e) }
func (e *dirEntry) Info() (fs.FileInfo, error) {
	info, err := e.v.info(e.name, e.ino)
	if err != nil {
		return nil, pathError("lstat", e.name, err)
	}
	return info, nil
}

// readDir lists a directory, sorted by name, and what could be read before an
// error. Two entries for one directory are damage; only the first is listed, so
// that a walk does not enter it twice.
func (v *volume) readDir(ino uint32) ([]fs.DirEntry, error) {
	i, _, err := v.live(ino)
	if err != nil {
		return nil, err
	}
	var entries []dirEntry
	var damage error
	dirs := make(map[uint32]bool)
	walk := v.walkDir(ino, &i, func(e dir.Entry) error {
		if e.Name == "." || e.Name == ".." {
			return nil
		}
		if e.Ino > v.sb.InodesCount {
			damage = disk.Corrupt("the entry %q of directory %d names inode %d", e.Name, ino, e.Ino)
			return nil
		}
		d := dirEntry{v, e.Name, e.Ino, typeMode(e.Type)}
		if d.mode == fs.ModeIrregular { // no type in the entry: the inode has it
			if c, _, err := v.live(e.Ino); err == nil {
				d.mode = fileMode(c.Mode).Type()
			}
		}
		if d.mode.IsDir() {
			if dirs[e.Ino] {
				damage = disk.Corrupt("directory %d names directory %d twice", ino, e.Ino)
				return nil
			}
			dirs[e.Ino] = true
		}
		entries = append(entries, d)
		return nil
	})
	slices.SortFunc(entries, func(a, b dirEntry) int { return strings.Compare(a.name, b.name) })
	list := make([]fs.DirEntry, len(entries))
	for k := range entries {
		list[k] = &entries[k]
	}
	return list, errors.Join(walk, damage)
}
