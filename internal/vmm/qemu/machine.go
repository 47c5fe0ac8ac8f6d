package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"banger/internal/base/undo"
	"banger/internal/vmm"
)

// machine is one QEMU process and the host's ends of its channels.
type machine struct {
	host   vmm.Host
	config vmm.Config
	// The host's ends.
	console, link, qmp *os.File
	// theirs are QEMU's ends, closed here once it runs.
	theirs []*os.File

	done chan struct{}

	mu      sync.Mutex
	started bool
	closed  bool
	process *os.Process // nil before Start and after the exit
	monitor *monitor
	exit    vmm.Exit
}

func newMachine(host vmm.Host, c vmm.Config) (_ *machine, err error) {
	m := &machine{host: host, config: c, done: make(chan struct{})}
	var cleanup undo.Stack
	defer func() {
		if err != nil {
			err = errors.Join(err, cleanup.Run())
		}
	}()
	for _, ours := range []**os.File{&m.console, &m.link, &m.qmp} {
		host, guest, err := socketpair()
		if err != nil {
			return nil, err
		}
		cleanup.Add(host.Close)
		cleanup.Add(guest.Close)
		*ours = host
		m.theirs = append(m.theirs, guest)
	}
	return m, nil
}

// socketpair returns two connected ends; the host's is served by Go's poller.
func socketpair() (host, guest *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot make a socket pair: %w", err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return nil, nil, errors.Join(err, unix.Close(fds[0]), unix.Close(fds[1]))
	}
	return os.NewFile(uintptr(fds[0]), "vmm"), os.NewFile(uintptr(fds[1]), "vmm"), nil
}

// Start runs QEMU and returns when its monitor has greeted.
func (m *machine) Start(ctx context.Context) error {
	m.mu.Lock()
	if m.started || m.closed {
		m.mu.Unlock()
		return errors.New("the machine was started or closed before")
	}
	m.started = true
	m.mu.Unlock()

	args, err := arguments(m.host, m.config)
	if err != nil {
		return m.failed(err)
	}
	cmd := exec.Command(m.host.Binary, args...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.Dir = m.config.Dir
	stderr := &tail{log: m.config.Log}
	cmd.Stdout, cmd.Stderr = stderr, stderr
	cmd.ExtraFiles = append(cmd.ExtraFiles, m.theirs...)
	cmd.ExtraFiles = append(cmd.ExtraFiles, m.config.Inherit...)
	// A session of its own keeps a terminal's Ctrl-C away from it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}

	running := make(chan error, 1)
	go m.supervise(cmd, stderr, running)
	if err := <-running; err != nil {
		return m.failed(fmt.Errorf("cannot run %q: %w", m.host.Binary, err))
	}
	mon, err := newMonitor(ctx, m.qmp)
	if err != nil {
		_ = m.Signal(os.Kill)
		<-m.done
		return fmt.Errorf("cannot start the machine: %s: %w", m.Exit(), err)
	}
	m.mu.Lock()
	m.monitor = mon
	m.mu.Unlock()
	return nil
}

// failed records that QEMU never ran.
func (m *machine) failed(err error) error {
	m.mu.Lock()
	m.exit = vmm.Exit{Cause: vmm.ExitFailure, Detail: err.Error()}
	m.mu.Unlock()
	m.closeTheirs()
	close(m.done)
	return err
}

func (m *machine) closeTheirs() {
	for _, f := range m.theirs {
		_ = f.Close()
	}
}

// supervise runs QEMU to its end. It holds its thread all the while, because the
// parent-death signal is bound to the thread that forked (prctl(2)).
func (m *machine) supervise(cmd *exec.Cmd, stderr *tail, running chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		running <- err
		return
	}
	m.closeTheirs()
	m.mu.Lock()
	m.process = cmd.Process
	m.mu.Unlock()
	running <- nil
	_ = cmd.Wait()

	m.mu.Lock()
	m.process = nil
	mon := m.monitor
	m.mu.Unlock()
	reason := ""
	if mon != nil {
		reason = mon.wait() // QEMU has gone, so its last event is there
	}
	m.mu.Lock()
	m.exit = exitOf(cmd.ProcessState, reason, stderr.last())
	m.mu.Unlock()
	close(m.done)
}

