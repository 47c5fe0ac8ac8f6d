package boot

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/guestabi"
)

const (
	// restartDelay is how long PID 1 waits before it starts a dead agent again.
	restartDelay = time.Second
	// stopTimeout bounds how long processes may take to end after SIGTERM.
	stopTimeout = 5 * time.Second
	// killTimeout bounds how long the kernel may take to end them after SIGKILL.
	killTimeout = 2 * time.Second
)

// stay is PID 1 of an image without an init: it reaps what ends and keeps an
// agent running. It returns nil when the machine is to be switched off and
// everything in it has ended.
func (b *booter) stay() error {
	signals := make(chan os.Signal, 64)
	signal.Notify(signals, unix.SIGCHLD, unix.SIGTERM, unix.SIGINT, unix.SIGPWR, unix.SIGUSR1, unix.SIGUSR2)
	// SIGINT instead of an instant reset for Ctrl-Alt-Del.
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF)
	if err := (mount{"cgroup2", "/sys/fs/cgroup", "cgroup2", nosuidDev | unix.MS_NOEXEC, ""}).do(); err != nil {
		warn(err)
	}
	if err := b.agent.handover.Close(); err != nil {
		return err
	}
	var restart <-chan time.Time
	for {
		b.reap()
		if b.agent == nil && restart == nil {
			restart = time.After(restartDelay)
		}
		select {
		case s := <-signals:
			if s == unix.SIGCHLD {
				continue
			}
			if s == unix.SIGINT {
				b.config.PowerOff = guestabi.PowerOffReset
			}
			b.stopAll(signals)
			return nil
		case <-restart:
			restart = nil
			if err := b.startAgent(); err != nil {
				warn(fmt.Errorf("cannot start the agent: %w", err))
				continue
			}
			_ = b.agent.handover.Close()
		}
	}
}

// reap takes every child that has ended.
func (b *booter) reap() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if pid <= 0 {
			return
		}
		if b.agent != nil && pid == b.agent.pid {
			warn(fmt.Errorf("the agent ended (wait status %#x) and is started again", int(status)))
			b.agent = nil
		}
	}
}
