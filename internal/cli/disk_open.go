package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	bangerv1 "banger/api/banger/v1"
	"banger/ext4"
	"banger/internal/base/disklock"
	"banger/internal/base/errs"
	"banger/internal/cli/client"
)

// diskFile is an open disk, with the locks that go with it.
type diskFile struct {
	*os.File
	path string
	size int64
	lock *os.File // of a VM's disks, or nil
}

func (d *diskFile) Close() error {
	return errors.Join(d.File.Close(), d.unlock())
}

func (d *diskFile) unlock() error {
	if d.lock == nil {
		return nil
	}
	return d.lock.Close()
}

// openDisk opens a disk. A VM's is locked for as long as it is open: whatever ends
// this process ends the lock.
func openDisk(cmd *cobra.Command, ref diskRef, write bool) (*diskFile, error) {
	d := &diskFile{path: ref.file}
	if ref.vm != "" {
		if err := d.lockVM(cmd, ref, write); err != nil {
			return nil, err
		}
	}
	flags := os.O_RDONLY
	if write {
		flags = os.O_RDWR
	}
	f, err := os.OpenFile(d.path, flags, 0)
	if err != nil {
		return nil, errors.Join(openError(err, write), d.unlock())
	}
	d.File = f
	d.size, err = d.Seek(0, io.SeekEnd) // Stat knows nothing of a block device's size
	if err == nil && !write {
		err = d.keepEditorsOut()
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// lockVM asks the daemon where a VM's disk lies, and takes its lock.
func (d *diskFile) lockVM(cmd *cobra.Command, ref diskRef, write bool) error {
	return withDaemon(cmd.Context(), func(c *client.Client) error {
		r, err := c.VMs.Disk(cmd.Context(), &bangerv1.DiskRequest{Vm: ref.vm, Disk: ref.name, Write: write})
		if err != nil {
			return err
		}
		d.path = r.GetPath()
		if r.GetLock() == "" {
			return nil
		}
		take := disklock.Share
		if write {
			take = disklock.Take
		}
		d.lock, err = take(r.GetLock(), fmt.Sprintf("%s (process %d)", cmd.CommandPath(), os.Getpid()))
		if errors.Is(err, fs.ErrNotExist) {
			return errs.New(errs.NotFound, "there is no VM %q any more", ref.vm).WithHint("banger vm list")
		}
		if err != nil {
			return errs.New(errs.KindOf(err), "cannot use the disk %q: %w", ref, err)
		}
		return nil
	})
}

// keepEditorsOut shares a lock on the first byte of the image, which an edit locks
// with all others. QEMU's own locks lie at bytes 100 and up.
func (d *diskFile) keepEditorsOut() error {
	err := unix.FcntlFlock(d.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_RDLCK, Len: 1})
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return ext4.ErrInUse
	}
	return nil // else the file system has no locks
}

func openError(err error, write bool) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errs.New(errs.NotFound, "cannot open the image: %w", err)
	case errors.Is(err, fs.ErrPermission):
		how := "r"
		if write {
			how = "rw"
		}
		return errs.New(errs.Invalid, "cannot open the image: %w", err).WithHint("become its owner, or: chmod u+%s IMAGE", how)
	}
	return errs.New(errs.Invalid, "cannot open the image: %w", err)
}

// readDisk opens a disk to read it.
func readDisk(cmd *cobra.Command, ref diskRef, f func(*ext4.Image) error) (err error) {
	d, err := openDisk(cmd, ref, false)
	if err != nil {
		return diskError(ref, err)
	}
	ref.opened = d.path
	defer func() { err = errors.Join(err, d.Close()) }()
	im, err := ext4.Open(d, d.size)
	if err == nil {
		err = f(im)
	}
	return diskError(ref, err)
}

// editFlags are those of all commands that change a disk.
type editFlags struct{ noSync, withoutJournal bool }

func (e *editFlags) register(f *pflag.FlagSet) {
	f.BoolVar(&e.noSync, "no-sync", false, "do not wait until it would survive a power failure")
	f.BoolVar(&e.withoutJournal, "without-journal", false, "also change a file system that has no journal; an interruption damages it")
}

func (e *editFlags) options() *ext4.EditOptions {
	return &ext4.EditOptions{NoSync: e.noSync, WithoutJournal: e.withoutJournal}
}

