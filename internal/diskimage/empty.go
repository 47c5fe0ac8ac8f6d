package diskimage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"banger/internal/base/errs"
	"banger/internal/vm"
)

// Empty makes an empty ext4 of that size at path, as a new sparse file of mode
// 0600 that takes a few megabytes (0.05 % of its size, for the journal and the
// like). label is at most 16 bytes. After an error the file does not exist.
//
// mkfs.ext4 of e2fsprogs 1.47 or newer does the work; where there is none the
// error is Unavailable and its hint says how to get it.
func Empty(ctx context.Context, path string, size vm.Size, label string) (err error) {
	mkfs, err := findMkfs()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("cannot make a disk: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	if err := errors.Join(f.Truncate(int64(size)), f.Close()); err != nil {
		return fmt.Errorf("cannot make a disk of %s: %w", size, err)
	}
	// A new file reads as zeros: nothing need be cleared, now or later by the guest.
	// 4 KiB blocks also for small disks, so that they grow well.
	cmd := exec.CommandContext(ctx, mkfs, "-q", "-F", "-b", strconv.Itoa(blockSize), "-m", "0", "-L", label,
		"-E", "assume_storage_prezeroed=1,nodiscard,root_owner=0:0", "--", path)
	cmd.Env = []string{"LC_ALL=C", "PATH=" + os.Getenv("PATH")}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("cannot make a disk of %s: mkfs.ext4: %w: %s", size, err, bytes.TrimSpace(out.Bytes()))
	}
	return nil
}

// findMkfs looks where an ordinary user's PATH does not.
func findMkfs() (string, error) {
	const name = "mkfs.ext4"
	if p, err := exec.LookPath(name); err == nil {
		return p, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if p, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return p, nil
		}
	}
	return "", errs.New(errs.Unavailable, "cannot make a disk: %s is not installed", name).WithHint("apt-get install e2fsprogs")
}
