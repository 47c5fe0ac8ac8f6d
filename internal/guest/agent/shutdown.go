package agent

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	guestv1 "banger/api/guest/v1"
	"banger/internal/guestabi"
)

// Names of PID 1 that the agent knows how to talk to.
const (
	systemd    = "systemd"
	bangerInit = "banger-init"
	busybox    = "busybox"
	openrcInit = "openrc-init"
	// systemdShutdown is what systemd becomes for its last steps.
	systemdShutdown = "systemd-shutdown"
)

const (
	// shutdownRetry is the time between two requests to PID 1: early in its life an
	// init may not listen yet, and the kernel drops what PID 1 does not listen to.
	shutdownRetry = time.Second
	// systemdGrace is how long systemd may take: its services have 90 s.
	systemdGrace = 120 * time.Second
	// initGrace is how long any other init may take.
	initGrace = 20 * time.Second
	// toolTimeout bounds one run of an init's own poweroff.
	toolTimeout = 10 * time.Second
)

// Signals with which systemd's PID 1 begins a power-off and a reboot
// (systemd(1)): SIGRTMIN+4 and SIGRTMIN+5, where SIGRTMIN is glibc's, 34.
const (
	systemdPowerOff = unix.Signal(34 + 4)
	systemdReboot   = unix.Signal(34 + 5)
)

// initName is the name of PID 1's program: "systemd", "banger-init" or whatever it
// is. The program is asked, not /proc/1/comm, since systemd is called "init" in
// its first moments.
func initName() string {
	path, err := os.Readlink("/proc/1/exe")
	if err != nil {
		return readLine("/proc/1/comm")
	}
	if sameFile("/proc/1/exe", "/proc/self/exe") {
		return bangerInit
	}
	// An upgrade has replaced the file of a running init.
	return strings.TrimSuffix(filepath.Base(path), " (deleted)")
}

func sameFile(a, b string) bool {
	one, errOne := os.Stat(a)
	two, errTwo := os.Stat(b)
	return errOne == nil && errTwo == nil && os.SameFile(one, two)
}

// Shutdown writes everything to the disks, asks PID 1 to end the machine, and
// returns. If PID 1 does not, the agent ends the machine itself.
func (s *service) Shutdown(context.Context, *guestv1.ShutdownRequest) (*guestv1.ShutdownResponse, error) {
	unix.Sync()
	s.stopOnce.Do(func() { s.running.Go(s.stopMachine) })
	return &guestv1.ShutdownResponse{}, nil
}

// stopMachine returns when the agent ends; usually the machine does before.
func (s *service) stopMachine() {
	s.stopEnlisted()
	grace := initGrace
	if initName() == systemd {
		grace = systemdGrace
	}
	retry := time.NewTicker(shutdownRetry)
	defer retry.Stop()
	deadline := time.NewTimer(grace)
	defer deadline.Stop()
	for {
		if err := askInit(initName(), s.powerOff); err != nil {
			s.log.Warn("cannot ask PID 1 to stop the machine", "error", err)
		}
		select {
		case <-retry.C:
		case <-s.closing:
			return
		case <-deadline.C:
			s.log.Error("PID 1 did not stop the machine; the agent does")
			if err := forceOff(s.powerOff); err != nil {
				s.log.Error("cannot stop the machine", "error", err)
				return
			}
		}
	}
}

// askInit asks PID 1, by name, to stop the machine.
func askInit(name, powerOff string) error {
	switch {
	case name == systemd && powerOff == guestabi.PowerOffReset:
		return unix.Kill(1, systemdReboot)
	case name == systemd:
		return unix.Kill(1, systemdPowerOff)
	case name == systemdShutdown:
		return nil
	case name == bangerInit, name == busybox && powerOff == guestabi.PowerOffReset:
		return unix.Kill(1, unix.SIGTERM)
	case name == busybox:
		return unix.Kill(1, unix.SIGUSR2)
	}
	tool := shutdownTool(name, powerOff)
	ctx, cancel := context.WithTimeout(context.Background(), toolTimeout)
	defer cancel()
	return exec.CommandContext(ctx, tool[0], tool[1:]...).Run()
}

// shutdownTool is the command with which an init, by name, is asked: OpenRC's own has
// one to itself (openrc-shutdown(8)), since it has no signal for a power-off.
func shutdownTool(name, powerOff string) []string {
	verb := "poweroff"
	if powerOff == guestabi.PowerOffReset {
		verb = "reboot"
	}
	if name == openrcInit {
		return []string{"openrc-shutdown", "--" + verb, "now"}
	}
	return []string{verb}
}

// forceOff makes all file systems read-only and switches the machine off.
func forceOff(powerOff string) error {
	unix.Sync()
	// Sync, then remount read-only (kernel: Documentation/admin-guide/sysrq.rst).
	for _, key := range []string{"s", "u"} {
		if err := os.WriteFile("/proc/sysrq-trigger", []byte(key), 0); err != nil {
			break
		}
	}
	unix.Sync()
	if powerOff != guestabi.PowerOffReset {
		if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
			return err
		}
	}
	return unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
}
