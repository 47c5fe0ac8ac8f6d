package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/base/errs"
	"banger/internal/base/paths"
)

const (
	// startTimeout bounds the daemon's start, which finds the running VMs again.
	startTimeout = 20 * time.Second
	// readyVariable names the descriptor on which the new daemon reports: "ok\n"
	// once it serves, or why it cannot.
	readyVariable = "BANGER_READY_FD"
	// maxReport bounds that report, in bytes.
	maxReport = 4 << 10
)

// start makes sure that a daemon serves. Command lines that come at the same
// time take turns, so that only the first one starts it.
func start(ctx context.Context, dirs paths.Dirs) error {
	unlock, err := lock(ctx, dirs.StartLock())
	if err != nil {
		return fmt.Errorf("cannot lock the start of the daemon: %w", err)
	}
	defer unlock()
	if up, err := awaitOther(ctx, dirs); err != nil || up {
		return err
	}
	return launch(ctx, dirs.DaemonLog())
}

// awaitOther says whether another daemon serves. One that lives and does not
// answer is about to begin or to end: it gets the time for that.
func awaitOther(ctx context.Context, dirs paths.Dirs) (serves bool, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, errs.New(errs.Timeout, "a daemon runs, but does not answer").
		WithHint("look into %s", dirs.DaemonLog()))
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if up, err := answers(ctx, dirs.DaemonSocket()); err != nil || up {
			return up, err
		}
		if lives, err := locked(dirs.DaemonLock()); err != nil || !lives {
			return false, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
}

// locked says whether somebody holds the lock on the file at path. The probe
// disturbs nobody, since only the holder of the start lock starts daemons.
func locked(path string) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("cannot look for a daemon: %w", err)
	}
	defer f.Close()
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}

// lock takes the exclusive lock on the file at path, which it makes.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	// flock(2) cannot be interrupted. When ctx ends first, whoever holds the lock
	// gives it up within startTimeout, and the goroutine with it.
	got := make(chan error, 1)
	go func() {
		for {
			if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); !errors.Is(err, unix.EINTR) {
				got <- err
				return
			}
		}
	}()
	release := func() { _ = f.Close() }
	select {
	case err := <-got:
		if err != nil {
			release()
			return nil, err
		}
		return release, nil
	case <-ctx.Done():
		go func() {
			<-got
			release()
		}()
		return nil, ctx.Err()
	}
}

// launch starts the daemon in a session of its own and waits for its report.
func launch(ctx context.Context, logPath string) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("cannot start the daemon: %w", err)
	}
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return errs.New(errs.Unavailable, "cannot open the daemon's log: %w", err)
	}
	defer log.Close()
	ready, report, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("cannot start the daemon: %w", err)
	}
	defer ready.Close()
	// Not CommandContext: the daemon outlives the command that starts it.
	cmd := exec.Command(self, "daemon", "serve")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), readyVariable+"=3")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{report}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	_ = report.Close()
	if err != nil {
		return errs.New(errs.Unavailable, "cannot start the daemon: %w", err)
	}
	// It is init's child as soon as we end; until then it is ours to reap.
	go func() { _ = cmd.Wait() }()

	text, err := readReport(ctx, ready)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, os.ErrDeadlineExceeded):
		_ = cmd.Process.Kill()
		return errs.New(errs.Timeout, "the daemon does not serve after %s", startTimeout).WithHint("look into %s", logPath)
	case text == "ok":
		return nil
	case text == "":
		text = "it ended without a word"
	}
	return errs.New(errs.Unavailable, "cannot start the daemon: %s", text).WithHint("look into %s", logPath)
}

// readReport reads the daemon's report up to its end or "ok\n".
func readReport(ctx context.Context, ready *os.File) (string, error) {
	if err := ready.SetReadDeadline(time.Now().Add(startTimeout)); err != nil {
		return "", err
	}
	defer context.AfterFunc(ctx, func() { _ = ready.SetReadDeadline(time.Now()) })()
	var text strings.Builder
	buf := make([]byte, 512)
	for text.Len() < maxReport {
		n, err := ready.Read(buf)
		text.Write(buf[:n])
		if text.String() == "ok\n" || errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", err
		}
	}
	return strings.TrimSpace(text.String()), nil
}
