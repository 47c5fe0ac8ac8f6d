package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	bangerv1 "banger/api/banger/v1"
	"banger/api/banger/v1/bangerv1connect"
	guestv1 "banger/api/guest/v1"
	"banger/api/guest/v1/guestv1connect"
	shimv1 "banger/api/shim/v1"
	"banger/api/shim/v1/shimv1connect"
	"banger/internal/base/errs"
	"banger/internal/base/paths"
	"banger/internal/guestabi"
	"banger/internal/rpc"
)

// fakeDaemon is the daemon, the shim and the agent of all its VMs.
type fakeDaemon struct {
	bangerv1connect.UnimplementedVMServiceHandler
	bangerv1connect.UnimplementedHostServiceHandler
	dir string

	mu    sync.Mutex
	vms   []*bangerv1.VM
	calls []string
	// creating, while set, makes Create wait for its client to go away.
	creating chan struct{}
	imported []byte
	// head is the header of the last import.
	head    *bangerv1.ImageImportRequest
	started *guestv1.ExecStart // of the last command "start"
	// kernelHead and kernelParts are the last kernel that was imported.
	kernelHead  *bangerv1.KernelImportRequest
	kernelParts map[bangerv1.KernelImportRequest_Part][]byte
	holds       int
	heldExec    int // commands that ran while a hold stood
}

// startFake serves a fakeDaemon on the sockets of a home of the test's own.
func startFake(t *testing.T) *fakeDaemon {
	t.Helper()
	dirs := newHome(t)
	d := &fakeDaemon{dir: dirs.Runtime}
	serve := func(path string, register func(*rpc.Server)) {
		l, err := rpc.ListenUnix(path)
		if err != nil {
			t.Fatal(err)
		}
		s := rpc.NewServer(16<<20, slog.New(slog.DiscardHandler))
		register(s)
		done := make(chan error, 1)
		go func() { done <- s.Serve(l) }()
		t.Cleanup(func() {
			if err := errors.Join(s.Close(), <-done); err != nil {
				t.Error(err)
			}
		})
	}
	serve(dirs.DaemonSocket(), func(s *rpc.Server) {
		bangerv1connect.RegisterVMServiceHandler(s.Methods, d)
		bangerv1connect.RegisterImageServiceHandler(s.Methods, fakeImages{d: d})
		bangerv1connect.RegisterKernelServiceHandler(s.Methods, fakeKernels{d: d})
		bangerv1connect.RegisterHostServiceHandler(s.Methods, fakeHost{d: d})
	})
	serve(d.guestSocket(), func(s *rpc.Server) { guestv1connect.RegisterAgentServiceHandler(s.Methods, fakeAgent{d: d}) })
	serve(d.shimSocket(), func(s *rpc.Server) { shimv1connect.RegisterShimServiceHandler(s.Methods, fakeShim{d: d}) })
	return d
}

func (d *fakeDaemon) guestSocket() string { return filepath.Join(d.dir, "g") }
func (d *fakeDaemon) shimSocket() string  { return filepath.Join(d.dir, "s") }

// newHome gives the test folders of its own, below a short path.
func newHome(t *testing.T) paths.Dirs {
	t.Helper()
	dir, err := os.MkdirTemp("", "bl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	t.Setenv("HOME", dir)
	t.Setenv("XDG_RUNTIME_DIR", dir+"/r")
	t.Setenv("XDG_STATE_HOME", "")
	t.Setenv("XDG_CACHE_HOME", "")
	dirs, err := paths.FromEnv()
	if err != nil {
		t.Fatal(err)
	}
	return dirs
}

func (d *fakeDaemon) called(what string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls = append(d.calls, what)
}

// log returns the calls so far, sorted: those of several VMs come in any order.
func (d *fakeDaemon) log() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(slices.Values(d.calls))
}

// all returns the VMs there are.
func (d *fakeDaemon) all() []*bangerv1.VM {
	d.mu.Lock()
	defer d.mu.Unlock()
	return proto.CloneOf(&bangerv1.ListResponse{Vms: d.vms}).GetVms()
}

// get reads a field that a handler writes.
func get[T any](d *fakeDaemon, field *T) T {
	d.mu.Lock()
	defer d.mu.Unlock()
	return *field
}

