package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"banger/ext4"
	"banger/internal/base/errs"
)

// copyIn copies from the host onto a disk.
type copyIn struct {
	*app
	ctx   context.Context //nolint:containedctx // a copyIn is one operation
	tx    *ext4.Tx
	disk  diskRef
	flags *copyFlags
	root  bool // keeps owners
	// links has where files with several names went.
	links map[hostFile]string
}

// hostFile tells the files of the host apart.
type hostFile struct{ dev, ino uint64 }

func newCopyIn(a *app, ctx context.Context, tx *ext4.Tx, disk diskRef, flags *copyFlags) *copyIn {
	return &copyIn{app: a, ctx: ctx, tx: tx, disk: disk, flags: flags, root: os.Geteuid() == 0, links: map[hostFile]string{}}
}

// stream writes the standard input to a file. One that exists keeps its owner and
// mode, but for the flags.
func (c *copyIn) stream(target string) error {
	attr := ext4.Attr{Mode: c.flags.mode.or(0o644), UID: c.flags.uid.or(0), GID: c.flags.gid.or(0)}
	if info, err := c.tx.Stat(target); err == nil {
		attr = keepAttr(info, c.flags.uid, c.flags.gid, c.flags.mode)
	}
	// A read of the standard input cannot be interrupted, nor is it waited for: it ends with
	// the process.
	r, w := io.Pipe()
	defer context.AfterFunc(c.ctx, func() { _ = w.CloseWithError(c.ctx.Err()) })()
	defer r.Close()
	go func() {
		_, err := io.Copy(w, c.in)
		_ = w.CloseWithError(err)
	}()
	return c.parentHint(c.tx.WriteFile(target, r, attr), target)
}

// top copies what the user named: without -r, a link's target.
func (c *copyIn) top(src, target string) error {
	stat := os.Stat
	if c.flags.recursive {
		stat = os.Lstat
	}
	info, err := stat(src)
	if err != nil {
		return hostError(err)
	}
	if err := c.flags.check(src, info); err != nil {
		return err
	}
	if !c.flags.recursive && !info.Mode().IsRegular() {
		// "cp /dev/stdin" and pipes of a shell: what can be read is a file's contents.
		return c.pipe(src, target)
	}
	return c.copy(src, target, info)
}

// pipe copies what can be read from a FIFO or device.
func (c *copyIn) pipe(src, target string) error {
	f, err := os.Open(src)
	if err != nil {
		return hostError(err)
	}
	defer f.Close()
	return c.parentHint(c.tx.WriteFile(target, contextReader{c.ctx, f}, ext4.Attr{Mode: c.flags.mode.or(0o644), UID: c.flags.uid.or(0), GID: c.flags.gid.or(0)}), target)
}

// copy copies a file, or a directory with all below it.
func (c *copyIn) copy(src, target string, info fs.FileInfo) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	st := info.Sys().(*syscall.Stat_t)
	attr := ext4.Attr{
		Mode: c.flags.mode.or(info.Mode()), ModTime: info.ModTime(), AccessTime: time.Unix(st.Atim.Unix()),
		UID: c.flags.uid.or(0), GID: c.flags.gid.or(0),
	}
	if c.root {
		attr.UID, attr.GID = c.flags.uid.or(st.Uid), c.flags.gid.or(st.Gid)
	}
	if info.IsDir() {
		return c.dir(src, target, attr)
	}
	if st.Nlink > 1 {
		id := hostFile{uint64(st.Dev), st.Ino}
		if first, ok := c.links[id]; ok {
			return c.link(first, target)
		}
		c.links[id] = target
	}
	var err error
	switch kind := info.Mode().Type(); kind {
	case 0:
		err = c.file(src, target, attr)
	case fs.ModeSymlink:
		var to string
		if to, err = os.Readlink(src); err != nil {
			return hostError(err)
		}
		if err = c.replace(target); err == nil {
			err = c.tx.Symlink(to, target, attr)
		}
	default:
		if err = c.replace(target); err == nil {
			err = c.tx.Mknod(target, kind, unix.Major(st.Rdev), unix.Minor(st.Rdev), attr)
		}
	}
	if err != nil {
		return c.parentHint(err, target)
	}
	return c.xattrs(src, target)
}

// replace removes what stands in the place of a file.
func (c *copyIn) replace(target string) error {
	info, err := c.tx.Lstat(target)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.IsDir():
		return errs.New(errs.Conflict, "%q is a directory on the disk, and a file is to be in its place", target).WithHint("banger disk rm -r %s %s", shellWord(c.disk.String()), shellWord(target))
	}
	return c.tx.Remove(target)
}

func (c *copyIn) link(first, target string) error {
	if info, err := c.tx.Lstat(target); err == nil {
		old, err := c.tx.Lstat(first)
		if err != nil {
			return err
		}
		if info.Sys().(*ext4.Stat).Ino == old.Sys().(*ext4.Stat).Ino {
			return nil
		}
		if err := c.replace(target); err != nil {
			return err
		}
	}
	return c.tx.Link(first, target)
}

