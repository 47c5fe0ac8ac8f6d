package boot

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
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
	p, err := os.StartProcess("/proc/self/exe", b.agentArgs(), &os.ProcAttr{
		Dir: "/", Env: environment, Files: []*os.File{null, kmsg, kmsg, r}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return errors.Join(err, w.Close())
	}
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
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0 {
			continue
		}
		err = unix.Exec(path, []string{path}, environment)
		failed = append(failed, fmt.Errorf("cannot run the image's init %q: %w", path, err))
	}
	return errors.Join(failed...)
}
