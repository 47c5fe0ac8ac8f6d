package boot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// seedMark is an attribute of the work disk's root that says that the image's
	// /root is on it. Only root in the guest can set or remove it (xattr(7)).
	seedMark = "trusted.banger.seeded"
	// seedDir holds the copy until it is whole.
	seedDir = ".banger-seed"
)

// seed copies the directory src to the root of the file system at dst, unless
// that was done before. It may be killed at any moment: an unfinished copy starts
// over, and a name that exists in dst is never replaced, since it was moved there
// whole or belongs to the user.
func seed(src, dst string) error {
	if _, err := unix.Lgetxattr(dst, seedMark, nil); err == nil {
		return nil
	}
	tmp := filepath.Join(dst, seedDir)
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	c := copier{links: map[inode]string{}}
	if err := c.copy(src, tmp); err != nil {
		return err
	}
	if err := syncFS(dst); err != nil {
		return err
	}
	entries, err := os.ReadDir(tmp)
	if err != nil {
		return err
	}
	for _, e := range entries {
		from, to := filepath.Join(tmp, e.Name()), filepath.Join(dst, e.Name())
		err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
		}
	}
	// The disk's own folder for e2fsck, which makes it anew when it needs one.
	_ = os.Remove(filepath.Join(dst, "lost+found"))
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := c.copyAttributes(src, dst); err != nil {
		return err
	}
	if err := syncFS(dst); err != nil {
		return err
	}
	if err := unix.Lsetxattr(dst, seedMark, []byte("1"), 0); err != nil {
		return &os.PathError{Op: "set attribute " + seedMark, Path: dst, Err: err}
	}
	return nil
}

func syncFS(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return &os.PathError{Op: "syncfs", Path: path, Err: err}
	}
	return nil
}

// inode identifies a file with several names.
type inode struct{ dev, ino uint64 }

// copier copies trees: contents, modes, owners, times, attributes, hard links
// and device nodes. It follows no link.
type copier struct {
	// links maps a file with several names to its first copy.
	links map[inode]string
}

// copy makes dst, which must not exist, a copy of src.
func (c *copier) copy(src, dst string) error {
	var st unix.Stat_t
	if err := unix.Lstat(src, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: src, Err: err}
	}
	if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		id := inode{st.Dev, st.Ino}
		if first, ok := c.links[id]; ok {
			return os.Link(first, dst)
		}
		c.links[id] = dst
	}
	if err := c.copyContent(src, dst, &st); err != nil {
		return err
	}
	return c.copyAttributes(src, dst)
}

func (c *copier) copyContent(src, dst string, st *unix.Stat_t) error {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return c.copyDir(src, dst)
	case unix.S_IFREG:
		return copyFile(src, dst)
	case unix.S_IFLNK:
		target, err := os.Readlink(src)
		if err != nil {
			return err
		}
		return os.Symlink(target, dst)
	}
	if err := unix.Mknod(dst, st.Mode, int(st.Rdev)); err != nil {
		return &os.PathError{Op: "mknod", Path: dst, Err: err}
	}
	return nil
}

func (c *copier) copyDir(src, dst string) error {
	if err := os.Mkdir(dst, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(src)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := c.copy(filepath.Join(src, e.Name()), filepath.Join(dst, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(src, dst string) error {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// copyAttributes gives dst the owner, mode, extended attributes and times of
// src, in the order in which none undoes another: chown clears the set-id bits
// and the capabilities.
func (c *copier) copyAttributes(src, dst string) error {
	var st unix.Stat_t
	if err := unix.Lstat(src, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: src, Err: err}
	}
	if err := os.Lchown(dst, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Chmod(dst, st.Mode&0o7777); err != nil {
			return &os.PathError{Op: "chmod", Path: dst, Err: err}
		}
	}
	if err := copyXattrs(src, dst); err != nil {
		return err
	}
	times := []unix.Timespec{st.Atim, st.Mtim}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, dst, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "utimensat", Path: dst, Err: err}
	}
	return nil
}

// maxXattr is the kernel's bound of a list of names and of a value, XATTR_SIZE_MAX.
const maxXattr = 64 << 10

func copyXattrs(src, dst string) error {
	names := make([]byte, maxXattr)
	n, err := unix.Llistxattr(src, names)
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "listxattr", Path: src, Err: err}
	}
	if n == 0 {
		return nil
	}
	value := make([]byte, maxXattr)
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
		n, err := unix.Lgetxattr(src, name, value)
		if err == nil {
			err = unix.Lsetxattr(dst, name, value[:n], 0)
		}
		if err != nil {
			return fmt.Errorf("cannot copy the attribute %q of %q: %w", name, src, err)
		}
	}
	return nil
}