// add makes a VM in a state.
func (d *fakeDaemon) add(name string, state bangerv1.State) *bangerv1.VM {
	d.mu.Lock()
	defer d.mu.Unlock()
	v := &bangerv1.VM{
		Id: "00000000000000" + strconv.Itoa(10+len(d.vms)), Name: name, State: state, Image: "debian-bookworm", Kernel: "6.12.1-cloud-amd64",
		Vcpus: 2, MemoryBytes: 1 << 30, DiskBytes: 8 << 30, CreatedAt: timestamppb.Now(), Reason: "stopped",
	}
	if state == bangerv1.State_STATE_RUNNING {
		v.Reason, v.StartedAt, v.Pid, v.BootId = "", timestamppb.Now(), 4711, "boot-1"
		v.GuestSocket, v.ShimSocket = d.guestSocket(), d.shimSocket()
	}
	d.vms = append(d.vms, v)
	return v
}

// stopAll puts all VMs to rest.
func (d *fakeDaemon) stopAll(reason string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, v := range d.vms {
		v.State, v.Reason, v.StartedAt = bangerv1.State_STATE_STOPPED, reason, nil
	}
}

func (d *fakeDaemon) find(ref string) (*bangerv1.VM, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, v := range d.vms {
		if v.GetName() == ref || v.GetId() == ref {
			return proto.CloneOf(v), nil
		}
	}
	return nil, errs.New(errs.NotFound, "there is no VM %q", ref).WithHint("banger vm list")
}

func vmEvent(v *bangerv1.VM) *bangerv1.OperationEvent {
	return &bangerv1.OperationEvent{Event: &bangerv1.OperationEvent_Vm{Vm: v}}
}

func phaseEvent(phase string) *bangerv1.OperationEvent {
	return &bangerv1.OperationEvent{Event: &bangerv1.OperationEvent_Progress{Progress: &bangerv1.Progress{Phase: phase}}}
}

func (d *fakeDaemon) Create(ctx context.Context, r *bangerv1.CreateRequest, s bangerv1connect.VMServiceCreateServerStream) error {
	d.called("create " + r.GetName())
	if _, err := d.find(r.GetName()); err == nil {
		return errs.New(errs.Exists, "the name %q is taken", r.GetName())
	}
	if r.GetImage() == "no-such-image" {
		return errs.New(errs.NotFound, "there is no image %q", r.GetImage()).WithHint("banger image list")
	}
	for _, phase := range []string{"spec", "disks", "boot"} {
		if err := s.Send(phaseEvent(phase)); err != nil {
			return err
		}
	}
	if d.creating != nil {
		v := d.add(r.GetName(), bangerv1.State_STATE_CREATING)
		close(d.creating)
		<-ctx.Done()
		d.remove(v.GetId())
		return ctx.Err()
	}
	state := bangerv1.State_STATE_STOPPED
	if r.GetStart() {
		state = bangerv1.State_STATE_RUNNING
	}
	v := d.add(r.GetName(), state)
	d.mu.Lock()
	switch r.GetImage() {
	case "app":
		v.Config = appConfig()
	case "machine":
		v.Config, v.Init = &bangerv1.ImageConfig{Cmd: []string{"/sbin/init"}}, "systemd"
	}
	d.mu.Unlock()
	return s.Send(vmEvent(v))
}

// appConfig is what the image "app" says.
func appConfig() *bangerv1.ImageConfig {
	return &bangerv1.ImageConfig{
		Env: []string{"PATH=/app/bin", "MODE=image"}, WorkingDir: "/srv", User: "app:app", Entrypoint: []string{"start"}, Cmd: []string{"serve"},
		StopSignal: "SIGQUIT", ExposedPorts: []string{"80/tcp"}, Volumes: []string{"/data"},
	}
}

func (d *fakeDaemon) remove(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.vms = slices.DeleteFunc(d.vms, func(v *bangerv1.VM) bool { return v.GetId() == id })
	d.calls = append(d.calls, "removed")
}

// act is an operation on one VM.
func (d *fakeDaemon) act(call, ref string, send func(*bangerv1.OperationEvent) error) error {
	d.called(call + " " + ref)
	v, err := d.find(ref)
	if err != nil {
		return err
	}
	if strings.HasPrefix(v.GetName(), "stuck") {
		return errs.New(errs.Conflict, "the VM %q is deleting", v.GetName())
	}
	return errors.Join(send(phaseEvent(call)), send(vmEvent(v)))
}

func (d *fakeDaemon) Start(_ context.Context, r *bangerv1.StartRequest, s bangerv1connect.VMServiceStartServerStream) error {
	return d.act("start", r.GetVm(), s.Send)
}

func (d *fakeDaemon) Stop(_ context.Context, r *bangerv1.StopRequest, s bangerv1connect.VMServiceStopServerStream) error {
	return d.act("stop "+strconv.Itoa(int(r.GetTimeoutSeconds())), r.GetVm(), s.Send)
}

