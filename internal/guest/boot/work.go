package boot

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"banger/internal/guestabi"
)

// staging is where the work disk is mounted while the image's /root can still be
// seen.
const staging = "/run/banger/work"

// mountWork fills a new work disk from the image's /root and mounts it there.
func mountWork() error {
	// Nobody else's, where the image has none; its own keeps its mode.
	if err := os.Mkdir("/root", 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := ensureDir("/root"); err != nil {
		return err
	}
	if err := (mount{guestabi.WorkDisk, staging, "ext4", 0, ""}).do(); err != nil {
		return err
	}
	if err := seed("/root", staging); err != nil {
		return fmt.Errorf("cannot fill it from the image's /root: %w", err)
	}
	if err := unix.Mount(staging, "/root", "", unix.MS_MOVE, ""); err != nil {
		return err
	}
	return os.Remove(staging)
}