// dir makes a directory and copies what is in it. One that exists keeps what it has.
func (c *copyIn) dir(src, target string, attr ext4.Attr) error {
	info, err := c.tx.Stat(target)
	isNew := errors.Is(err, fs.ErrNotExist)
	switch {
	case isNew:
		if err := c.tx.Mkdir(target, attr); err != nil {
			return c.parentHint(err, target)
		}
	case err != nil:
		return err
	case !info.IsDir():
		return errs.New(errs.Conflict, "%q is a file on the disk, and a directory is to be in its place", target).WithHint("banger disk rm %s %s", shellWord(c.disk.String()), shellWord(target))
	}
	list, err := os.ReadDir(src)
	if err != nil {
		return hostError(err)
	}
	for _, e := range list {
		info, err := e.Info()
		if err != nil {
			return hostError(err)
		}
		if err := c.copy(filepath.Join(src, e.Name()), path.Join(target, e.Name()), info); err != nil {
			return err
		}
	}
	if !isNew {
		return nil
	}
	if err := c.xattrs(src, target); err != nil {
		return err
	}
	return c.tx.SetTimes(target, attr.AccessTime, attr.ModTime)
}

// file copies the contents of a regular file, its holes as holes.
func (c *copyIn) file(src, target string, attr ext4.Attr) error {
	// A file that has become a link or a FIFO is not followed, nor waited for.
	f, err := os.OpenFile(src, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) && !c.flags.recursive { // a link that the user named
		f, err = os.OpenFile(src, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	}
	if err != nil {
		return hostError(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errs.New(errs.Conflict, "%q changed while it was copied", src)
	}
	// Without -r, a link on the disk is followed, as cp does.
	if old, err := c.tx.Lstat(target); err == nil && !old.Mode().IsRegular() && c.flags.recursive {
		if err := c.replace(target); err != nil {
			return err
		}
	}
	if info.Sys().(*syscall.Stat_t).Blocks*512 < info.Size() {
		return c.sparse(f, target, info.Size(), attr)
	}
	return c.tx.WriteFile(target, contextReader{c.ctx, f}, attr)
}

// sparse copies the parts of a file that are no holes.
func (c *copyIn) sparse(f *os.File, target string, size int64, attr ext4.Attr) (err error) {
	w, err := c.tx.Create(target, attr)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Abort())
		}
	}()
	buf := make([]byte, 1<<20)
	for at := int64(0); at < size; {
		start, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, syscall.ENXIO) {
			break // a hole up to the end
		}
		if err != nil {
			return fmt.Errorf("cannot read %q: %w", f.Name(), err)
		}
		end, err := unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE)
		if err != nil {
			return fmt.Errorf("cannot read %q: %w", f.Name(), err)
		}
		end = min(end, size)
		if _, err := w.Seek(start, io.SeekStart); err != nil {
			return err
		}
		part := io.NewSectionReader(f, start, end-start)
		if _, err := io.CopyBuffer(writerOnly{w}, readerOnly{contextReader{c.ctx, part}}, buf); err != nil {
			return err
		}
		at = end
	}
	if err := w.Truncate(size); err != nil {
		return err
	}
	return w.Close()
}

// readerOnly hides what else a reader can do, so that copies use the given buffer.
type readerOnly struct{ io.Reader }

// xattrs copies the extended attributes that both sides allow.
func (c *copyIn) xattrs(src, target string) error {
	names, err := listXattrs(src)
	if err != nil {
		return nil //nolint:nilerr // kept where they can be
	}
	for _, name := range names {
		value, ok := getXattr(src, name)
		if !ok {
			continue
		}
		err := c.tx.SetXattr(target, name, value)
		if err != nil && !errors.Is(err, syscall.ENOTSUP) && !errors.Is(err, syscall.EPERM) && !errors.Is(err, syscall.EACCES) {
			return err
		}
	}
	return nil
}

func listXattrs(p string) ([]string, error) {
	n, err := unix.Llistxattr(p, nil)
	if err != nil || n == 0 {
		return nil, err
	}
	buf := make([]byte, n)
	if n, err = unix.Llistxattr(p, buf); err != nil {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00"), nil
}

func getXattr(p, name string) ([]byte, bool) {
	buf := make([]byte, 64<<10) // XATTR_SIZE_MAX
	n, err := unix.Lgetxattr(p, name, buf)
	if err != nil {
		return nil, false
	}
	return buf[:n], true
}

// hostError gives an error of a file on the host its kind.
func hostError(err error) error {
	kind, hint := errs.Internal, ""
	switch {
	case errors.Is(err, fs.ErrNotExist):
		kind = errs.NotFound
	case errors.Is(err, fs.ErrExist):
		kind = errs.Exists
	case errors.Is(err, fs.ErrPermission), isErrno(err):
		kind = errs.Invalid
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		kind, hint = errs.Unavailable, "free some space on that file system"
	}
	e := errs.New(kind, "on the host: %w", err)
	if hint != "" {
		e = e.WithHint("%s", hint)
	}
	return e
}

// parentHint says how to make the directory that a new file lacks.
func (c *copyIn) parentHint(err error, target string) error {
	if errors.Is(err, fs.ErrNotExist) && errs.KindOf(err) == errs.Internal {
		return errs.New(errs.NotFound, "disk %q: %w", c.disk, err).WithHint("banger disk mkdir --parents %s %s", shellWord(c.disk.String()), shellWord(path.Dir(target)))
	}
	return err
}
