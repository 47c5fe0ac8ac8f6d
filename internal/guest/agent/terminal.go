package agent

import (
	"errors"
	"math"
	"os"

	"golang.org/x/sys/unix"

	guestv1 "banger/api/guest/v1"
)

// endOfInput is the control character that ends a terminal's input, VEOF of a new
// terminal (termios(3)): Ctrl-D.
const endOfInput = 4

// terminal is the master side of a pseudo-terminal (pty(7)).
type terminal struct {
	master *os.File
}

// openTerminal opens a pseudo-terminal, whose slave belongs to uid. The caller
// closes both sides.
func openTerminal(uid uint32) (*terminal, *os.File, error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	slave, err := openSlave(fd, uid)
	if err != nil {
		return nil, nil, errors.Join(err, unix.Close(fd))
	}
	// Since the descriptor is non-blocking, the runtime's poller serves the file and
	// closing it ends a read.
	return &terminal{os.NewFile(uintptr(fd), "terminal")}, slave, nil
}

// openSlave opens the slave by its master, not by a path, which another mount may
// hide.
func openSlave(master int, uid uint32) (*os.File, error) {
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return nil, err
	}
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return nil, errno
	}
	slave := os.NewFile(fd, "slave")
	if err := slave.Chown(int(uid), -1); err != nil {
		return nil, errors.Join(err, slave.Close())
	}
	return slave, nil
}

// resize sets the window's size, in cells; a size that cannot be is cut.
func (t *terminal) resize(size *guestv1.WindowSize) error {
	cell := func(n uint32) uint16 { return uint16(min(n, math.MaxUint16)) }
	return t.control(func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: cell(size.GetRows()), Col: cell(size.GetCols())})
	})
}

// foreground is the process group that the terminal's keys reach.
func (t *terminal) foreground() (group int, err error) {
	err = t.control(func(fd int) error {
		group, err = unix.IoctlGetInt(fd, unix.TIOCGPGRP)
		return err
	})
	return group, err
}

func (t *terminal) control(do func(fd int) error) error {
	raw, err := t.master.SyscallConn()
	if err != nil {
		return err
	}
	var doErr error
	return errors.Join(raw.Control(func(fd uintptr) { doErr = do(int(fd)) }), doErr)
}