// exitOf joins the process's status with the reason of QMP's SHUTDOWN event.
func exitOf(state *os.ProcessState, reason, stderr string) vmm.Exit {
	status, _ := state.Sys().(syscall.WaitStatus)
	switch {
	case status.Signaled():
		return vmm.Exit{Cause: vmm.ExitSignal, Detail: strings.TrimSpace(status.Signal().String() + " " + stderr)}
	case status.ExitStatus() != 0:
		return vmm.Exit{Cause: vmm.ExitFailure, Detail: strings.TrimSpace(fmt.Sprintf("exit status %d: %s", status.ExitStatus(), stderr))}
	case reason == "guest-reset":
		return vmm.Exit{Cause: vmm.ExitReboot}
	case reason == "guest-panic":
		return vmm.Exit{Cause: vmm.ExitPanic}
	case reason == "host-signal":
		return vmm.Exit{Cause: vmm.ExitSignal, Detail: "terminated"}
	}
	return vmm.Exit{Cause: vmm.ExitPowerOff}
}

func (m *machine) PID() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.process == nil {
		return 0
	}
	return m.process.Pid
}

func (m *machine) Accelerator() string { return m.host.Accelerator }

func (m *machine) Link() vmm.Link { return vmm.Link{Serial: m.link} }

func (m *machine) Console() io.ReadWriter { return console{m.console} }

// console turns the errors of a vanished peer into io.EOF.
type console struct{ *os.File }

func (c console) Read(p []byte) (int, error) {
	n, err := c.File.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && (errors.Is(err, syscall.ECONNRESET) || errors.Is(err, os.ErrClosed)) {
		err = io.EOF
	}
	return n, err
}

func (m *machine) Done() <-chan struct{} { return m.done }

func (m *machine) Exit() vmm.Exit {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.exit
}

func (m *machine) Signal(sig os.Signal) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.started {
		return errors.New("the machine has not been started")
	}
	if m.process == nil {
		return nil
	}
	if err := m.process.Signal(sig); !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// Close kills QEMU if it runs and releases the channels.
func (m *machine) Close() error {
	m.mu.Lock()
	started, closed := m.started, m.closed
	m.closed = true
	m.mu.Unlock()
	if started {
		_ = m.Signal(os.Kill)
		<-m.done
	} else if !closed {
		m.closeTheirs()
		close(m.done)
	}
	if closed {
		return nil
	}
	return errors.Join(m.console.Close(), ignoreClosed(m.link.Close()), ignoreClosed(m.qmp.Close()))
}

func ignoreClosed(err error) error {
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

// Pause stops the guest's CPUs.
func (m *machine) Pause(ctx context.Context) error { return m.execute(ctx, "stop") }

// Resume lets them run again.
func (m *machine) Resume(ctx context.Context) error { return m.execute(ctx, "cont") }

func (m *machine) execute(ctx context.Context, command string) error {
	m.mu.Lock()
	mon := m.monitor
	m.mu.Unlock()
	if mon == nil {
		return errors.New("the machine does not run")
	}
	return mon.execute(ctx, command)
}

// tail keeps the end of what QEMU says, and passes everything on to a log.
type tail struct {
	log io.Writer

	mu   sync.Mutex
	data []byte
}

// maxTail bounds the message of a QEMU that failed.
const maxTail = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	if t.log != nil {
		_, _ = t.log.Write(p) // a full disk must not stop the VM
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.data = append(t.data, p...)
	if over := len(t.data) - maxTail; over > 0 {
		t.data = t.data[over:]
	}
	return len(p), nil
}

func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.data))
}
