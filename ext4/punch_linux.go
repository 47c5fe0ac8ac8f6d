package ext4

import (
	"errors"
	"syscall"
)

// fallocate(2) flags, which package syscall lacks.
const (
	fallocKeepSize  = 0x1
	fallocPunchHole = 0x2
)

// punch makes a range of a file read as zeros, and gives its space back where the
// host's file system can.
func punch(f File, off, n int64) error {
	c, ok := f.(syscall.Conn)
	if !ok {
		return zero(f, off, n)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		for {
			failed = syscall.Fallocate(int(fd), fallocPunchHole|fallocKeepSize, off, n)
			if failed != syscall.EINTR {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	if errors.Is(failed, syscall.EOPNOTSUPP) || errors.Is(failed, syscall.ENOSYS) {
		return zero(f, off, n)
	}
	return failed
}
