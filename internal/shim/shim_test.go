package shim_test

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protojson"

	guestv1 "banger/api/guest/v1"
	"banger/api/guest/v1/guestv1connect"
	shimv1 "banger/api/shim/v1"
	"banger/api/shim/v1/shimv1connect"
	"banger/internal/base/paths"
	"banger/internal/guestabi"
	"banger/internal/rpc"
	"banger/internal/shim"
	"banger/internal/vmm/vmmtest"
)

const bound = 20 * time.Second

// vmUnderTest is a shim that runs in this process.
type vmUnderTest struct {
	files  paths.VM
	api    shimv1connect.ShimServiceClient
	done   chan error
	cancel context.CancelFunc
}

func start(t *testing.T, guest func(*vmmtest.FakeGuest), change func(*shimv1.Config)) *vmUnderTest {
	t.Helper()
	dir, err := os.MkdirTemp("", "sh") // short: sockets lie below it
	if err != nil {
		t.Fatal(err)
	}
	v := &vmUnderTest{files: paths.VM{State: filepath.Join(dir, "s"), Run: filepath.Join(dir, "r")}, done: make(chan error, 1)}
	for _, d := range []string{v.files.State, v.files.Run} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	kernel, initramfs := filepath.Join(dir, "k"), filepath.Join(dir, "i")
	for path, data := range map[string][]byte{kernel: vmmtest.Kernel(), initramfs: nil} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	lock, err := os.OpenFile(v.files.Lock(), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Fatal(err)
	}
	c := &shimv1.Config{
		VmId: "0123456789abcdef", Name: "test", StateDir: v.files.State, RunDir: v.files.Run, Driver: "fake", Vcpus: 1, MemoryBytes: 64 << 20,
		Kernel: kernel, Initramfs: initramfs, AnnounceTimeoutMs: bound.Milliseconds(),
	}
	if change != nil {
		change(c)
	}
	ctx, cancel := context.WithCancel(t.Context())
	v.cancel = cancel
	ready := make(chan error, 1)
	go func() {
		v.done <- shim.Run(ctx, shim.Options{
			Config: c, Driver: &vmmtest.Fake{Run: guest}, Lock: lock, Log: slog.New(slog.DiscardHandler), VMMLog: io.Discard, Ready: func(err error) { ready <- err },
		})
	}()
	client := rpc.NewClient(rpc.Unix(v.files.ShimSocket()), guestabi.MaxMessage)
	t.Cleanup(func() {
		cancel()
		client.Close()
		if err := <-v.done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	v.api = shimv1connect.NewShimServiceClient(client.Client)
	return v
}

// watch returns the statuses up to the first for which ok holds.
func (v *vmUnderTest) watch(t *testing.T, ok func(*shimv1.Status) bool) *shimv1.Status {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	stream, err := v.api.Watch(ctx, &shimv1.WatchRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for {
		r, err := stream.Receive()
		if err != nil {
			t.Fatalf("the status did not come: %v", err)
		}
		if ok(r.GetStatus()) {
			return r.GetStatus()
		}
	}
}

func (v *vmUnderTest) ready(t *testing.T) *shimv1.Status {
	return v.watch(t, func(s *shimv1.Status) bool { return s.GetPhase() == shimv1.Phase_PHASE_READY })
}

func exited(s *shimv1.Status) bool { return s.GetPhase() == shimv1.Phase_PHASE_EXITED }

func good(g *vmmtest.FakeGuest) { vmmtest.Agent{BootID: "boot-1"}.Run(g) }

func TestAnnouncementExecPathAndOrderlyStop(t *testing.T) {
	v := start(t, good, nil)
	if st := v.ready(t); st.GetBootId() != "boot-1" || st.GetInit() != "fake" || st.GetVmmPid() == 0 {
		t.Errorf("status %v", st)
	}
	client := rpc.NewClient(rpc.Unix(v.files.GuestSocket()), guestabi.MaxMessage)
	defer client.Close()
	h, err := guestv1connect.NewAgentServiceClient(client.Client).Health(t.Context(), &guestv1.HealthRequest{})
	if err != nil || h.GetBootId() != "boot-1" {
		t.Errorf("health through guest.sock: %v, %v", h, err)
	}
	last := make(chan *shimv1.Status, 1)
	go func() { last <- v.watch(t, exited) }()
	if r, err := v.api.Shutdown(t.Context(), &shimv1.ShutdownRequest{TimeoutMs: bound.Milliseconds()}); err != nil || r.GetKilled() {
		t.Errorf("Shutdown: %v, %v", r, err)
	}
	if st := <-last; st.GetReason() != "stopped" || !st.GetRequested() || st.GetVmmPid() != 0 {
		t.Errorf("last status %v", st)
	}
	var onDisk shimv1.Status
	text, err := os.ReadFile(v.files.Exit())
	if err != nil || protojson.Unmarshal(text, &onDisk) != nil || !exited(&onDisk) || onDisk.GetReason() != "stopped" {
		t.Errorf("the exit file: %s, %v", text, err)
	}
}

func TestDeafGuestIsKilledAfterTheTimeout(t *testing.T) {
	v := start(t, vmmtest.Agent{Deaf: true}.Run, nil)
	v.ready(t)
	last := make(chan *shimv1.Status, 1)
	go func() { last <- v.watch(t, exited) }()
	r, err := v.api.Shutdown(t.Context(), &shimv1.ShutdownRequest{TimeoutMs: 100})
	if err != nil || !r.GetKilled() {
		t.Errorf("Shutdown: %v, %v", r, err)
	}
	if st := <-last; !strings.Contains(st.GetReason(), "did not stop within 100ms") {
		t.Errorf("reason %q", st.GetReason())
	}
}

func TestSilentGuestIsEnded(t *testing.T) {
	v := start(t, func(g *vmmtest.FakeGuest) { <-g.Context.Done() }, func(c *shimv1.Config) { c.AnnounceTimeoutMs = 200 })
	if st := v.watch(t, exited); !strings.Contains(st.GetReason(), "did not announce itself") || st.GetAnnounced() || st.GetRequested() {
		t.Errorf("last status %v", st)
	}
}

func TestOddAnnouncementIsRefused(t *testing.T) {
	v := start(t, func(g *vmmtest.FakeGuest) {
		go vmmtest.Agent{BootID: "\x1b[2J"}.Run(g)
		<-g.Context.Done()
	}, func(c *shimv1.Config) { c.AnnounceTimeoutMs = 500 })
	if st := v.watch(t, exited); st.GetAnnounced() || st.GetBootId() != "" {
		t.Errorf("last status %v", st)
	}
}

// TestGarbageAndFloodOnTheLink: the link goes down, the VM and its shim do not.
func TestGarbageAndFloodOnTheLink(t *testing.T) {
	v := start(t, func(g *vmmtest.FakeGuest) {
		junk := make([]byte, 64<<10)
		for i := range junk {
			junk[i] = byte(i * 7)
		}
		for range 64 {
			if _, err := g.Link.Write(junk); err != nil {
				break
			}
		}
		<-g.Context.Done()
	}, nil)
	if _, err := v.api.Kill(t.Context(), &shimv1.KillRequest{}); err != nil {
		t.Fatal(err)
	}
	if st := v.last(t); st.GetReason() != "killed" {
		t.Errorf("reason %q", st.GetReason())
	}
}

// last reads the last status from the exit file, once Run has returned.
func (v *vmUnderTest) last(t *testing.T) *shimv1.Status {
	t.Helper()
	select {
	case err := <-v.done:
		v.done <- err
	case <-time.After(bound):
		t.Fatal("Run did not return")
	}
	text, err := os.ReadFile(v.files.Exit())
	if err != nil {
		t.Fatal(err)
	}
	var st shimv1.Status
	if err := protojson.Unmarshal(text, &st); err != nil {
		t.Fatal(err)
	}
	return &st
}

func TestHeldVMEndsWithItsLastHolder(t *testing.T) {
	v := start(t, good, func(c *shimv1.Config) { c.Hold = true })
	v.ready(t)
	ctx, cancel := context.WithCancel(t.Context())
	for range 2 {
		stream, err := v.api.Hold(ctx, &shimv1.HoldRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Receive(); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if st := v.last(t); !st.GetRequested() || !strings.Contains(st.GetReason(), "last client went away") {
		t.Errorf("last status %v", st)
	}
}

func TestConsoleIsLoggedBoundedAndAttachable(t *testing.T) {
	const total = 20 << 20
	v := start(t, func(g *vmmtest.FakeGuest) {
		line := []byte(strings.Repeat("x", 1023) + "\n")
		for range total / len(line) {
			if _, err := g.Console.Write(line); err != nil {
				return
			}
		}
		_, _ = io.WriteString(g.Console, "the end\n")
		vmmtest.Echo(g)
	}, nil)
	stream, err := v.api.Console(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.SendHeaders(); err != nil {
		t.Fatal(err)
	}
	seen := ""
	for !strings.Contains(seen, "ready") {
		r, err := stream.Receive()
		if err != nil {
			t.Fatalf("console: %v after %.100q", err, seen)
		}
		seen = (seen + string(r.GetData()))[max(0, len(seen)+len(r.GetData())-100):]
	}
	if err := stream.Send(&shimv1.ConsoleRequest{Data: []byte("hi p")}); err != nil {
		t.Fatal(err)
	}
	if st := v.last(t); st.GetReason() != "guest powered off" || st.GetRequested() {
		t.Errorf("last status %v", st)
	}
	size := int64(0)
	for _, path := range []string{v.files.ConsoleLog(), v.files.OldConsoleLog()} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	if size < 4<<20 || size > 9<<20 {
		t.Errorf("the log of %d bytes takes %d", total, size)
	}
	log, err := os.ReadFile(v.files.ConsoleLog())
	if err != nil || !strings.HasSuffix(string(log), "the end\nready\nhi ") {
		t.Errorf("the log ends with %q, %v", log[max(0, len(log)-40):], err)
	}
}
