package lifecycle_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	shimv1 "banger/api/shim/v1"
	"banger/internal/base/errs"
	"banger/internal/base/paths"
	"banger/internal/base/progress"
	"banger/internal/daemon/lifecycle"
	"banger/internal/daemon/shims"
	"banger/internal/daemon/statedb"
	"banger/internal/shim"
	"banger/internal/vm"
	"banger/internal/vmm/vmmtest"
)

// TestMain makes this binary its own shim: the tests run real supervisor processes
// with the fake VMM.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "shim" {
		os.Exit(shim.Main(&vmmtest.Fake{Run: guest}))
	}
	os.Exit(m.Run())
}

// guest behaves as the VM's name says.
func guest(g *vmmtest.FakeGuest) {
	switch name := os.Getenv("BANGER_VM"); {
	case strings.HasPrefix(name, "silent"):
		<-g.Context.Done()
	case strings.HasPrefix(name, "deaf"):
		vmmtest.Agent{BootID: "boot", Deaf: true}.Run(g)
	default:
		vmmtest.Agent{BootID: fmt.Sprint("boot-", os.Getpid())}.Run(g)
	}
}

// host is one user's state, over any number of daemons.
type host struct {
	*testing.T
	dirs paths.Dirs
	// failAt makes the store's n-th write fail; 0 means never.
	failAt atomic.Int64
	writes atomic.Int64
}

// daemon is what one daemon process would hold.
type daemon struct {
	*lifecycle.Manager
	db *statedb.DB
}

func newHost(t *testing.T) *host {
	t.Helper()
	root, err := os.MkdirTemp("", "lc") // short: sockets lie below it
	if err != nil {
		t.Fatal(err)
	}
	h := &host{T: t, dirs: paths.Dirs{State: root + "/s", Cache: root + "/c", Runtime: root + "/r"}}
	for _, dir := range []string{h.dirs.State, h.dirs.Cache, h.dirs.Runtime, h.dirs.Images()} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for path, data := range map[string][]byte{h.kernel("").Path: vmmtest.Kernel(), h.initramfs(): nil, h.kernel("").ModulesDisk: nil, h.dirs.BaseDisk("sha256:d"): nil} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if left := h.processes(); len(left) != 0 {
			t.Errorf("processes left: %v", left)
		}
		if err := os.RemoveAll(root); err != nil {
			t.Error(err)
		}
	})
	return h
}

// defaultKernel is the name of the one that VMs get; otherKernel is recorded too.
const defaultKernel, otherKernel = "6.12-test", "6.1-test"

func (h *host) kernel(name string) vm.Kernel {
	return vm.Kernel{Name: name, Release: "6.12-test", Path: h.dirs.Cache + "/kernel", ModulesDisk: h.dirs.Cache + "/modules"}
}

func (h *host) initramfs() string { return h.dirs.Cache + "/initramfs" }

