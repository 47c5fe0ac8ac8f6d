package ext4

import (
	"io"
	"io/fs"
	"math"
	"strings"
	"syscall"

	"banger/ext4/internal/disk"
)

// Image is an image that is read: an fs.FS, and more. It is safe for concurrent
// use if its io.ReaderAt is. There is nothing to close.
//
// Names are those of package fs ("etc/hosts", "." for the root), except that their
// parts may have any bytes but NUL and slash, as ext4's have: fs.ValidPath also
// wants UTF-8. Symbolic links are followed inside the image, as if its root were
// the system's: no link and no ".." leads out.
//
// Errors are *fs.PathError. In those of a damaged image errors.Is finds ErrCorrupt;
// they concern only what was asked for. Whatever the image holds,
// an operation ends, in memory and time bounded by the size of the image and of what
// it returns.
type Image struct {
	v    *volume
	size int64
}

var (
	_ fs.ReadDirFS  = (*Image)(nil)
	_ fs.ReadFileFS = (*Image)(nil)
	_ fs.StatFS     = (*Image)(nil)
	_ fs.ReadLinkFS = (*Image)(nil)
)

// Open opens an image of ext2, ext3 or ext4 to read it. size is the length of r in
// bytes, negative where it is not known, as that of some devices: a file system
// that claims more blocks than r has gives errors where they are missing.
//
// Nothing is written. A journal that a crash left behind is read over: the image
// looks as if it had been replayed. While the image is open, nobody may change it.
//
// The errors: ErrNotExt4, ErrCorrupt, a *FeatureError for what cannot be read at all (a
// journal device, compression, an external journal that is needed, unknown
// features), or that of r.
func Open(r io.ReaderAt, size int64) (*Image, error) {
	if size < 0 {
		size = math.MaxInt64
	}
	v, err := openVolume(r, size)
	if err != nil {
		return nil, public(err)
	}
	v.dirs = new(dirCache)
	return &Image{v, size}, nil
}

// Open opens a file, following links. The file is an io.ReaderAt, an io.Seeker and
// an io.WriterTo; a directory is an fs.ReadDirFile, whose entries come sorted.
// Devices, FIFOs and sockets are empty. There is nothing to close.
func (im *Image) Open(name string) (fs.File, error) {
	f, err := im.open(name)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	return f, nil
}

// Stat describes a file, following links. Sys of the result is a *Stat.
func (im *Image) Stat(name string) (fs.FileInfo, error) {
	return im.stat("stat", name, true)
}

// Lstat is Stat for a symbolic link itself.
func (im *Image) Lstat(name string) (fs.FileInfo, error) {
	return im.stat("lstat", name, false)
}

func (im *Image) stat(op, name string, follow bool) (fs.FileInfo, error) {
	ino, err := im.resolve(name, follow)
	if err != nil {
		return nil, pathError(op, name, err)
	}
	info, err := im.v.info(baseName(name), ino)
	if err != nil {
		return nil, pathError(op, name, err)
	}
	return info, nil
}

// ReadLink returns the target of a symbolic link, as it is stored.
func (im *Image) ReadLink(name string) (string, error) {
	ino, err := im.resolve(name, false)
	if err != nil {
		return "", pathError("readlink", name, err)
	}
	i, raw, err := im.v.live(ino)
	if err != nil {
		return "", pathError("readlink", name, err)
	}
	target, err := im.v.readLink(ino, &i, raw)
	return target, pathError("readlink", name, err)
}

// ReadFile returns the content of a regular file, following links. A file that is
// larger than the image, by its holes, and than 64 MiB, is refused with EFBIG: Open
// reads it by pieces.
func (im *Image) ReadFile(name string) ([]byte, error) {
	b, err := im.readFile(name)
	return b, pathError("read", name, err)
}

var errTooBig error = syscall.EFBIG

// maxHollow is the size in bytes up to which ReadFile takes any file.
const maxHollow = 64 << 20

func (im *Image) readFile(name string) ([]byte, error) {
	ino, err := im.resolve(name, true)
	if err != nil {
		return nil, err
	}
	i, raw, err := im.v.live(ino)
	if err != nil {
		return nil, err
	}
	if i.IsDir() {
		return nil, errIsDir
	}
	if !i.IsRegular() {
		return []byte{}, nil
	}
	r, err := im.v.fileReader(ino, &i, raw)
	if err != nil {
		return nil, err
	}
	if r.size > max(im.size, maxHollow) {
		return nil, errTooBig
	}
	b := make([]byte, r.size)
	n, err := r.ReadAt(b, 0)
	if err == io.EOF {
		err = nil
	}
	return b[:n], err
}

