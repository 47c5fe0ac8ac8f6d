package ext4

import (
	"errors"
	"fmt"
	"syscall"
)

// ofdSetlk is F_OFD_SETLK of fcntl(2): a lock that belongs to the open file, not to the
// process, so that it ends with the file alone.
const ofdSetlk = 37

// lockFile takes a lock for writing on all bytes of a file, if it has a descriptor.
// QEMU locks some bytes of an image (100 and up, 200 and up) in the same way, so that
// either sees the other.
func lockFile(f File) (unlock func(), err error) {
	c, ok := f.(syscall.Conn)
	if !ok {
		return func() {}, nil
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	set := func(kind int16) error {
		var lockErr error
		err := raw.Control(func(fd uintptr) {
			lockErr = syscall.FcntlFlock(fd, ofdSetlk, &syscall.Flock_t{Type: kind})
		})
		return errors.Join(err, lockErr)
	}
	err = set(syscall.F_WRLCK)
	switch {
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EACCES):
		return nil, ErrInUse
	case errors.Is(err, syscall.EBADF):
		return nil, fmt.Errorf("the image is not open for writing: %w", err)
	case errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.ENOLCK), errors.Is(err, syscall.ENOTSUP):
		// A file system that has no locks.
		return func() {}, nil
	case err != nil:
		return nil, err
	}
	return func() { set(syscall.F_UNLCK) }, nil
}
