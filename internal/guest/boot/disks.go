package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/guestabi"
)

// diskTimeout bounds the wait for a disk after the last module is loaded.
const diskTimeout = 30 * time.Second

// findDisks loads the modules and returns when the disks that every VM has are
// there. The modules disk comes after them in the order of discovery and is
// optional: it is there by then, or not at all.
func findDisks() error {
	// The socket is opened first, so that no event is missed in between.
	events, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return fmt.Errorf("cannot listen to the kernel's device events: %w", err)
	}
	defer unix.Close(events)
	if err := unix.Bind(events, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		return fmt.Errorf("cannot listen to the kernel's device events: %w", err)
	}
	if err := loadModules(guestabi.ModulesDir); err != nil {
		return err
	}
	deadline := time.Now().Add(diskTimeout)
	for _, disk := range []string{guestabi.BaseDisk, guestabi.SystemDisk, guestabi.WorkDisk} {
		if err := awaitFile(disk, events, deadline); err != nil {
			return err
		}
	}
	return nil
}

// awaitFile returns when path exists; it looks again at each device event.
func awaitFile(path string, events int, deadline time.Time) error {
	buf := make([]byte, 8<<10)
	for {
		if _, err := os.Stat(path); err == nil {
			return nil
		}
		left := time.Until(deadline)
		if left <= 0 {
			return fmt.Errorf("there is no %s after %s", path, diskTimeout)
		}
		fds := []unix.PollFd{{Fd: int32(events), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, int(left.Milliseconds())+1); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("cannot wait for %s: %w", path, err)
		}
		// What an event says does not matter, nor that some were lost.
		for {
			if _, err := unix.Read(events, buf); err != nil && !errors.Is(err, unix.ENOBUFS) {
				break
			}
		}
	}
}

// loadModules loads every "*.ko" of dir in the order of the names. A module that
// is there already, or whose device is not, is no failure.
func loadModules(dir string) error {
	entries, err := os.ReadDir(dir) // sorted
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".ko") {
			continue
		}
		if err := loadModule(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("cannot load the module %q: %w", e.Name(), err)
		}
	}
	return nil
}

func loadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	err = unix.FinitModule(int(f.Fd()), "", 0)
	if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}
