package shim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"banger/api/guest/v1/guestv1connect"
	shimv1 "banger/api/shim/v1"
	"banger/api/shim/v1/shimv1connect"
	"banger/internal/base/atomicfile"
	"banger/internal/base/paths"
	"banger/internal/base/undo"
	"banger/internal/guestabi"
	"banger/internal/guestlink"
	"banger/internal/rpc"
	"banger/internal/vm"
	"banger/internal/vmm"
)

// Bounds of the shim's own work.
const (
	// startTimeout bounds the VMM's own start-up.
	startTimeout = 30 * time.Second
	// firstHold bounds the wait for the first holder of a VM started with hold.
	firstHold = 30 * time.Second
	// farewell bounds the wait for watchers to take the last status.
	farewell = 2 * time.Second
)

// Options are what one VM needs.
type Options struct {
	// Config is the VM; its folders exist.
	Config *shimv1.Config
	// Driver runs it.
	Driver vmm.Driver
	// Lock is the locked lock file of the VM's disks. Run closes it at the end; the
	// VMM holds it too.
	Lock *os.File
	Log  *slog.Logger
	// VMMLog receives the VMM's own messages.
	VMMLog io.Writer
	// Ready is called once: with nil when the VMM runs, or with the reason why not.
	Ready func(error)
}

// shim is one running VM.
type shim struct {
	Options
	files   paths.VM
	machine vmm.Machine
	link    guestlink.Link
	console *console
	status  *status
	holders *holders
}

// Run runs a VM to its end. When ctx ends the VM is killed. The last status stands in
// the VM's exit file before any watcher sees it.
func Run(ctx context.Context, o Options) (err error) {
	s := &shim{
		Options: o,
		files:   paths.VM{State: o.Config.GetStateDir(), Run: o.Config.GetRunDir()},
		status:  newStatus(&shimv1.Status{Phase: shimv1.Phase_PHASE_BOOTING, ShimPid: int32(os.Getpid())}),
	}
	s.holders = &holders{}
	var cleanup undo.Stack
	defer func() { err = errors.Join(err, cleanup.Run()) }()
	cleanup.Add(o.Lock.Close)
	if err := s.start(ctx, &cleanup); err != nil {
		o.Ready(err)
		return err
	}
	o.Log.Info("the VMM runs", "vm", o.Config.GetName(), "pid", s.machine.PID())
	o.Ready(nil)
	s.supervise(ctx)
	return nil
}

// start acquires everything in order; what it acquired is on cleanup.
func (s *shim) start(ctx context.Context, cleanup *undo.Stack) error {
	c := s.Config
	if err := os.Remove(s.files.Exit()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	vmmDir := s.files.Run + "/vmm"
	if err := errors.Join(os.RemoveAll(vmmDir), os.Mkdir(vmmDir, 0o700)); err != nil {
		return err
	}
	cleanup.Add(func() error { return os.RemoveAll(vmmDir) })
	config := vmm.Config{
		ID: c.GetVmId(), VCPUs: int(c.GetVcpus()), Memory: vm.Size(c.GetMemoryBytes()), Kernel: c.GetKernel(), Initramfs: c.GetInitramfs(),
		CommandLine: c.GetCommandLine(), Dir: vmmDir, Inherit: []*os.File{s.Lock}, Log: s.VMMLog,
	}
	for _, d := range c.GetDisks() {
		config.Disks = append(config.Disks, vmm.Disk{ID: d.GetId(), Path: d.GetPath(), ReadOnly: d.GetReadOnly()})
	}
	m, err := s.Driver.Create(ctx, config)
	if err != nil {
		return err
	}
	s.machine = m
	cleanup.Add(m.Close)
	if s.link, err = openLink(m.Link()); err != nil {
		return err
	}
	cleanup.Add(s.link.Close)
	s.console = newConsole(s.files, m.Console())
	cleanup.Add(s.console.close)

	for _, serve := range []func(*undo.Stack) error{s.serveAPI, s.serveGuest, s.serveHost} {
		if err := serve(cleanup); err != nil {
			return err
		}
	}
	startCtx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := m.Start(startCtx); err != nil {
		return err
	}
	s.console.start()
	s.status.update(func(st *shimv1.Status) {
		st.VmmPid, st.Accelerator = int32(m.PID()), m.Accelerator()
	})
	return nil
}

func openLink(l vmm.Link) (guestlink.Link, error) {
	if l.Serial != nil {
		return guestlink.HostSerial(l.Serial)
	}
	return guestlink.HostVsock(l.VsockUDS)
}

// serveAPI serves shim.sock.
func (s *shim) serveAPI(cleanup *undo.Stack) error {
	l, err := rpc.ListenUnix(s.files.ShimSocket())
	if err != nil {
		return err
	}
	server := rpc.NewServer(guestabi.MaxMessage, s.Log)
	shimv1connect.RegisterShimServiceHandler(server.Methods, &service{s})
	done := s.goServe("shim.sock", func() error { return server.Serve(l) })
	cleanup.Add(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), farewell)
		defer cancel()
		err := server.Shutdown(ctx) // a watcher that does not read loses the last status; it is on disk
		<-done
		return err
	})
	return nil
}

