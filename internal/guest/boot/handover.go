package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"banger/internal/guestabi"
)

// inits are the programs that can be PID 1 after us, in the order of preference:
// the kernel's own list (init/main.c), then systemd where nothing links to it.
var inits = []string{"/sbin/init", "/etc/init", "/bin/init", "/usr/lib/systemd/systemd", "/lib/systemd/systemd"}

// environment is what an init may expect of the kernel, and a PATH.
var environment = []string{"HOME=/", "TERM=linux", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}

// agentProcess is the running agent.
type agentProcess struct {
	pid int
	// handover is the pipe that the exec of an init closes.
	handover *os.File
}

// startAgent starts this program again as the agent. Its errors go to the kernel
// log, where a user finds them with dmesg.
func (b *booter) startAgent() error {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	kmsg, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer kmsg.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	// The image's init starts at the same moment and would take the CPU that the
	// agent needs to answer the host. A child has its thread's priority.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, guestabi.AgentNice); err != nil {
		warn(fmt.Errorf("cannot raise the agent's priority: %w", err))
	}
	p, err := os.StartProcess("/proc/self/exe", b.agentArgs(), &os.ProcAttr{
		Dir: "/", Env: environment, Files: []*os.File{null, kmsg, kmsg, r}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, 0)
	if err != nil {
		return errors.Join(err, w.Close())
	}
	// Sessions share the CPU before processes do (sched(7), autogroup).
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/autogroup", p.Pid), strconv.AppendInt(nil, guestabi.AgentNice, 10), 0)
	b.agent = &agentProcess{pid: p.Pid, handover: w}
	// PID 1 reaps whatever ends; it must not wait for one child by its handle.
	return p.Release()
}

// agentArgs is the agent's command line; package guest reads it.
func (b *booter) agentArgs() []string {
	return []string{b.agentName, b.config.Link, b.config.PowerOff}
}

// handOver becomes the image's init and does not return, unless there is none or
// none can be run.
func (b *booter) handOver() error {
	var failed []error
	for _, path := range inits {
		if !isProgram(path) || isIdle("/", path) {
			continue
		}
		err := unix.Exec(path, []string{path}, environment)
		failed = append(failed, fmt.Errorf("cannot run the image's init %q: %w", path, err))
	}
	return errors.Join(failed...)
}

func isProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
}

// isIdle says whether the init at path, below root, is busybox's and has nothing
// to start: neither its own script nor what /etc/inittab begins with. Images of
// small distributions have one without the services that it was made for, and it
// would only keep shells and gettys on terminals that there are not.
func isIdle(root, path string) bool {
	program, err := filepath.EvalSymlinks(path)
	if err != nil || filepath.Base(program) != "busybox" {
		return false
	}
	table, err := readBounded(filepath.Join(root, "etc/inittab"))
	if err != nil { // busybox's own: the script, and shells
		return !isProgram(filepath.Join(root, "etc/init.d/rcS"))
	}
	first := sysinit(string(table))
	return len(first) > 0 && !slices.ContainsFunc(first, func(name string) bool { return isProgram(filepath.Join(root, name)) })
}

// sysinit returns the programs of an inittab's sysinit entries, which are
// "terminal:runlevels:action:command" (busybox: examples/inittab).
func sysinit(table string) (programs []string) {
	for line := range strings.Lines(table) {
		entry := strings.SplitN(line, ":", 4)
		if len(entry) == 4 && entry[2] == "sysinit" && !strings.HasPrefix(strings.TrimSpace(line), "#") {
			if words := strings.Fields(strings.TrimPrefix(entry[3], "-")); len(words) > 0 {
				programs = append(programs, words[0])
			}
		}
	}
	return programs
}
