package kernels

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"banger/internal/base/atomicfile"
	"banger/internal/base/errs"
	"banger/internal/base/progress"
	"banger/internal/base/undo"
	"banger/internal/debian"
	"banger/internal/vm"
)

// staging begins the name of a folder that is not finished.
const staging = ".staging-"

// build makes the default kernel and records it.
func (s *Service) build(ctx context.Context, p progress.Func) (k vm.Kernel, err error) {
	send := func(format string, args ...any) {
		p.Send(progress.Report{Phase: "kernel", Detail: fmt.Sprintf(format, args...)})
	}
	send("finding Debian's cloud kernel")
	archive, err := s.archive(ctx)
	if err != nil {
		return k, err
	}
	defer archive.Close()
	pkg, release, err := findPackage(ctx, archive)
	if err != nil {
		return k, err
	}
	deb, err := archive.Fetch(ctx, pkg, every(100*time.Millisecond, func(done int64) {
		p.Send(progress.Report{Phase: "kernel", Detail: "fetching " + pkg.Name, Done: done, Total: pkg.Size()})
	}))
	if err != nil {
		return k, err
	}
	var steps undo.Stack
	defer func() {
		if clean := steps.Run(); clean != nil {
			s.o.Log.Warn("cannot remove an unfinished kernel", "err", clean)
		}
	}()
	if err := os.MkdirAll(s.o.Dirs.Kernels(), 0o700); err != nil {
		return k, errs.New(errs.Unavailable, "cannot make the folder for kernels: %w", err)
	}
	tmp, err := os.MkdirTemp(s.o.Dirs.Kernels(), staging)
	if err != nil {
		return k, errs.New(errs.Unavailable, "cannot make a folder for the kernel: %w", err)
	}
	steps.Add(func() error { return os.RemoveAll(tmp) })

	send("unpacking %s", pkg.Name)
	b := &builder{dir: tmp, release: release}
	if err := b.unpack(ctx, deb); err != nil {
		return k, fmt.Errorf("cannot unpack the kernel %q: %w", release, err)
	}
	send("indexing the modules of %s", release)
	diskBytes, err := b.makeModules(ctx, s.o.FromTar)
	if err != nil {
		return k, fmt.Errorf("cannot make the modules of the kernel %q: %w", release, err)
	}
	final := filepath.Join(s.o.Dirs.Kernels(), release)
	if err := s.publish(tmp, final, &steps); err != nil {
		return k, fmt.Errorf("cannot put the kernel %q in place: %w", release, err)
	}
	k = vm.Kernel{
		Release: release, Version: pkg.Version,
		Digest: fmt.Sprintf("sha256:%x", b.digest.Sum(nil)),
		Path:   filepath.Join(final, fileELF), ModulesDisk: filepath.Join(final, fileDisk), ModulesDir: filepath.Join(final, dirModules),
		Bytes: b.elfBytes + diskBytes, Source: pkg.URI + " " + pkg.Suite, CreatedAt: time.Now(),
	}
	if err := s.o.Store.PutKernel(ctx, k); err != nil {
		return vm.Kernel{}, err
	}
	if err := os.Remove(deb); err != nil {
		s.o.Log.Warn("cannot remove a package that is unpacked", "err", err)
	}
	s.o.Log.Info("made a kernel", "release", release, "version", pkg.Version, "source", k.Source)
	return k, nil
}

func (s *Service) archive(ctx context.Context) (*debian.Archive, error) {
	root, host := s.o.AptRoot, debian.HostConfig{}
	if root == "" || root == "/" {
		root, host = "/", debian.ReadHostConfig(ctx)
	}
	sources, err := debian.DebianSources(root)
	if err != nil {
		return nil, err
	}
	return debian.Open(debian.Options{Sources: sources, Keyring: s.o.Keyring, Cache: s.o.Dirs.Downloads(), Host: host})
}

// publish renames tmp to final, durably. A folder that is there already has no
// usable record, or there had been no build.
func (s *Service) publish(tmp, final string, steps *undo.Stack) error {
	if err := syncTree(tmp); err != nil {
		return err
	}
	if exists(final) {
		old := tmp + "-old"
		if err := os.Rename(final, old); err != nil {
			return err
		}
		steps.Add(func() error { return os.RemoveAll(old) })
	}
	if err := os.Rename(tmp, final); err != nil {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(final))
}

// syncTree makes all files and folders below dir durable.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return atomicfile.SyncDir(path) // fsync of a file opened for reading is as good
	})
}

// every returns f, called at most once in an interval.
func every(interval time.Duration, f func(int64)) func(int64) {
	var last time.Time
	return func(n int64) {
		if now := time.Now(); now.Sub(last) >= interval {
			last = now
			f(n)
		}
	}
}