// serveHost serves what the guest asks of the host, one stream at a time.
func (s *shim) serveHost(cleanup *undo.Stack) error {
	server := rpc.NewServer(guestabi.MaxMessage, s.Log)
	guestv1connect.RegisterHostServiceHandler(server.Methods, &hostService{s})
	done := s.goServe("the guest link", func() error {
		err := server.Serve(limitListener(guestlink.Listener(s.link), maxGuestStreams))
		if errors.Is(err, guestlink.ErrDown) {
			return nil
		}
		return err
	})
	cleanup.Add(func() error {
		err := server.Close()
		<-done
		return err
	})
	return nil
}

// serveGuest carries connections of guest.sock to the agent.
func (s *shim) serveGuest(cleanup *undo.Stack) error {
	l, err := rpc.ListenUnix(s.files.GuestSocket())
	if err != nil {
		return err
	}
	b := &bridge{listener: l, link: s.link, announced: s.status.announced, gone: s.machine.Done()}
	done := s.goServe("guest.sock", b.serve)
	cleanup.Add(func() error {
		err := b.close()
		<-done
		return err
	})
	return nil
}

func (s *shim) goServe(what string, serve func() error) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := serve(); err != nil {
			s.Log.Error("cannot serve "+what, "err", err)
		}
	}()
	return done
}

// supervise waits for the VMM's end, or for a reason to end it.
func (s *shim) supervise(ctx context.Context) {
	announce := time.NewTimer(time.Duration(s.Config.GetAnnounceTimeoutMs()) * time.Millisecond)
	defer announce.Stop()
	var hold <-chan time.Time
	announced, lost, cancelled := s.status.announced, s.holders.lost(), ctx.Done()
	for {
		select {
		case <-s.machine.Done():
			s.exited()
			return
		case <-announced:
			announced = nil
			announce.Stop()
			if s.Config.GetHold() {
				hold = time.After(firstHold)
			}
		case <-announce.C:
			s.end(false, fmt.Sprintf("the guest agent did not announce itself within %s; see the console log",
				time.Duration(s.Config.GetAnnounceTimeoutMs())*time.Millisecond))
		case <-hold:
			if !s.holders.any() {
				s.end(true, "killed: nobody held it")
			}
		case <-lost:
			lost = nil
			if s.Config.GetHold() {
				s.end(true, "killed: its last client went away")
			}
		case <-cancelled:
			cancelled = nil
			s.end(true, "killed: the shim was asked to end")
		}
	}
}

// end kills the VMM for a reason.
func (s *shim) end(requested bool, reason string) {
	s.status.setReason(requested, reason)
	if err := s.machine.Signal(os.Kill); err != nil {
		s.Log.Error("cannot kill the VMM", "err", err)
	}
}

// exited writes the last status to disk and then tells the watchers.
func (s *shim) exited() {
	s.console.drain()
	exit := s.machine.Exit()
	s.Log.Info("the VMM has exited", "exit", exit.String())
	last := s.status.last(func(st *shimv1.Status) {
		st.Phase, st.VmmPid = shimv1.Phase_PHASE_EXITED, 0
		if st.GetReason() == "" {
			st.Reason = exit.String()
		}
	})
	text, err := protojson.Marshal(last)
	if err == nil {
		err = atomicfile.Write(s.files.Exit(), text, 0o600)
	}
	if err != nil {
		s.Log.Error("cannot write the exit file", "err", err)
	}
	s.status.update(func(st *shimv1.Status) { proto.Reset(st); proto.Merge(st, last) })
}
