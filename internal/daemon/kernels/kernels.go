// Package kernels is the daemon's service for kernels: it makes them of Debian's
// packages, of files and of what is at a URL, checks that a guest can run on them,
// keeps them on disk, and builds the initramfs that a VM boots from.
//
// A kernel is one folder, <state>/kernels/<name>/:
//
//	vmlinux        the ELF that a VMM enters through PVH
//	modules.ext4   the content of /lib/modules/<release>
//	modules/       the modules that an initramfs may need, uncompressed, with modules.builtin
//	config         the kernel's configuration, if it is known
//
// It is made in kernels/.staging-* and renamed in one step, so a folder with a
// kernel's name is whole. What a killed daemon left half done, New removes.
package kernels

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"banger/internal/base/errs"
	"banger/internal/base/flight"
	"banger/internal/base/paths"
	"banger/internal/base/progress"
	"banger/internal/debian"
	"banger/internal/guestbin"
	"banger/internal/vm"
)

// Store keeps the records of kernels, and the dates of Debian's indexes.
type Store interface {
	// PutKernel inserts a record, or replaces the one of the same name.
	PutKernel(ctx context.Context, k vm.Kernel) error
	// Kernels returns all records, the newest first.
	Kernels(ctx context.Context) ([]vm.Kernel, error)
	// DeleteKernel removes a record: a Conflict error while a VM uses it.
	DeleteKernel(ctx context.Context, name string) error
	debian.Dates
}

// Options are what a Service needs.
type Options struct {
	Dirs  paths.Dirs
	Store Store
	Log   *slog.Logger
	// Modules are those that a guest must load before it sees its disks and its link:
	// the VMM's driver says so. A kernel without them is refused.
	Modules []string
	// AptRoot is the folder above etc/apt; empty means "/", and only then is
	// apt-config asked for proxies.
	AptRoot string
	// Keyring is a file of keys to trust; empty means Debian's, which are pinned.
	Keyring string
	// Configured is the kernel that the user's configuration has for VMs for which none
	// was named, or "", or why that cannot be said; nil is none.
	Configured func() (string, error)
	// Proxy is how requests go out; nil, and a nil function, leave that to apt's
	// configuration and the environment.
	Proxy func() func(*http.Request) (*url.URL, error)
	// FromTar makes a packed read-only ext4 at path, which must not exist, of a
	// tar, and returns its size in bytes.
	FromTar func(ctx context.Context, path string, r io.Reader) (int64, error)
}

// Service makes and finds kernels. It may be used by many goroutines.
type Service struct {
	o Options
	// builds are what callers have asked for; packages, below them, what is made of
	// one package of Debian's.
	builds     flight.Group[Result]
	packages   flight.Group[Result]
	imports    atomic.Int64
	initramfss flight.Group[string]
	// publishing guards the folders with kernels' names, together with their records.
	publishing sync.Mutex
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
	if err := s.sweep(context.Background()); err != nil {
		o.Log.Warn("cannot end the deletion of a kernel", "err", err)
	}
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
	s.packages.Close()
	s.initramfss.Close()
	return nil
}

// Default returns the kernel of a VM for which none was named: the configured one; else,
// of Debian's kernels for virtual machines that are on disk, the newest, and where there
// is none it makes one. Concurrent callers share one build, which is cancelled when the
// last of them is gone.
func (s *Service) Default(ctx context.Context, p progress.Func) (vm.Kernel, error) {
	ref, err := s.configured()
	if err != nil {
		return vm.Kernel{}, err
	}
	if ref != "" {
		return s.Resolve(ctx, ref, p)
	}
	k, ok, err := s.preferred(ctx)
	if err != nil || ok {
		return k, err
	}
	r, err := s.Pull(ctx, "", false, p)
	return r.Kernel, err
}

// DefaultName is the name of the kernel that Default would return without making one,
// or "".
func (s *Service) DefaultName(ctx context.Context) (string, error) {
	if ref, err := s.configured(); err == nil && ref != "" {
		all, err := s.o.Store.Kernels(ctx)
		if slices.ContainsFunc(all, func(k vm.Kernel) bool { return k.Name == ref }) {
			return ref, err
		}
		k, _ := newestOf(all, ref)
		return k.Name, err
	}
	k, _, err := s.preferred(ctx)
	return k.Name, err
}

func (s *Service) configured() (string, error) {
	if s.o.Configured == nil {
		return "", nil
	}
	return s.o.Configured()
}

// preferred returns the default kernel, if there is one that can be used.
func (s *Service) preferred(ctx context.Context) (best vm.Kernel, ok bool, err error) {
	all, err := s.o.Store.Kernels(ctx)
	if err != nil {
		return best, false, err
	}
	for _, k := range all {
		if k.Origin.Kind != vm.OriginDebian || !isCloud(k.Release) || ok && !better(k, best) {
			continue
		}
		if err := onDisk(k); err != nil {
			s.o.Log.Warn("a kernel is recorded and not usable", "name", k.Name, "err", err)
			continue
		}
		best, ok = k, true
	}
	return best, ok, nil
}

// Resolve returns the kernel that ref means: the one of that name, or the one of
// Debian's that Pull takes for it; one that is on disk if any is, else it is fetched.
func (s *Service) Resolve(ctx context.Context, ref string, p progress.Func) (vm.Kernel, error) {
	all, err := s.o.Store.Kernels(ctx)
	if err != nil {
		return vm.Kernel{}, err
	}
	debians := isDebians(ref)
	for _, k := range all {
		if k.Name != ref {
			continue
		}
		if err := onDisk(k); err == nil || !debians {
			return s.Get(ctx, ref)
		}
	}
	if !debians {
		return vm.Kernel{}, unknownKernel(ref)
	}
	if k, ok := newestOf(all, ref); ok {
		return k, nil
	}
	r, err := s.Pull(ctx, ref, false, p)
	return r.Kernel, err
}

func unknownKernel(name string) error {
	return errs.New(errs.NotFound, "there is no kernel %q", name).WithHint("banger kernel list; what can be pulled: banger kernel catalog")
}

// Get returns the kernel of a name.
func (s *Service) Get(ctx context.Context, name string) (vm.Kernel, error) {
	k, err := s.record(ctx, name)
	if err != nil {
		return k, err
	}
	if err := onDisk(k); err != nil {
		e := errs.New(errs.Unavailable, "cannot use the kernel %q: %w", name, err)
		if k.Origin.Kind == vm.OriginDebian {
			return vm.Kernel{}, e.WithHint("banger kernel pull %s", k.Release)
		}
		return vm.Kernel{}, e.WithHint("import it again under its name, or: banger vm set VM --kernel ANOTHER")
	}
	return k, nil
}

// record returns what is recorded of a kernel, usable or not.
func (s *Service) record(ctx context.Context, name string) (vm.Kernel, error) {
	all, err := s.o.Store.Kernels(ctx)
	if err != nil {
		return vm.Kernel{}, err
	}
	for _, k := range all {
		if k.Name == name {
			return k, nil
		}
	}
	return vm.Kernel{}, unknownKernel(name)
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