// ReadDir returns the entries of a directory, sorted by name, without "." and "..".
// Where the directory is damaged it returns those it could read, and the error. An
// entry that names an inode that is in no use is in the list; its Info fails.
//
// A directory that is reached by another name than its own, so that a walk could
// go round in circles, is damage.
func (im *Image) ReadDir(name string) ([]fs.DirEntry, error) {
	ino, err := im.resolveDir(name)
	if err != nil {
		return nil, pathError("readdir", name, err)
	}
	list, err := im.v.readDir(ino)
	return list, pathError("readdir", name, err)
}

// Xattrs returns the extended attributes of a file, following links; those of a
// link itself are in Lstat's Sys. See Stat.Xattrs.
func (im *Image) Xattrs(name string) (map[string][]byte, error) {
	ino, err := im.resolve(name, true)
	if err != nil {
		return nil, pathError("getxattr", name, err)
	}
	if _, _, err := im.v.live(ino); err != nil {
		return nil, pathError("getxattr", name, err)
	}
	m, err := (&Stat{Ino: ino, v: im.v}).Xattrs()
	return m, pathError("getxattr", name, err)
}

// resolve finds the inode that a name names. It remembers the directories.
func (im *Image) resolve(name string, follow bool) (uint32, error) {
	parent, base, err := im.parent(name)
	if err != nil || base == "" {
		return parent, err
	}
	ino, link, err := im.child(parent, base)
	if err == nil && link && follow {
		return im.v.resolve(name, true)
	}
	return ino, err
}

// resolveDir finds a directory to list. A directory has one name but for "." and
// "..": its ".." must name the directory that the name is in. So a walk that
// follows no links comes into each directory once at most.
func (im *Image) resolveDir(name string) (uint32, error) {
	parent, base, err := im.parent(name)
	if err != nil || base == "" {
		return parent, err
	}
	ino, link, err := im.child(parent, base)
	if err != nil {
		return 0, err
	}
	if link {
		return im.v.resolve(name, true)
	}
	i, _, err := im.v.live(ino)
	if err != nil {
		return 0, err
	}
	if !i.IsDir() {
		return 0, errNotDir
	}
	return ino, im.v.checkParent(ino, &i, parent)
}

// parent finds the directory in which a name's last part is, and that part, which
// is empty for the root.
func (im *Image) parent(name string) (ino uint32, base string, err error) {
	if !validName(name) {
		return 0, "", fs.ErrInvalid
	}
	if name == "." {
		return disk.RootIno, "", nil
	}
	slash := strings.LastIndexByte(name, '/')
	if slash < 0 {
		return disk.RootIno, name, nil
	}
	head, base := name[:slash], name[slash+1:]
	if ino, ok := im.v.dirs.path(head); ok {
		return ino, base, nil
	}
	if ino, err = im.v.resolve(head, true); err != nil {
		return 0, "", err
	}
	im.v.dirs.putPath(head, ino)
	return ino, base, nil
}

// child finds a name in a directory, and says whether it is a symbolic link.
func (im *Image) child(parent uint32, base string) (ino uint32, link bool, err error) {
	p, _, err := im.v.inode(parent)
	if err != nil {
		return 0, false, err
	}
	if !p.IsDir() {
		return 0, false, errNotDir
	}
	if ino, err = im.v.lookup(parent, &p, base); err != nil {
		return 0, false, err
	}
	i, _, err := im.v.inode(ino)
	return ino, i.IsSymlink(), err
}

// checkParent checks that a directory's ".." is the directory in which it is named.
func (v *volume) checkParent(ino uint32, i *disk.Inode, parent uint32) error {
	if ino == disk.RootIno {
		return disk.Corrupt("directory %d has an entry for the root", parent)
	}
	up, ok, err := v.find(ino, i, "..")
	if err == nil && (!ok || up.Ino != parent) {
		err = disk.Corrupt("directory %d is named in directory %d, and its \"..\" is %d", ino, parent, up.Ino)
	}
	return err
}

// validName is fs.ValidPath for names of any bytes.
func validName(name string) bool {
	if name == "." {
		return true
	}
	for {
		part, rest, more := strings.Cut(name, "/")
		if part == "" || part == "." || part == ".." {
			return false
		}
		if !more {
			return true
		}
		name = rest
	}
}

// baseName is the last part of a name.
func baseName(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }
