package boot

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/guestabi"
)

// stopAll ends all processes, in order, then makes the disks clean.
func (b *booter) stopAll(signals <-chan os.Signal) {
	agent := 0
	if b.agent != nil {
		agent = b.agent.pid
	}
	_ = unix.Kill(-1, unix.SIGTERM)
	_ = unix.Kill(-1, unix.SIGCONT)
	b.awaitEnd(signals, stopTimeout, agent)
	b.agent = nil
	_ = unix.Kill(-1, unix.SIGKILL)
	b.awaitEnd(signals, killTimeout, 0)
	unix.Sync()
	b.unmountAll()
	unix.Sync()
}

// awaitEnd returns when no process but PID 1 and agent is left, or after bound.
// The end of a process that is nobody's child of ours shows only in /proc, so it
// looks there now and then as well.
func (b *booter) awaitEnd(signals <-chan os.Signal, bound time.Duration, agent int) {
	deadline := time.NewTimer(bound)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		b.reap()
		if processes("/proc", agent) == 0 {
			return
		}
		select {
		case <-signals:
		case <-tick.C:
		case <-deadline.C:
			return
		}
	}
}

// processes counts the live processes that proc shows, other than PID 1, agent
// and the kernel's own threads.
func processes(proc string, agent int) int {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return 0
	}
	n := 0
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == 1 || pid == agent {
			continue
		}
		stat, err := os.ReadFile(proc + "/" + e.Name() + "/stat")
		if err != nil {
			continue
		}
		if state, parent := parseStat(stat); state != 'Z' && state != 'X' && parent != kthreadd && pid != kthreadd {
			n++
		}
	}
	return n
}

// kthreadd is the parent of all kernel threads (kernel: init/main.c).
const kthreadd = 2

// parseStat reads the state and the parent of a line of /proc/<pid>/stat
// (proc_pid_stat(5)): they follow the name, which may hold any byte but ends with
// the last parenthesis.
func parseStat(line []byte) (state byte, parent int) {
	fields := bytes.Fields(line[bytes.LastIndexByte(line, ')')+1:])
	if len(fields) < 2 || len(fields[0]) != 1 {
		return 0, 0
	}
	parent, err := strconv.Atoi(string(fields[1]))
	if err != nil {
		return 0, 0
	}
	return fields[0][0], parent
}

// unmountAll unmounts what can be unmounted and makes the rest read-only, the
// latest mount first, then the root and the disk below it.
func (b *booter) unmountAll() {
	table, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		warn(fmt.Errorf("cannot unmount: %w", err))
	}
	for _, target := range slices.Backward(mountPoints(string(table))) {
		if target == "/" || strings.HasPrefix(target, "/proc") || strings.HasPrefix(target, "/sys") || strings.HasPrefix(target, "/dev") {
			continue
		}
		if err := unix.Unmount(target, 0); err != nil {
			_ = unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
		}
	}
	if err := unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		warn(fmt.Errorf("cannot make the root read-only: %w", err))
	}
	if err := unix.Mount("", fmt.Sprintf("/proc/self/fd/%d", b.system.Fd()), "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		warn(fmt.Errorf("cannot make the system disk read-only: %w", err))
	}
}

// mountPoints returns the second field of each line of a mount table (fstab(5)),
// with its octal escapes undone.
func mountPoints(table string) []string {
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var all []string
	for line := range strings.Lines(table) {
		if fields := strings.Fields(line); len(fields) > 1 {
			all = append(all, unescape.Replace(fields[1]))
		}
	}
	return all
}

// powerOff writes everything to the disks and switches the machine off, in the
// way that its VMM understands (guestabi.ArgPowerOff). It returns if that failed.
func powerOff(how string) {
	unix.Sync()
	if how != guestabi.PowerOffReset {
		_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	}
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
}
