// Package shim is the process that supervises one VM: it holds the lock on the
// VM's disks, runs the VMM, keeps the guest link, and logs the console. It
// outlives the daemon that started it and ends with the VMM.
//
// It gets its Config on standard input, the locked lock file as descriptor 4,
// and says on descriptor 3 that the VMM runs ("ok") or why it does not.
package shim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"syscall"

	"google.golang.org/protobuf/encoding/protojson"

	shimv1 "banger/api/shim/v1"
	"banger/internal/base/paths"
	"banger/internal/vmm"
	"banger/internal/vmm/qemu"
)

// Descriptors that the daemon passes.
const (
	fdReady = 3
	fdLock  = 4
)

// maxConfig bounds the configuration on standard input.
const maxConfig = 1 << 20

// Main runs the process and returns its exit status. The configuration names one
// of the drivers; with none given, they are those of the product.
func Main(drivers ...vmm.Driver) int {
	if len(drivers) == 0 {
		drivers = []vmm.Driver{&qemu.Driver{}}
	}
	// A terminal's hang-up and Ctrl-C are not for a process that outlives it.
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT)
	// The shim is small and long-lived: memory counts, the collector's time does not.
	debug.SetGCPercent(25)
	ready := os.NewFile(fdReady, "ready")
	lock := os.NewFile(fdLock, "lock")
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	err := runFrom(ctx, drivers, os.Stdin, lock, func(err error) {
		text := "ok"
		if err != nil {
			text = err.Error()
		}
		_, _ = fmt.Fprintln(ready, text) // a daemon that has died does not read it
		_ = ready.Close()
	})
	if err != nil {
		return 1
	}
	return 0
}

// runFrom reads the configuration and runs the VM; ready is called exactly once.
func runFrom(ctx context.Context, drivers []vmm.Driver, config io.Reader, lock *os.File, ready func(error)) error {
	text, err := io.ReadAll(io.LimitReader(config, maxConfig+1))
	if err == nil && len(text) > maxConfig {
		err = errors.New("it is too large")
	}
	var c shimv1.Config
	if err == nil {
		err = protojson.Unmarshal(text, &c)
	}
	if err != nil {
		err = fmt.Errorf("cannot read the shim's configuration: %w", err)
		ready(err)
		return err
	}
	i := slices.IndexFunc(drivers, func(d vmm.Driver) bool { return d.Name() == c.GetDriver() })
	if i < 0 {
		err := fmt.Errorf("there is no VMM driver %q", c.GetDriver())
		ready(err)
		return err
	}
	files := paths.VM{State: c.GetStateDir(), Run: c.GetRunDir()}
	logFile, err := os.OpenFile(files.ShimLog(), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		ready(err)
		return err
	}
	log := slog.New(slog.NewTextHandler(logFile, &slog.HandlerOptions{Level: slog.LevelDebug}))
	err = Run(ctx, Options{Config: &c, Driver: drivers[i], Lock: lock, Log: log, VMMLog: logFile, Ready: ready})
	if err != nil {
		log.Error("the shim failed", "err", err)
	}
	return errors.Join(err, logFile.Close())
}
