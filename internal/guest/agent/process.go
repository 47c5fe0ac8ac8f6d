package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	guestv1 "banger/api/guest/v1"
)

// process is a running command, the leader of its own session and group.
type process struct {
	cmd *exec.Cmd
	// stdin is the write end of its input, nil if that is /dev/null. With a
	// terminal, it is the terminal, like stdout.
	stdin *os.File
	// stdout and stderr are the read ends of its output; stderr is nil with a
	// terminal.
	stdout, stderr *os.File
	// terminal is nil without one.
	terminal *terminal
	// mu guards ended against a signal to a group whose number is free again.
	mu    sync.Mutex
	ended bool
}

// start runs c. The caller calls wait, then close. Errors are runErrors.
func start(c *command, req *guestv1.ExecStart) (_ *process, err error) {
	p := &process{cmd: &exec.Cmd{Path: c.path, Args: c.argv, Env: c.env, Dir: c.dir}}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid: true,
		// An ordinary user can run commands as no other, and may not even repeat its groups.
		Credential: &syscall.Credential{Uid: c.user.uid, Gid: c.user.gid, Groups: c.user.groups, NoSetGroups: os.Geteuid() != 0},
	}
	var theirs []*os.File
	defer func() {
		for _, f := range theirs {
			_ = f.Close()
		}
		if err != nil {
			p.close()
		}
	}()
	if req.GetTty() != nil {
		theirs, err = p.openTerminal(req.GetTty(), c.user.uid)
	} else {
		theirs, err = p.openPipes(req.GetStdin(), c.user.uid)
	}
	if err != nil {
		return nil, cannotRun("cannot run %q: %v", c.path, err)
	}
	if err := startNormal(p.cmd); err != nil {
		return nil, startError(c, err)
	}
	_ = protectFromOOM(p.cmd.Process.Pid, commandOOMScore)
	return p, nil
}

// startNormal starts a command with the usual priority: the agent has a higher one,
// and a child has its thread's.
func startNormal(cmd *exec.Cmd) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const nice0 = 20 // what getpriority(2) itself returns for a nice value of 0
	if own, err := unix.Getpriority(unix.PRIO_PROCESS, 0); err == nil && own > nice0 {
		if err := unix.Setpriority(unix.PRIO_PROCESS, 0, 0); err != nil {
			return err
		}
		defer func() { _ = unix.Setpriority(unix.PRIO_PROCESS, 0, nice0-own) }()
	}
	return cmd.Start()
}

// openPipes makes the command's three streams; it returns the ends that are the
// command's. Pipes belong to uid, so that it can open them again by their names
// in /dev: images log to /dev/stdout.
func (p *process) openPipes(withStdin bool, uid uint32) (theirs []*os.File, err error) {
	pipe := func(reader, writer **os.File) error {
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		*reader, *writer = r, w
		if int(uid) == os.Geteuid() {
			return nil
		}
		return w.Chown(int(uid), -1) // both ends are one file
	}
	var in, out, errOut *os.File
	if withStdin {
		err = pipe(&in, &p.stdin)
	} else {
		in, err = os.Open(os.DevNull)
	}
	err = errors.Join(err, pipe(&p.stdout, &out), pipe(&p.stderr, &errOut))
	for _, f := range []*os.File{in, out, errOut} {
		if f != nil {
			theirs = append(theirs, f)
		}
	}
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = in, out, errOut
	return theirs, err
}

// openTerminal makes the command's terminal; it returns the command's end.
func (p *process) openTerminal(size *guestv1.WindowSize, uid uint32) (theirs []*os.File, err error) {
	t, slave, err := openTerminal(uid)
	if err != nil {
		return nil, fmt.Errorf("cannot open a terminal: %w", err)
	}
	p.terminal, p.stdin, p.stdout = t, t.master, t.master
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = slave, slave, slave
	p.cmd.SysProcAttr.Setctty = true // descriptor 0 becomes the controlling terminal
	return []*os.File{slave}, t.resize(size)
}

// startError makes what fork and exec said a runError with the code of a shell.
func startError(c *command, err error) error {
	name := c.argv[0]
	switch {
	case errors.Is(err, unix.ENOENT):
		// The program is there, so it is its interpreter or loader that is not.
		return &runError{codeNotFound, fmt.Sprintf("%q: its interpreter was not found", name)}
	case errors.Is(err, unix.E2BIG):
		return cannotRun("%q: the arguments and the environment are longer than the VM's kernel accepts", name)
	case errors.Is(err, unix.ENOEXEC):
		return cannotRun("%q: not a program, and it has no #! line", name)
	}
	return cannotRun("cannot run %q in %q as user %q: %v", name, c.dir, c.user.name, cause(err))
}

// cause is the innermost reason of an error about a path that the message names
// already.
func cause(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

// wait waits for the command itself, not for its children.
func (p *process) wait() *guestv1.ExecExit {
	// First without taking it, so that its number stays its own until ended is set.
	for {
		err := unix.Waitid(unix.P_PID, p.cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	state, err := p.cmd.Process.Wait()
	if err != nil {
		return &guestv1.ExecExit{Code: codeCannotRun, Error: fmt.Sprintf("cannot learn how the command ended: %v", err)}
	}
	status, ok := state.Sys().(syscall.WaitStatus)
	if ok && status.Signaled() {
		return &guestv1.ExecExit{Code: 128 + int32(status.Signal()), Signal: int32(status.Signal())}
	}
	return &guestv1.ExecExit{Code: int32(state.ExitCode())}
}

// signal sends sig to the command's group or, on a terminal, to the group in its
// foreground. A command that has ended gets nothing.
func (p *process) signal(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return
	}
	group := p.cmd.Process.Pid
	if p.terminal != nil {
		if foreground, err := p.terminal.foreground(); err == nil && foreground > 1 {
			group = foreground
		}
	}
	_ = unix.Kill(-group, sig)
}

// hangUp sends sig to the command's own group, which continues if it was stopped.
func (p *process) hangUp(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		_ = unix.Kill(-p.cmd.Process.Pid, sig)
		_ = unix.Kill(-p.cmd.Process.Pid, unix.SIGCONT)
	}
}

// stop sends sig to the command itself, which continues if it was stopped.
func (p *process) stop(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		_ = unix.Kill(p.cmd.Process.Pid, sig)
		_ = unix.Kill(p.cmd.Process.Pid, unix.SIGCONT)
	}
}

// close closes our ends of the streams.
func (p *process) close() {
	for _, f := range []*os.File{p.stdin, p.stdout, p.stderr} {
		if f != nil {
			_ = f.Close() // a terminal is two of them, and is closed once
		}
	}
}
