package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"banger/ext4"
	"banger/internal/base/errs"
)

// copyOut copies from a disk to the host. All that it makes lies below an os.Root,
// which no link leads out of.
type copyOut struct {
	*app
	ctx   context.Context //nolint:containedctx // a copyOut is one operation
	im    *ext4.Image
	flags *copyFlags
	super bool // root on the host: owners and devices can be kept
	to    *os.Root
	// links has where files with several names went.
	links map[uint32]string
	buf   []byte
}

func newCopyOut(a *app, ctx context.Context, im *ext4.Image, flags *copyFlags) *copyOut {
	return &copyOut{app: a, ctx: ctx, im: im, flags: flags, super: os.Geteuid() == 0, links: map[uint32]string{}, buf: make([]byte, 1<<20)}
}

// top copies to what the user named: into a directory that exists, under the name
// base, or else to that name.
func (c *copyOut) top(src, base, dst string, info fs.FileInfo) (err error) {
	dir, name := dst, base
	switch old, err := os.Stat(dst); {
	case err == nil && old.IsDir():
	case err == nil && !old.Mode().IsRegular() && info.Mode().IsRegular():
		return c.intoDevice(src, dst)
	default:
		if strings.HasSuffix(dst, "/") && !info.IsDir() {
			return errs.New(errs.NotFound, "there is no directory %q on the host", dst).WithHint("mkdir -p %s", shellWord(dst))
		}
		dir, name = filepath.Dir(strings.TrimRight(dst, "/")), filepath.Base(dst)
	}
	if c.to, err = os.OpenRoot(dir); err != nil {
		return hostError(err)
	}
	defer func() {
		err = errors.Join(err, c.to.Close())
	}()
	if !info.IsDir() {
		return c.copy(src, name, info)
	}
	return c.tree(src, name, info)
}

// tree copies a directory below a root of its own: what is in it cannot touch what
// lies beside it.
func (c *copyOut) tree(src, name string, info fs.FileInfo) error {
	isNew, err := c.mkdir(name)
	if err != nil {
		return err
	}
	if name != "." {
		outer := c.to
		inner, err := outer.OpenRoot(name)
		if err != nil {
			return hostError(err)
		}
		c.to = inner
		defer func() { c.to = outer; _ = inner.Close() }()
	}
	return c.fill(src, ".", info, isNew)
}

// mkdir makes a directory that can be written to for now. One that exists will do, but
// not a link to one.
func (c *copyOut) mkdir(name string) (isNew bool, err error) {
	if name == "." {
		return false, nil
	}
	err = c.to.Mkdir(name, 0o700)
	if errors.Is(err, fs.ErrExist) {
		old, err := c.to.Lstat(name)
		if err == nil && !old.IsDir() {
			err = errs.New(errs.Conflict, "%q is in the place of a directory on the host", c.hostPath(name)).WithHint("rm %s", shellWord(c.hostPath(name)))
		}
		return false, err
	}
	if err != nil {
		return false, hostError(err)
	}
	return true, nil
}

// fill copies what is in a directory, and then gives the directory what belongs to it,
// unless it was there before.
func (c *copyOut) fill(src, name string, info fs.FileInfo, isNew bool) error {
	list, err := c.im.ReadDir(src)
	if err != nil {
		return err
	}
	for _, e := range list {
		if strings.ContainsRune(e.Name(), '/') {
			return fmt.Errorf("the name %q in the directory %q: %w", e.Name(), src, ext4.ErrCorrupt)
		}
		child, err := e.Info()
		if err != nil {
			return err
		}
		if err := c.copy(path.Join(src, e.Name()), path.Join(name, e.Name()), child); err != nil {
			return err
		}
	}
	if !isNew {
		return nil
	}
	f, err := c.to.Open(name)
	if err != nil {
		return hostError(err)
	}
	defer f.Close()
	if err := c.finish(f, info, info.Mode()); err != nil {
		return err
	}
	return c.times(name, info)
}

// copy copies one entry, a directory with all below it.
func (c *copyOut) copy(src, name string, info fs.FileInfo) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	st := info.Sys().(*ext4.Stat)
	if info.IsDir() {
		isNew, err := c.mkdir(name)
		if err != nil {
			return err
		}
		return c.fill(src, name, info, isNew)
	}
	if st.Links > 1 {
		if first, ok := c.links[st.Ino]; ok {
			return c.hardLink(first, name)
		}
		c.links[st.Ino] = name
	}
	switch info.Mode().Type() {
	case 0:
		return c.file(src, name, info)
	case fs.ModeSymlink:
		return c.symlink(src, name, info)
	}
	return c.node(name, info)
}

