// Package kernels is the daemon's service for kernels: it makes them of Debian's
// packages, keeps them on disk, and builds the initramfs that a VM boots from.
//
// A kernel is one folder, <state>/kernels/<release>/:
//
//	vmlinux        the ELF that a VMM enters through PVH
//	modules.ext4   the content of /lib/modules/<release>
//	modules/       the modules that an initramfs may need, uncompressed, with modules.builtin
//	config         the kernel's configuration
//
// It is made in kernels/.staging-* and renamed in one step, so a folder with a
// release's name is whole. What a killed daemon left half done, New removes.
package kernels

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"banger/internal/base/errs"
	"banger/internal/base/flight"
	"banger/internal/base/paths"
	"banger/internal/base/progress"
	"banger/internal/guestbin"
	"banger/internal/vm"
)

// Store keeps the records of kernels.
type Store interface {
	// PutKernel inserts a record, or replaces the one of the same release.
	PutKernel(ctx context.Context, k vm.Kernel) error
	// Kernels returns all records, the newest first.
	Kernels(ctx context.Context) ([]vm.Kernel, error)
}

// Options are what a Service needs.
type Options struct {
	Dirs  paths.Dirs
	Store Store
	Log   *slog.Logger
	// AptRoot is the folder above etc/apt; empty means "/", and only then is
	// apt-config asked for proxies.
	AptRoot string
	// Keyring is the file of Debian's keys; empty means that of the package
	// debian-archive-keyring.
	Keyring string
	// FromTar makes a packed read-only ext4 at path, which must not exist, of a
	// tar, and returns its size in bytes.
	FromTar func(ctx context.Context, path string, r io.Reader) (int64, error)
}

// Service makes and finds kernels. It may be used by many goroutines.
type Service struct {
	o          Options
	builds     flight.Group[vm.Kernel]
	initramfss flight.Group[string]
	// agent is the guest binary. Its digest is computed once: it has some
	// megabytes, and every start of a VM asks.
	agent       func() ([]byte, error)
	agentDigest func() (string, error)
}

// New returns the service. There must be one for each state folder: it removes
// what unfinished builds left behind.
func New(o Options) *Service {
	s := &Service{o: o, agent: guestbin.Init}
	s.agentDigest = sync.OnceValues(func() (string, error) {
		agent, err := s.agent()
		return fmt.Sprintf("%x", sha256.Sum256(agent)), err
	})
	for _, pattern := range []string{
		filepath.Join(o.Dirs.Kernels(), staging+"*"),
		filepath.Join(o.Dirs.Downloads(), ".*.tmp"),
		filepath.Join(o.Dirs.Initramfs(), ".*.tmp"),
	} {
		leftovers, _ := filepath.Glob(pattern) // the pattern is well formed
		for _, path := range leftovers {
			if err := os.RemoveAll(path); err != nil {
				o.Log.Warn("cannot remove a leftover", "path", path, "err", err)
			}
		}
	}
	return s
}

// Close cancels builds and waits until they have ended.
func (s *Service) Close() error {
	s.builds.Close()
	s.initramfss.Close()
	return nil
}

// Default returns the newest kernel on disk, and where there is none makes one.
// Concurrent callers share one build, which is cancelled when the last of them
// is gone.
func (s *Service) Default(ctx context.Context, p progress.Func) (vm.Kernel, error) {
	k, err := s.newest(ctx)
	if errs.KindOf(err) != errs.NotFound {
		return k, err
	}
	return s.builds.Do(ctx, "default", p, func(ctx context.Context, p progress.Func) (vm.Kernel, error) {
		// A build may have ended between the look above and this one.
		if k, err := s.newest(ctx); errs.KindOf(err) != errs.NotFound {
			return k, err
		}
		return s.build(ctx, p)
	})
}

func (s *Service) newest(ctx context.Context) (vm.Kernel, error) {
	all, err := s.o.Store.Kernels(ctx)
	if err != nil {
		return vm.Kernel{}, err
	}
	for _, k := range all {
		if err := onDisk(k); err != nil {
			s.o.Log.Warn("a kernel is recorded and not usable", "release", k.Release, "err", err)
			continue
		}
		return k, nil
	}
	return vm.Kernel{}, errs.New(errs.NotFound, "there is no kernel yet")
}

// Get returns the kernel of a release.
func (s *Service) Get(ctx context.Context, release string) (vm.Kernel, error) {
	all, err := s.o.Store.Kernels(ctx)
	if err != nil {
		return vm.Kernel{}, err
	}
	for _, k := range all {
		if k.Release != release {
			continue
		}
		if err := onDisk(k); err != nil {
			return vm.Kernel{}, errs.New(errs.Unavailable, "cannot use the kernel %q: %w", release, err)
		}
		return k, nil
	}
	return vm.Kernel{}, errs.New(errs.NotFound, "there is no kernel %q", release).WithHint("banger kernel list")
}

// List returns all kernels, the newest first.
func (s *Service) List(ctx context.Context) ([]vm.Kernel, error) { return s.o.Store.Kernels(ctx) }

// onDisk says what of a kernel's files is missing.
func onDisk(k vm.Kernel) error {
	var all []error
	for _, path := range []string{k.Path, k.ModulesDisk, k.ModulesDir} {
		if _, err := os.Stat(path); err != nil {
			all = append(all, err)
		}
	}
	return errors.Join(all...)
}

// exists says whether there is something at path.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