// start runs a daemon; it ends with the test, or by stop.
func (h *host) start() *daemon {
	h.Helper()
	db, err := statedb.Open(h.Context(), h.dirs.Database())
	if err != nil {
		h.Fatal(err)
	}
	if err := errors.Join(db.PutImage(h.Context(), vm.Image{Name: "img", Digest: "sha256:d"}), db.PutKernel(h.Context(), h.kernel(defaultKernel)), db.PutKernel(h.Context(), h.kernel(otherKernel))); err != nil {
		h.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	m, err := lifecycle.New(h.Context(), lifecycle.Options{
		Dirs: h.dirs, Store: &store{db, h}, Images: images{}, Kernels: kernels{h}, Shims: adapter{shims.New(h.dirs, log)}, Driver: &vmmtest.Fake{},
		MakeDisk: func(_ context.Context, path string, _ vm.Size, _ string) error {
			f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
			if err != nil {
				return err
			}
			return f.Close()
		},
		Log: log, DefaultImage: func() (string, error) { return "img", nil }, HostCPUs: 2, HostMemory: 4 * vm.GiB, AnnounceTimeout: 10 * time.Second,
	})
	if err != nil {
		h.Fatal(err)
	}
	d := &daemon{m, db}
	h.Cleanup(d.stop)
	return d
}

func (d *daemon) stop() {
	d.Close()
	_ = d.db.Close()
}

// adapter is what daemon.go has too.
type adapter struct{ *shims.Shims }

func (a adapter) Launch(ctx context.Context, c *shimv1.Config) (lifecycle.Shim, error) {
	s, err := a.Shims.Launch(ctx, c)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (a adapter) Attach(ctx context.Context, id vm.ID) (lifecycle.Shim, error) {
	s, err := a.Shims.Attach(ctx, id)
	if s == nil || err != nil {
		return nil, err
	}
	return s, nil
}

type images struct{}

// imageConfig is what every image says.
var imageConfig = &vm.ImageConfig{Entrypoint: []string{"/app"}, Labels: map[string]string{"for": "tools"}}

func (images) Resolve(_ context.Context, ref string, p progress.Func) (vm.Image, error) {
	p.Send(progress.Report{Phase: "image"})
	return vm.Image{Name: ref, Digest: "sha256:d", Config: imageConfig}, nil
}

type kernels struct{ h *host }

func (k kernels) Default(context.Context, progress.Func) (vm.Kernel, error) {
	return k.h.kernel(defaultKernel), nil
}

func (k kernels) Get(_ context.Context, name string) (vm.Kernel, error) {
	return k.h.kernel(name), nil
}

func (k kernels) Resolve(_ context.Context, ref string, _ progress.Func) (vm.Kernel, error) {
	if ref == "none" {
		return vm.Kernel{}, errs.New(errs.NotFound, "there is no kernel %q", ref)
	}
	return k.h.kernel(ref), nil
}

func (k kernels) Initramfs(context.Context, vm.Kernel, []string) (string, error) {
	return k.h.initramfs(), nil
}

// store fails where the host says.
type store struct {
	lifecycle.Store
	h *host
}

var errInjected = errors.New("injected")

func (s *store) fail() error {
	if s.h.writes.Add(1) == s.h.failAt.Load() {
		return errInjected
	}
	return nil
}

func (s *store) InsertVM(ctx context.Context, v vm.VM, op vm.Operation) error {
	if err := s.fail(); err != nil {
		return err
	}
	return s.Store.InsertVM(ctx, v, op)
}

func (s *store) BindVM(ctx context.Context, id vm.ID, digest, kernel string, config *vm.ImageConfig) error {
	if err := s.fail(); err != nil {
		return err
	}
	return s.Store.BindVM(ctx, id, digest, kernel, config)
}

func (s *store) SetState(ctx context.Context, v vm.VM) error {
	if err := s.fail(); err != nil {
		return err
	}
	return s.Store.SetState(ctx, v)
}

func (s *store) Journal(ctx context.Context, op vm.Operation) error {
	if err := s.fail(); err != nil {
		return err
	}
	return s.Store.Journal(ctx, op)
}

// processes lists the shims of this host.
func (h *host) processes() (pids []string) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		cwd, err := os.Readlink(filepath.Join("/proc", e.Name(), "cwd"))
		cmdline, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err == nil && strings.HasPrefix(cwd, h.dirs.VMs()) && bytes.Contains(cmdline, []byte("shim")) {
			pids = append(pids, e.Name())
		}
	}
	return pids
}

// clean fails the test unless nothing of any VM is left.
func (h *host) clean(d *daemon, when string) {
	h.Helper()
	if views := d.List(); len(views) != 0 {
		h.Errorf("%s: %d VMs are left", when, len(views))
	}
	if rows, err := d.db.VMs(h.Context()); len(rows) != 0 || err != nil {
		h.Errorf("%s: rows %v, %v", when, rows, err)
	}
	for _, dir := range []string{h.dirs.VMs(), h.dirs.RunVMs()} {
		if entries, _ := os.ReadDir(dir); len(entries) != 0 {
			h.Errorf("%s: files are left: %v", when, entries)
		}
	}
	if left := h.processes(); len(left) != 0 {
		h.Errorf("%s: processes are left: %v", when, left)
	}
}
