// Package disklock is the lock on the writable disks of one VM: a flock on a file
// beside them. Who holds it alone may write to the disks: the VM's shim and its VMM, or
// a command that edits them; who shares it may read. The kernel drops it with its
// last holder, however that ends, so the lock cannot lie.
//
// The file's content is a courtesy: the word of a holder that is not a VM, for the
// others' messages. It means nothing while the lock is free.
package disklock

import (
	"errors"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"banger/internal/base/errs"
)

// maxWord bounds a holder's word in bytes.
const maxWord = 200

// Take takes the lock alone; it ends when the file, and every process that inherited
// it, has closed it. who is a holder's word, such as "banger disk cp (process 17)"; a VM
// has none. A lock that is held is errs.Conflict.
func Take(path, who string) (*os.File, error) { return lock(path, who, unix.LOCK_EX) }

// Share is Take for a reader; readers do not keep each other out.
func Share(path, who string) (*os.File, error) { return lock(path, who, unix.LOCK_SH) }

func lock(path, who string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = inUse(path, word(f))
	}
	if err == nil {
		// Also where there is no word: the last holder's must not be taken for ours.
		err = errors.Join(f.Truncate(0), write(f, who))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func write(f *os.File, who string) error {
	if who == "" {
		return nil
	}
	_, err := f.WriteAt([]byte(who+"\n"), 0)
	return err
}

// word is what the holder of a file has to say.
func word(f io.ReaderAt) string {
	b := make([]byte, maxWord)
	n, _ := f.ReadAt(b, 0) // a courtesy
	line, _, _ := strings.Cut(string(b[:n]), "\n")
	return line
}

func inUse(path, who string) error {
	if who == "" {
		return errs.New(errs.Conflict, "another process uses the VM's disks").WithHint("find it with: fuser %s", path)
	}
	return errs.New(errs.Conflict, "%s uses the VM's disks", who).WithHint("wait for it to end, and try again")
}

// Holder says whether somebody holds the lock alone, and the holder's word: "" for a
// VM. A missing file is free.
func Holder(path string) (held bool, who string, err error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, "", nil
	}
	if err != nil {
		return false, "", err
	}
	defer func() { _ = f.Close() }()
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, word(f), nil
	}
	return false, "", err
}

// Busy is the error of one who needs the disks of a VM alone, or nil: also readers
// are in the way.
func Busy(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return inUse(path, word(f))
	}
	return err
}
