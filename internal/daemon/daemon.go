// Package daemon is the per-user process that decides and remembers: it wires the
// services together and serves the API on a unix socket. It may be killed at any
// moment; the next one takes up where it was.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	shimv1 "banger/api/shim/v1"
	"banger/internal/base/errs"
	"banger/internal/base/paths"
	"banger/internal/base/undo"
	"banger/internal/base/version"
	"banger/internal/blobs"
	"banger/internal/config"
	"banger/internal/daemon/images"
	"banger/internal/daemon/kernels"
	"banger/internal/daemon/lifecycle"
	"banger/internal/daemon/server"
	"banger/internal/daemon/shims"
	"banger/internal/daemon/statedb"
	"banger/internal/diskimage"
	"banger/internal/mmdebstrap"
	"banger/internal/rpc"
	"banger/internal/vm"
	"banger/internal/vmm/qemu"
)

// maxMessage bounds one message of the API.
const maxMessage = 16 << 20

// maxLog is the size at which the log begins anew with the next daemon.
const maxLog = 8 << 20

// shutdownGrace bounds the wait for calls under way when the daemon is asked to end.
const shutdownGrace = 5 * time.Second

// Main runs the daemon until it is told to end, and returns its exit status. The
// descriptor named by BANGER_READY_FD gets "ok" when the API is served, or the
// reason why it is not.
func Main([]string) int {
	signal.Ignore(syscall.SIGHUP)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	ready := readyFile()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	err := run(ctx, log, func() { tell(ready, "ok") })
	if err != nil {
		log.Error("the daemon ends", "err", err)
		text := err.Error()
		if hint := errs.HintOf(err); hint != "" {
			text += " (try: " + hint + ")"
		}
		tell(ready, text)
		return 1
	}
	return 0
}

func readyFile() *os.File {
	fd, err := strconv.Atoi(os.Getenv("BANGER_READY_FD"))
	if err != nil || fd < 3 {
		return nil
	}
	unix.CloseOnExec(fd)
	_ = os.Unsetenv("BANGER_READY_FD")
	return os.NewFile(uintptr(fd), "ready")
}

func tell(ready *os.File, text string) {
	if ready == nil {
		return
	}
	_, _ = fmt.Fprintln(ready, text) // the one who waited may have gone
	_ = ready.Close()
}

// run serves until ctx ends or a client asks for the end.
func run(ctx context.Context, log *slog.Logger, ready func()) (err error) {
	dirs, err := paths.FromEnv()
	if err != nil {
		return err
	}
	var cleanup undo.Stack
	defer func() { err = errors.Join(err, cleanup.Run()) }()
	lock, err := takeLock(dirs.DaemonLock())
	if err != nil {
		return err
	}
	cleanup.Add(lock.Close)
	if info, err := os.Stat(dirs.DaemonLog()); err == nil && info.Size() > maxLog {
		_ = os.Truncate(dirs.DaemonLog(), 0)
	}
	log.Info("the daemon starts", "pid", os.Getpid(), "version", version.String())

	db, err := statedb.Open(ctx, dirs.Database())
	if err != nil {
		return err
	}
	cleanup.Add(db.Close)
	settings := newSettings(dirs)
	options := blobs.Options{Log: log}
	if c, err := settings.get(); err == nil {
		options.Max = int64(c.Image.CacheMax)
	} else {
		log.Warn("the defaults hold until the configuration is mended, and downloads are kept without a cap", "err", err)
	}
	store, err := blobs.Open(dirs.Blobs(), options)
	if err != nil {
		return err
	}
	cleanup.Add(store.Close)
	settings.watch(func(c config.Config) { store.SetMax(int64(c.Image.CacheMax)) })
	registries := &registries{settings: settings}
	cleanup.Add(registries.Close)
	catalog := &catalog{settings: settings, dates: db, root: "/"}
	imageService, err := images.New(ctx, images.Options{
		Dirs: dirs, Store: db, Log: log, Catalog: catalog.entries, FromLayers: diskimage.FromLayers, Registry: registries, Blobs: store,
		Pin: settings.pin, RemoveAll: mmdebstrap.RemoveAll,
	})
	if err != nil {
		return err
	}
	cleanup.Add(imageService.Close)
	driver := &qemu.Driver{}
	kernelService := kernels.New(kernels.Options{
		Dirs: dirs, Store: db, Log: log, Modules: driver.Guest().Modules, Configured: settings.defaultKernel, Proxy: settings.proxy, FromTar: diskimage.FromTar,
	})
	cleanup.Add(kernelService.Close)
	memory, err := hostMemory()
	if err != nil {
		return err
	}
	vms, err := lifecycle.New(ctx, lifecycle.Options{
		Dirs: dirs, Store: db, Images: imageService, Kernels: kernelService, Shims: shimAdapter{shims.New(dirs, log)}, Driver: driver,
		MakeDisk: diskimage.Empty, Log: log, DefaultImage: settings.defaultImage, HostCPUs: runtime.NumCPU(), HostMemory: memory,
	})
	if err != nil {
		return err
	}
	cleanup.Add(func() error { vms.Close(); return nil })
	return serve(ctx, log, dirs, &server.Server{Dirs: dirs, VMs: vms, Images: imageService, Kernels: kernelService, Recipe: catalog.recipe, Started: time.Now()}, ready)
}

// serve answers the API until ctx ends or a client asks for the end; calls under way
// get some time, and then lose their connection.
func serve(ctx context.Context, log *slog.Logger, dirs paths.Dirs, api *server.Server, ready func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	api.Shutdown = cancel
	l, err := rpc.ListenUnix(dirs.DaemonSocket())
	if err != nil {
		return err
	}
	s := rpc.NewServer(maxMessage, log)
	api.Register(s.Methods)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	ready()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	log.Info("the daemon ends; VMs run on")
	grace, stop := context.WithTimeout(context.Background(), shutdownGrace)
	defer stop()
	return errors.Join(s.Shutdown(grace), <-served)
}

// takeLock makes this process the user's one daemon.
func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(errs.New(errs.Conflict, "another daemon runs already: %w", err).WithHint("banger daemon status"), f.Close())
	}
	return f, nil
}

func hostMemory() (vm.Size, error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0, fmt.Errorf("cannot ask for the host's memory: %w", err)
	}
	return vm.Size(uint64(info.Totalram) * uint64(info.Unit)), nil
}

// shimAdapter gives lifecycle the shims by its own interface.
type shimAdapter struct{ *shims.Shims }

func (a shimAdapter) Launch(ctx context.Context, c *shimv1.Config) (lifecycle.Shim, error) {
	s, err := a.Shims.Launch(ctx, c)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (a shimAdapter) Attach(ctx context.Context, id vm.ID) (lifecycle.Shim, error) {
	s, err := a.Shims.Attach(ctx, id)
	if s == nil || err != nil {
		return nil, err
	}
	return s, nil
}