func (d *fakeDaemon) Restart(_ context.Context, r *bangerv1.RestartRequest, s bangerv1connect.VMServiceRestartServerStream) error {
	return d.act("restart", r.GetVm(), s.Send)
}

func (d *fakeDaemon) Kill(_ context.Context, r *bangerv1.KillRequest, s bangerv1connect.VMServiceKillServerStream) error {
	return d.act("kill "+strconv.Itoa(int(r.GetSignal())), r.GetVm(), s.Send)
}

func (d *fakeDaemon) Delete(_ context.Context, r *bangerv1.DeleteRequest, s bangerv1connect.VMServiceDeleteServerStream) error {
	call := "delete"
	if r.GetForce() {
		call += " force"
	}
	return d.act(call, r.GetVm(), func(e *bangerv1.OperationEvent) error {
		if v := e.GetVm(); v != nil { // gone before the client hears of it
			d.remove(v.GetId())
		}
		return s.Send(e)
	})
}

func (d *fakeDaemon) List(context.Context, *bangerv1.ListRequest) (*bangerv1.ListResponse, error) {
	d.called("list")
	return &bangerv1.ListResponse{Vms: d.all()}, nil
}

func (d *fakeDaemon) Get(_ context.Context, r *bangerv1.GetRequest) (*bangerv1.GetResponse, error) {
	v, err := d.find(r.GetVm())
	return &bangerv1.GetResponse{Vm: v}, err
}

func (d *fakeDaemon) Logs(_ context.Context, r *bangerv1.LogsRequest, s bangerv1connect.VMServiceLogsServerStream) error {
	if _, err := d.find(r.GetVm()); err != nil {
		return err
	}
	return s.Send(&bangerv1.LogsResponse{Data: []byte("tail " + strconv.Itoa(int(r.GetTailLines())) + "\x1b[0m\n")})
}

// Disk knows the disks in the fake's own folder, of VMs at rest.
func (d *fakeDaemon) Disk(_ context.Context, r *bangerv1.DiskRequest) (*bangerv1.DiskResponse, error) {
	d.called("disk " + r.GetDisk() + " " + r.GetVm())
	v, err := d.find(r.GetVm())
	if err != nil {
		return nil, err
	}
	res := &bangerv1.DiskResponse{Vm: v.GetName(), Path: d.disk(r.GetDisk()), Lock: filepath.Join(d.dir, "lock")}
	switch {
	case r.GetDisk() == "base" && r.GetWrite():
		return nil, errs.New(errs.Conflict, "the base disk is read-only").WithHint("change dev:system")
	case r.GetDisk() == "base":
		res.Lock = ""
	case v.GetState() != bangerv1.State_STATE_STOPPED:
		return nil, errs.New(errs.Conflict, "the VM %q is running, and its disks are in use", v.GetName()).WithHint("banger vm stop %s", v.GetName())
	}
	return res, nil
}

// disk is the image file of a disk of all VMs.
func (d *fakeDaemon) disk(name string) string { return filepath.Join(d.dir, name+".ext4") }

type fakeHost struct {
	bangerv1connect.UnimplementedHostServiceHandler
	d *fakeDaemon
}

func (h fakeHost) Status(context.Context, *bangerv1.StatusRequest) (*bangerv1.StatusResponse, error) {
	return &bangerv1.StatusResponse{Pid: 4711, Version: "0.0.1-other", Vms: 3, Running: 2, StartedAt: timestamppb.Now()}, nil
}

type fakeImages struct {
	bangerv1connect.UnimplementedImageServiceHandler
	d *fakeDaemon
}

func (fakeImages) List(context.Context, *bangerv1.ImageListRequest) (*bangerv1.ImageListResponse, error) {
	return &bangerv1.ImageListResponse{Images: []*bangerv1.Image{{Name: "debian-bookworm", Digest: "sha256:" + strings.Repeat("ab", 32), InUse: 1}, {Name: "other"}}}, nil
}

func (i fakeImages) Delete(_ context.Context, r *bangerv1.ImageDeleteRequest) (*bangerv1.ImageDeleteResponse, error) {
	if r.GetImage() == "debian-bookworm" {
		return nil, errs.New(errs.Conflict, "the image %q is in use", r.GetImage())
	}
	return &bangerv1.ImageDeleteResponse{}, nil
}

