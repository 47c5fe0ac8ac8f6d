// Package vmmtest tests VMM drivers: a conformance suite that every driver
// passes, a guest of about a hundred bytes for it, and a fake driver for those
// who need machines without a VMM.
package vmmtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"banger/internal/vmm"
)

// Fake is a driver whose guests are Go functions. The zero value runs [Echo].
type Fake struct {
	// Run is the guest's kernel and all of its programs. When it returns, the
	// machine keeps running; it ends the machine with PowerOff or Reboot.
	Run func(*FakeGuest)
}

// FakeGuest is a machine from the inside.
type FakeGuest struct {
	// Config is the machine's.
	Config vmm.Config
	// Link is the guest's end of the link; Console its serial port.
	Link    net.Conn
	Console io.ReadWriter
	// Context ends with the machine.
	Context context.Context //nolint:containedctx // it is the machine's life
	m       *fakeMachine
}

// PowerOff ends the machine as a guest's power-off does.
func (g *FakeGuest) PowerOff() { g.m.end(vmm.Exit{Cause: vmm.ExitPowerOff}) }

// Reboot ends the machine as a guest's reboot does.
func (g *FakeGuest) Reboot() { g.m.end(vmm.Exit{Cause: vmm.ExitReboot}) }

// Echo is a guest that behaves like [Kernel].
func Echo(g *FakeGuest) {
	_, _ = io.WriteString(g.Console, "ready\n")
	buf := make([]byte, 1)
	for {
		if _, err := g.Console.Read(buf); err != nil {
			return
		}
		switch buf[0] {
		case 'r':
			g.Reboot()
		case 'p':
			g.PowerOff()
		default:
			_, _ = g.Console.Write(buf)
		}
	}
}

// Name returns "fake".
func (*Fake) Name() string { return "fake" }

// Probe finds nothing to complain about.
func (*Fake) Probe(context.Context) (vmm.Host, error) {
	return vmm.Host{Binary: "/fake", Version: "1", Accelerator: "tcg"}, nil
}

// Guest needs no modules.
func (*Fake) Guest() vmm.Guest { return vmm.Guest{} }

// Features declares the exit's reason.
func (*Fake) Features() vmm.Features { return vmm.Features{ExitReason: true} }

// Create prepares a machine; the kernel must look like an ELF.
func (f *Fake) Create(_ context.Context, c vmm.Config) (vmm.Machine, error) {
	files := []string{c.Kernel, c.Initramfs}
	for _, d := range c.Disks {
		files = append(files, d.Path)
	}
	for _, path := range files {
		if _, err := os.Stat(path); err != nil {
			return nil, err
		}
	}
	run := f.Run
	if run == nil {
		run = Echo
	}
	m := &fakeMachine{config: c, run: run, done: make(chan struct{})}
	var err error
	if m.console, m.guestConsole, err = streamPair(); err != nil {
		return nil, err
	}
	if m.link, m.guestLink, err = streamPair(); err != nil {
		return nil, errors.Join(err, m.console.Close(), m.guestConsole.Close())
	}
	return m, nil
}

// streamPair returns a connected pair with a kernel's buffering, as a VMM's has.
func streamPair() (a, b net.Conn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	conns := make([]net.Conn, 2)
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "pair")
		c, connErr := net.FileConn(file)
		err = errors.Join(err, connErr, file.Close())
		conns[i] = c
	}
	return conns[0], conns[1], err
}

// fakeMachine is a machine in this process.
type fakeMachine struct {
	config                                 vmm.Config
	run                                    func(*FakeGuest)
	console, guestConsole, link, guestLink net.Conn
	inherited                              []int
	done                                   chan struct{}

	mu      sync.Mutex
	started bool
	ended   bool
	closed  bool
	exit    vmm.Exit
	cancel  context.CancelFunc
	wg      sync.WaitGroup
}

func (m *fakeMachine) Start(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.started || m.closed {
		return errors.New("the machine was started or closed before")
	}
	m.started = true
	fail := func(err error) error {
		m.exit, m.ended = vmm.Exit{Cause: vmm.ExitFailure, Detail: err.Error()}, true
		m.closeGuest()
		close(m.done)
		return err
	}
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	kernel, err := os.ReadFile(m.config.Kernel)
	if err != nil {
		return fail(err)
	}
	if !bytes.HasPrefix(kernel, []byte("\x7fELF")) {
		return fail(fmt.Errorf("%q is not an ELF", m.config.Kernel))
	}
	for _, f := range m.config.Inherit {
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return fail(err)
		}
		m.inherited = append(m.inherited, fd)
	}
	guestCtx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	m.wg.Go(func() {
		m.run(&FakeGuest{Config: m.config, Link: m.guestLink, Console: m.guestConsole, Context: guestCtx, m: m})
	})
	return nil
}

// closeGuest releases what the "VMM" had; mu is held.
func (m *fakeMachine) closeGuest() {
	_ = m.guestConsole.Close()
	_ = m.guestLink.Close()
	for _, fd := range m.inherited {
		_ = unix.Close(fd)
	}
	m.inherited = nil
}

func (m *fakeMachine) end(exit vmm.Exit) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.started || m.ended {
		return
	}
	m.exit, m.ended = exit, true
	m.cancel()
	m.closeGuest()
	close(m.done)
}

func (m *fakeMachine) PID() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.started || m.ended {
		return 0
	}
	return os.Getpid()
}

func (m *fakeMachine) Accelerator() string    { return "tcg" }
func (m *fakeMachine) Link() vmm.Link         { return vmm.Link{Serial: m.link} }
func (m *fakeMachine) Console() io.ReadWriter { return m.console }
func (m *fakeMachine) Done() <-chan struct{}  { return m.done }

func (m *fakeMachine) Exit() vmm.Exit {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.exit
}

func (m *fakeMachine) Signal(sig os.Signal) error {
	m.mu.Lock()
	started := m.started
	m.mu.Unlock()
	if !started {
		return errors.New("the machine has not been started")
	}
	if sig == os.Kill || sig == syscall.SIGTERM {
		m.end(vmm.Exit{Cause: vmm.ExitSignal, Detail: sig.String()})
	}
	return nil
}

func (m *fakeMachine) Close() error {
	m.mu.Lock()
	closed, started := m.closed, m.started
	m.closed = true
	m.mu.Unlock()
	if closed {
		return nil
	}
	if started {
		m.end(vmm.Exit{Cause: vmm.ExitSignal, Detail: "killed"})
	} else {
		m.closeGuest()
		close(m.done)
	}
	m.wg.Wait()
	_ = m.link.Close() // whoever multiplexes on it may have closed it
	return m.console.Close()
}