// replace removes what stands in the place of something that is no directory.
func (c *copyOut) replace(name string) error {
	old, err := c.to.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return hostError(err)
	case old.IsDir():
		return errs.New(errs.Conflict, "the directory %q on the host is in the place of a file", c.hostPath(name)).WithHint("rm -r %s", shellWord(c.hostPath(name)))
	}
	if err := c.to.Remove(name); err != nil {
		return hostError(err)
	}
	return nil
}

func (c *copyOut) hostPath(name string) string { return filepath.Join(c.to.Name(), name) }

func (c *copyOut) hardLink(first, name string) error {
	if err := c.replace(name); err != nil {
		return err
	}
	if err := c.to.Link(first, name); err != nil {
		return hostError(err)
	}
	return nil
}

// file writes a regular file beside its place and then renames it: what was there
// stays until all of the new is.
func (c *copyOut) file(src, name string, info fs.FileInfo) (err error) {
	in, err := c.im.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	if old, err := c.to.Lstat(name); err == nil && old.IsDir() {
		return c.replace(name) // says why not
	}
	tmp := path.Join(path.Dir(name), ".banger-"+rand.Text())
	out, err := c.to.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return hostError(err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.to.Remove(tmp))
		}
	}()
	err = c.contents(out, in, info.Size())
	if err == nil {
		err = c.finish(out, info, c.flags.mode.or(info.Mode()))
	}
	if closeErr := out.Close(); err == nil && closeErr != nil {
		err = hostError(closeErr)
	}
	if err == nil {
		err = c.times(tmp, info)
	}
	if err != nil {
		return err
	}
	if err := c.to.Rename(tmp, name); err != nil {
		return hostError(err)
	}
	return nil
}

// contents copies, and leaves out what is zero.
func (c *copyOut) contents(out *os.File, in io.Reader, size int64) error {
	const piece = 64 << 10
	for at := int64(0); ; {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		n, err := io.ReadFull(in, c.buf)
		for b := c.buf[:n]; len(b) > 0; {
			part := b[:min(piece, len(b))]
			if !allZero(part) {
				if _, err := out.WriteAt(part, at); err != nil {
					return hostError(err)
				}
			}
			at += int64(len(part))
			b = b[len(part):]
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if err := out.Truncate(size); err != nil {
		return hostError(err)
	}
	return nil
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// intoDevice writes to what is there, such as /dev/null or a FIFO.
func (c *copyOut) intoDevice(src, dst string) error {
	in, err := c.im.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_WRONLY, 0)
	if err != nil {
		return hostError(err)
	}
	_, err = io.CopyBuffer(writerOnly{out}, readerOnly{contextReader{c.ctx, in}}, c.buf)
	return errors.Join(err, out.Close())
}

func (c *copyOut) symlink(src, name string, info fs.FileInfo) error {
	target, err := c.im.ReadLink(src)
	if err != nil {
		return err
	}
	if err := c.replace(name); err != nil {
		return err
	}
	if err := c.to.Symlink(target, name); err != nil {
		return hostError(err)
	}
	if uid, gid, ok := c.owner(info); ok {
		if err := c.to.Lchown(name, uid, gid); err != nil {
			return hostError(err)
		}
	}
	return c.times(name, info)
}

// node makes a device or FIFO; what cannot be made is said and left out.
func (c *copyOut) node(name string, info fs.FileInfo) error {
	st := info.Sys().(*ext4.Stat)
	kind := info.Mode().Type()
	if kind == fs.ModeSocket || kind != fs.ModeNamedPipe && !c.super {
		why := "only root can make devices"
		if kind == fs.ModeSocket {
			why = "a socket lives with its program"
		}
		say(c.err, fmt.Sprintf("%s %q is left out: %s", typeWord(kind), name, why))
		return nil
	}
	if err := c.replace(name); err != nil {
		return err
	}
	err := c.at(name, func(dir int, base string) error {
		return unix.Mknodat(dir, base, uint32(st.Mode), int(unix.Mkdev(st.Major, st.Minor)))
	})
	if err != nil {
		return hostError(&fs.PathError{Op: "mknod", Path: c.hostPath(name), Err: err})
	}
	if uid, gid, ok := c.owner(info); ok {
		if err := c.to.Lchown(name, uid, gid); err != nil {
			return hostError(err)
		}
	}
	if err := c.to.Chmod(name, c.modeBits(info, c.flags.mode.or(info.Mode()))); err != nil {
		return hostError(err)
	}
	return c.times(name, info)
}