func (i fakeImages) Import(_ context.Context, s bangerv1connect.ImageServiceImportServerStream) error {
	head, err := s.Receive()
	if err != nil {
		return err
	}
	var data []byte
	for {
		r, err := s.Receive()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		data = append(data, r.GetData()...)
	}
	if bytes.HasPrefix(data, []byte("bad")) {
		return errs.New(errs.Invalid, "cannot read the tar")
	}
	i.d.mu.Lock()
	i.d.imported, i.d.head = data, head
	i.d.mu.Unlock()
	progress := &bangerv1.ImageEvent_Progress{Progress: &bangerv1.Progress{Phase: "image", DoneBytes: int64(len(data))}}
	return errors.Join(s.Send(&bangerv1.ImageEvent{Event: progress}),
		s.Send(&bangerv1.ImageEvent{Event: &bangerv1.ImageEvent_Image{Image: &bangerv1.Image{Name: head.GetName()}}}))
}

type fakeShim struct {
	shimv1connect.UnimplementedShimServiceHandler
	d *fakeDaemon
}

func (f fakeShim) Hold(ctx context.Context, _ *shimv1.HoldRequest, s shimv1connect.ShimServiceHoldServerStream) error {
	f.d.mu.Lock()
	f.d.holds++
	f.d.mu.Unlock()
	err := s.Send(&shimv1.HoldResponse{})
	<-ctx.Done()
	f.d.mu.Lock()
	f.d.holds--
	f.d.mu.Unlock()
	return err
}

// Console says hello and echoes.
func (f fakeShim) Console(_ context.Context, s shimv1connect.ShimServiceConsoleServerStream) error {
	if err := s.Send(&shimv1.ConsoleResponse{Data: []byte("login: ")}); err != nil {
		return err
	}
	for {
		r, err := s.Receive()
		if err != nil {
			return nil
		}
		if err := s.Send(&shimv1.ConsoleResponse{Data: r.GetData()}); err != nil {
			return err
		}
	}
}

type fakeAgent struct {
	guestv1connect.UnimplementedAgentServiceHandler
	d *fakeDaemon
}

// Exec knows a few commands, by their first word.
func (f fakeAgent) Exec(ctx context.Context, s guestv1connect.AgentServiceExecServerStream) error {
	r, err := s.Receive()
	if err != nil {
		return err
	}
	start := r.GetStart()
	f.d.mu.Lock()
	f.d.heldExec += f.d.holds
	f.d.mu.Unlock()
	out := func(data []byte) error {
		return s.Send(&guestv1.ExecResponse{Message: &guestv1.ExecResponse_Stdout{Stdout: data}})
	}
	end := func(code int, text string) error {
		return s.Send(&guestv1.ExecResponse{Message: &guestv1.ExecResponse_Exit{Exit: &guestv1.ExecExit{Code: int32(code), Error: text}}})
	}
	if start.GetPlain() && len(start.GetArgv()) == 0 {
		return end(127, "there is no shell in the VM")
	}
	if len(start.GetArgv()) == 0 {
		start.Argv = [][]byte{[]byte("cat")}
	}
	switch command := string(start.GetArgv()[0]); command {
	case "exit":
		code, err := strconv.Atoi(string(start.GetArgv()[1]))
		return errors.Join(err, end(code, ""))
	case "both":
		stderr := &guestv1.ExecResponse{Message: &guestv1.ExecResponse_Stderr{Stderr: []byte("err\n")}}
		return errors.Join(out([]byte("out\n")), s.Send(stderr), end(0, ""))
	case "args":
		return errors.Join(out(bytes.Join(start.GetArgv(), []byte{0})), end(0, ""))
	case "start":
		text := []string{start.GetUser(), start.GetDir(), string(bytes.Join(start.GetEnv(), []byte(","))), strconv.FormatBool(start.GetStdin()), start.GetTty().String()}
		f.d.mu.Lock()
		f.d.started = start
		f.d.mu.Unlock()
		return errors.Join(out([]byte(strings.Join(text, "|"))), end(0, ""))
	case "cat":
		for {
			r, err := s.Receive()
			if err != nil {
				return err
			}
			if r.GetCloseStdin() {
				return end(0, "")
			}
			if err := out(r.GetStdin()); err != nil {
				return err
			}
		}
	case "yes":
		for {
			if err := out(bytes.Repeat([]byte("y\n"), guestabi.MaxChunk/2)); err != nil {
				return err
			}
		}
	case "trap": // says that it listens, then ends by the first signal
		if err := out([]byte("ready\n")); err != nil {
			return err
		}
		for {
			r, err := s.Receive()
			if err != nil {
				return err
			}
			if n := r.GetSignal(); n != 0 {
				return end(128+int(n), "")
			}
		}
	case "deaf": // takes signals and goes on
		if err := out([]byte("ready\n")); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	case "die":
		f.d.stopAll("the VMM was killed")
		return errs.New(errs.Unavailable, "the link is gone")
	default:
		return end(127, "cannot run "+strconv.Quote(command)+": not found")
	}
}
