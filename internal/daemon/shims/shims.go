// Package shims starts the processes that supervise VMs and finds them again.
//
// Words: a shim is the process (see internal/shim); the lock is that of the VM's
// disks (internal/base/disklock), held by the daemon while it starts a shim and from
// then on by the shim and its VMM. Whoever asks whether a VM runs asks the lock.
package shims

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	shimv1 "banger/api/shim/v1"
	"banger/internal/base/disklock"
	"banger/internal/base/errs"
	"banger/internal/base/paths"
	"banger/internal/base/undo"
	"banger/internal/vm"
)

// Bounds.
const (
	// readyTimeout bounds the time from the start of a shim to its VMM running.
	readyTimeout = 60 * time.Second
	// attachTimeout bounds the wait for the socket of a shim that holds the lock,
	// or for the lock of one that has died.
	attachTimeout = 15 * time.Second
	// maxReason bounds what a shim says when it cannot start.
	maxReason = 64 << 10
)

// Shims starts and finds the shims of one user.
type Shims struct {
	dirs paths.Dirs
	log  *slog.Logger
}

// New returns the shims below dirs.
func New(dirs paths.Dirs, log *slog.Logger) *Shims { return &Shims{dirs: dirs, log: log} }

// Launch starts a shim with the configuration and returns when its VMM runs. After
// an error nothing of it is left. The ctx bounds the launch only.
func (s *Shims) Launch(ctx context.Context, c *shimv1.Config) (_ *Shim, err error) {
	files := s.dirs.VM(c.GetVmId())
	config, err := protojson.Marshal(c)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(files.Run, 0o700); err != nil {
		return nil, err
	}
	var cleanup undo.Stack
	defer func() {
		if err != nil {
			err = errors.Join(err, cleanup.Run())
		}
	}()
	cleanup.Add(func() error { return os.RemoveAll(files.Run) })
	lock, err := disklock.Take(files.Lock(), "")
	if err != nil {
		return nil, err
	}
	// The shim has it from here on; ours must not outlast this call.
	defer func() { _ = lock.Close() }()

	ready, theirs, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { _ = ready.Close() }()
	// The daemon's own program, also after an upgrade has replaced the file.
	cmd := exec.Command("/proc/self/exe", "shim")
	cmd.Args[0] = "banger"
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "BANGER_VM=" + c.GetName()}
	cmd.Dir = files.State
	cmd.Stdin = strings.NewReader(string(config))
	cmd.ExtraFiles = []*os.File{theirs, lock}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot start the shim: %w", err), theirs.Close())
	}
	_ = theirs.Close()
	reaped := make(chan struct{})
	go func() { // a shim that ends while this daemon lives is our child
		defer close(reaped)
		_ = cmd.Wait()
	}()
	cleanup.Add(func() error {
		_ = cmd.Process.Kill()
		<-reaped
		return s.waitUnlocked(files.Lock())
	})
	if err := waitReady(ctx, ready); err != nil {
		return nil, err
	}
	return s.connect(ctx, files, reaped)
}

// waitReady reads "ok" or the reason why the shim could not start its VMM.
func waitReady(ctx context.Context, ready *os.File) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = ready.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	line, err := bufio.NewReader(io.LimitReader(ready, maxReason)).ReadString('\n')
	reason := strings.TrimSpace(line)
	switch {
	case reason == "ok":
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("cannot start the VMM: %w", ctx.Err())
	case err != nil && reason == "":
		return errs.New(errs.Internal, "cannot start the VMM: its shim died").WithHint("see shim.log in the VM's folder")
	}
	return errs.New(errs.Unavailable, "cannot start the VMM: %s", reason).WithHint("banger doctor")
}

// Attach returns the shim of a VM that runs, or nil if none does.
func (s *Shims) Attach(ctx context.Context, id vm.ID) (*Shim, error) {
	files := s.dirs.VM(string(id))
	running, err := runs(files.Lock())
	if err != nil || !running {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, attachTimeout)
	defer cancel()
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		shim, err := s.connect(ctx, files, nil)
		if err == nil {
			tick.Stop()
			return shim, nil
		}
		// It may be on its way up, or on its way down.
		if running, lockErr := runs(files.Lock()); lockErr != nil || !running {
			tick.Stop()
			return nil, lockErr
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			tick.Stop()
			return nil, errs.New(errs.Unavailable, "the VM's disks are locked, but its shim does not answer: %w", err).
				WithHint("find the process with: fuser %s", files.Lock())
		}
	}
}

// LastStatus is what the VM's last shim left behind, or nil.
func (s *Shims) LastStatus(id vm.ID) *shimv1.Status { return readExit(s.dirs.VM(string(id)).Exit()) }

func readExit(path string) *shimv1.Status {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var st shimv1.Status
	if (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(text, &st) != nil {
		return nil
	}
	return &st
}

// runs says whether a VM's processes hold its lock. A command that edits the disks
// may hold it too: that is no VM.
func runs(path string) (bool, error) {
	held, who, err := disklock.Holder(path)
	return held && who == "", err
}

// waitUnlocked waits for the last holder of a lock to die. The kernel tells
// nobody when that happens, hence the ticks.
func (s *Shims) waitUnlocked(path string) error {
	deadline := time.After(attachTimeout)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		running, err := runs(path)
		if err != nil || !running {
			return err
		}
		select {
		case <-tick.C:
		case <-deadline:
			return fmt.Errorf("a process still holds %q %s after it was killed", path, attachTimeout)
		}
	}
}
