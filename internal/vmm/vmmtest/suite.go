package vmmtest

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/vm"
	"banger/internal/vmm"
)

// bound is what a single step of a tiny guest may take on a busy machine.
const bound = 30 * time.Second

// Run is the conformance suite: what every caller of a driver relies on.
func Run(t *testing.T, driver vmm.Driver) {
	s := suite{driver}
	t.Run("Probe", s.probe)
	t.Run("MissingFilesAreRefused", s.missingFiles)
	t.Run("ConsoleAndPowerOff", s.powerOff)
	t.Run("Reboot", s.reboot)
	t.Run("Kill", s.kill)
	t.Run("CloseAtAnyTime", s.closeAnytime)
	t.Run("StartOnce", s.startOnce)
	t.Run("StartGivesUpWithItsContext", s.startCancelled)
	t.Run("BadKernel", s.badKernel)
	t.Run("VMMHoldsInheritedFiles", s.inherit)
	if driver.Features().Pause {
		t.Run("Pause", s.pause)
	}
	t.Run("NothingIsLeftOpen", s.leaks)
}

type suite struct{ driver vmm.Driver }

func (s suite) config(t *testing.T) vmm.Config {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	run := filepath.Join(dir, "run")
	if err := os.Mkdir(run, 0o700); err != nil {
		t.Fatal(err)
	}
	return vmm.Config{
		ID: "vmmtest", VCPUs: 1, Memory: 64 * vm.MiB, Kernel: write("kernel", Kernel()), Initramfs: write("initramfs", []byte("x")),
		CommandLine: "x=y", Dir: run,
		Disks: []vmm.Disk{{ID: "base", Path: write("base", make([]byte, 4096)), ReadOnly: true}, {ID: "system", Path: write("system", make([]byte, 4096))}},
	}
}