// editDisk runs f in one transaction, which is committed if f succeeds.
func editDisk(cmd *cobra.Command, ref diskRef, e *editFlags, f func(*ext4.Tx) error) (err error) {
	d, err := openDisk(cmd, ref, true)
	if err != nil {
		return diskError(ref, err)
	}
	ref.opened = d.path
	defer func() { err = errors.Join(err, d.Close()) }()
	tx, err := ext4.Edit(d.File, d.size, e.options())
	if err != nil {
		return diskError(ref, err)
	}
	defer func() { err = errors.Join(err, tx.Close()) }()
	if err := f(tx); err != nil {
		return diskError(ref, err)
	}
	// From here on an interruption is too late: it is all or nothing anyway.
	if err := cmd.Context().Err(); err != nil {
		return err
	}
	return diskError(ref, tx.Commit())
}

// diskError gives an error of a disk its kind and hint, and names the disk.
func diskError(ref diskRef, err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, syscall.EPIPE) {
		return err
	}
	if _, ok := errors.AsType[*errs.Error](err); ok {
		return err
	}
	if _, ok := errors.AsType[statusError](err); ok {
		return err
	}
	kind, hint := errs.Internal, ""
	var feature *ext4.FeatureError
	var size *ext4.SizeError
	switch {
	case errors.Is(err, ext4.ErrInUse):
		kind, hint = errs.Conflict, "wait for the program that uses it; find it with: fuser "+shellWord(cmp.Or(ref.opened, ref.file))
	case errors.Is(err, ext4.ErrNoJournal):
		kind, hint = errs.Conflict, "give --without-journal, and work on a copy"
	case errors.Is(err, ext4.ErrTooLarge):
		kind, hint = errs.Conflict, "make the change in several smaller commands"
	case errors.Is(err, ext4.ErrNotExt4):
		kind, hint = errs.Invalid, "name an image of ext2, ext3 or ext4; a partitioned disk has its file systems further inside"
	case errors.As(err, &feature):
		kind = errs.Invalid
	case errors.As(err, &size):
		kind = errs.Invalid
	case errors.Is(err, ext4.ErrCorrupt):
		kind, hint = errs.Conflict, "banger disk check "+shellWord(ref.String())
	case errors.Is(err, syscall.ENOSPC) && !ofHost(ref, err):
		kind, hint = errs.Conflict, "banger disk grow "+shellWord(ref.String())+" SIZE"
	case errors.Is(err, syscall.ENOSPC):
		kind, hint = errs.Unavailable, "free some space on the host"
	case errors.Is(err, fs.ErrNotExist):
		kind, hint = errs.NotFound, "banger disk ls -R "+shellWord(ref.String())
	case errors.Is(err, syscall.ENOTEMPTY):
		kind = errs.Conflict
	case errors.Is(err, fs.ErrExist):
		kind = errs.Exists
	case errors.Is(err, fs.ErrPermission), errors.Is(err, fs.ErrInvalid), isErrno(err):
		kind = errs.Invalid
	}
	e := errs.New(kind, "disk %q: %w", ref, err)
	if hint != "" {
		e = e.WithHint("%s", hint)
	}
	return e
}

// ofHost says whether an error is of the image's file on the host, not of the file
// system in it: package os names that file.
func ofHost(ref diskRef, err error) bool {
	for {
		p, ok := errors.AsType[*fs.PathError](err)
		if !ok {
			return false
		}
		if p.Path == ref.opened {
			return true
		}
		err = p.Err
	}
}

// isErrno says whether an error says in the kernel's words what is wrong with a request.
func isErrno(err error) bool {
	for _, e := range []syscall.Errno{
		syscall.ENOTDIR, syscall.EISDIR, syscall.ELOOP, syscall.ENAMETOOLONG, syscall.EBUSY, syscall.EMLINK, syscall.EFBIG, syscall.EINVAL, syscall.EXDEV,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// contextReader is a reader that fails once its context has ended.
type contextReader struct {
	ctx context.Context //nolint:containedctx // io.Reader has no room for it
	r   io.Reader
}

func (c contextReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(b)
}

// contextWriter is a writer that fails once its context has ended.
type contextWriter struct {
	ctx context.Context //nolint:containedctx // io.Writer has no room for it
	w   io.Writer
}

func (c contextWriter) Write(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.w.Write(b)
}