func (s suite) create(t *testing.T, c vmm.Config) vmm.Machine {
	t.Helper()
	m, err := s.driver.Create(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return m
}

// start returns a machine whose guest has said that it is ready.
func (s suite) start(t *testing.T, c vmm.Config) vmm.Machine {
	t.Helper()
	m := s.create(t, c)
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	if err := m.Start(ctx); err != nil {
		t.Fatal(err)
	}
	expect(t, m, "ready\n")
	return m
}

// expect reads the console until text has come.
func expect(t *testing.T, m vmm.Machine, text string) {
	t.Helper()
	found := make(chan error, 1)
	go func() {
		var seen []byte
		buf := make([]byte, 256)
		for !strings.Contains(string(seen), text) {
			n, err := m.Console().Read(buf)
			if seen = append(seen, buf[:n]...); err != nil {
				found <- err
				return
			}
		}
		found <- nil
	}()
	select {
	case err := <-found:
		if err != nil {
			t.Fatalf("the console ended before %q: %v", text, err)
		}
	case <-time.After(bound):
		t.Fatalf("%q did not come on the console", text)
	}
}

func typeIn(t *testing.T, m vmm.Machine, text string) {
	t.Helper()
	if _, err := io.WriteString(m.Console(), text); err != nil {
		t.Fatal(err)
	}
}

func wait(t *testing.T, m vmm.Machine) vmm.Exit {
	t.Helper()
	select {
	case <-m.Done():
	case <-time.After(bound):
		t.Fatal("the VMM did not exit")
	}
	if pid := m.PID(); pid != 0 {
		t.Errorf("PID() = %d after the exit, want 0", pid)
	}
	return m.Exit()
}

func (s suite) probe(t *testing.T) {
	h, err := s.driver.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !filepath.IsAbs(h.Binary) || h.Version == "" || (h.Accelerator != "kvm" && h.Accelerator != "tcg") {
		t.Errorf("Probe() = %+v", h)
	}
}

func (s suite) missingFiles(t *testing.T) {
	for _, spoil := range []func(*vmm.Config){
		func(c *vmm.Config) { c.Kernel += "-none" },
		func(c *vmm.Config) { c.Initramfs += "-none" },
		func(c *vmm.Config) { c.Disks[1].Path += "-none" },
	} {
		c := s.config(t)
		spoil(&c)
		if m, err := s.driver.Create(t.Context(), c); err == nil || !strings.Contains(err.Error(), "-none") {
			t.Errorf("a missing file: %v; want an error that names it", err)
			if m != nil {
				_ = m.Close()
			}
		}
	}
}

func (s suite) powerOff(t *testing.T) {
	m := s.create(t, s.config(t))
	if m.PID() != 0 {
		t.Errorf("PID() = %d before Start", m.PID())
	}
	if err := m.Signal(os.Kill); err == nil {
		t.Error("Signal before Start: no error")
	}
	if l := m.Link(); (l.Serial == nil) == (l.VsockUDS == "") || l != m.Link() {
		t.Errorf("Link() = %+v; want exactly one transport, the same each time", l)
	}
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if pid := m.PID(); pid <= 0 || syscall.Kill(pid, 0) != nil {
		t.Errorf("PID() = %d, which is not a process", pid)
	}
	expect(t, m, "ready\n")
	typeIn(t, m, "x")
	expect(t, m, "x")
	typeIn(t, m, "p")
	if e := wait(t, m); s.driver.Features().ExitReason && e.Cause != vmm.ExitPowerOff {
		t.Errorf("exit %q, want %q", e, vmm.ExitPowerOff)
	}
	if _, err := io.Copy(io.Discard, m.Console()); err != nil {
		t.Errorf("the console after the exit: %v, want io.EOF", err)
	}
}

func (s suite) reboot(t *testing.T) {
	m := s.start(t, s.config(t))
	typeIn(t, m, "r")
	if e := wait(t, m); s.driver.Features().ExitReason && e.Cause != vmm.ExitReboot {
		t.Errorf("exit %q, want %q", e, vmm.ExitReboot)
	}
}

func (s suite) kill(t *testing.T) {
	m := s.start(t, s.config(t))
	if err := m.Signal(os.Kill); err != nil {
		t.Fatal(err)
	}
	if e := wait(t, m); e.Cause != vmm.ExitSignal || e.Detail == "" {
		t.Errorf("exit %q, want %q and the signal", e, vmm.ExitSignal)
	}
	if err := m.Signal(os.Kill); err != nil {
		t.Errorf("Signal after the exit: %v, want nil", err)
	}
}

func (s suite) closeAnytime(t *testing.T) {
	never := s.create(t, s.config(t))
	running := s.start(t, s.config(t))
	for name, m := range map[string]vmm.Machine{"never started": never, "running": running} {
		for range 2 {
			if err := m.Close(); err != nil {
				t.Errorf("%s: Close: %v", name, err)
			}
		}
		wait(t, m)
		if err := m.Start(t.Context()); err == nil {
			t.Errorf("%s: Start after Close: no error", name)
		}
	}
}

func (s suite) startOnce(t *testing.T) {
	m := s.start(t, s.config(t))
	if err := m.Start(t.Context()); err == nil {
		t.Error("a second Start: no error")
	}
	typeIn(t, m, "y")
	expect(t, m, "y")
}

func (s suite) startCancelled(t *testing.T) {
	m := s.create(t, s.config(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Start(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Start with an ended context: %v", err)
	}
	wait(t, m)
}

func (s suite) badKernel(t *testing.T) {
	c := s.config(t)
	if err := os.WriteFile(c.Kernel, []byte("not a kernel"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := s.create(t, c)
	if err := m.Start(t.Context()); err == nil {
		t.Error("Start of a kernel that is none: no error")
	}
	if e := wait(t, m); e.Cause != vmm.ExitFailure || e.Detail == "" {
		t.Errorf("exit %q, want %q and the VMM's words", e, vmm.ExitFailure)
	}
}

// inherit is what keeps two VMMs off one disk.
func (s suite) inherit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	open := func() *os.File {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	lock := open()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Fatal(err)
	}
	c := s.config(t)
	c.Inherit = []*os.File{lock}
	m := s.start(t, c)
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	probe := open()
	defer probe.Close()
	if err := unix.Flock(int(probe.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("the lock of a running VMM: %v, want it held", err)
	}
	if err := m.Signal(os.Kill); err != nil {
		t.Fatal(err)
	}
	wait(t, m)
	if err := unix.Flock(int(probe.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Errorf("the lock of a dead VMM: %v, want it free", err)
	}
}

func (s suite) pause(t *testing.T) {
	m := s.start(t, s.config(t))
	p, ok := m.(vmm.Pauser)
	if !ok {
		t.Fatal("declared, but the machine is no vmm.Pauser")
	}
	for range 2 {
		if err := p.Pause(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	typeIn(t, m, "z")
	echoed := make(chan struct{})
	go func() {
		defer close(echoed)
		buf := make([]byte, 1)
		_, _ = m.Console().Read(buf)
	}()
	select {
	case <-echoed:
		t.Error("a paused guest answered")
	case <-time.After(300 * time.Millisecond): // long against the microseconds of an echo
	}
	for range 2 {
		if err := p.Resume(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-echoed:
	case <-time.After(bound):
		t.Error("a resumed guest did not answer")
	}
}

func (s suite) leaks(t *testing.T) {
	count := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(fds)
	}
	s.start(t, s.config(t)).Close() // the first opens what the runtime keeps
	before := count()
	for range 3 {
		m := s.start(t, s.config(t))
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
	if after := count(); after != before {
		t.Errorf("%d open files before, %d after", before, after)
	}
}
