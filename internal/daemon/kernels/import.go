package kernels

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"syscall"

	"banger/internal/base/errs"
	"banger/internal/base/progress"
	"banger/internal/vm"
)

// PartKind is one of the files of a kernel.
type PartKind string

// The parts, in the order in which they come.
const (
	PartKernel  PartKind = "kernel"
	PartConfig  PartKind = "configuration"
	PartModules PartKind = "modules"
)

// Part is a file of a kernel that is being imported; Data is good until the next one is
// asked for.
type Part struct {
	Kind PartKind
	Data io.Reader
}

// ImportRequest says what is being imported.
type ImportRequest struct {
	Name string
	// Source says where it came from, for people.
	Source string
	// Host says that it is the host's own kernel.
	Host bool
}

// Import makes a kernel of parts: next returns one after another, and io.EOF behind
// the last one.
func (s *Service) Import(ctx context.Context, r ImportRequest, next func() (Part, error), p progress.Func) (Result, error) {
	if err := checkName(r.Name); err != nil {
		return Result{}, err
	}
	// Nobody shares an import; the group is what Close waits for.
	key := fmt.Sprintf("import %d", s.imports.Add(1))
	return s.builds.Do(ctx, key, p, func(ctx context.Context, p progress.Func) (Result, error) {
		origin := vm.Origin{Kind: vm.OriginFile}
		if r.Host {
			origin.Kind = vm.OriginHost
		}
		b, err := s.newBuilder(origin, p)
		if err != nil {
			return Result{}, err
		}
		defer b.close()
		b.k.Name, b.k.Source = r.Name, r.Source
		if err := b.takeParts(ctx, next); err != nil {
			return Result{}, err
		}
		return b.finish(ctx)
	})
}

// takeParts unpacks all parts; the kernel comes first, and each at most once.
func (b *builder) takeParts(ctx context.Context, next func() (Part, error)) error {
	var seen []PartKind
	for {
		part, err := next()
		switch {
		case errors.Is(err, io.EOF) && len(seen) == 0:
			return errs.New(errs.Invalid, "there is no kernel to import").WithHint("give a vmlinux or a bzImage")
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case slices.Contains(seen, part.Kind) || (part.Kind == PartKernel) != (len(seen) == 0):
			return errs.New(errs.Invalid, "the parts of a kernel are out of order")
		}
		seen = append(seen, part.Kind)
		switch part.Kind {
		case PartKernel:
			err = b.takeImage(part.Data)
		case PartConfig:
			var text bytes.Buffer
			if err = copyAtMost(&text, part.Data, maxConfig); err == nil && len(b.config) == 0 {
				b.config = text.Bytes()
			}
		case PartModules:
			err = b.takeModules(ctx, part.Data)
		default:
			err = errs.New(errs.Invalid, "a kernel has no part %q", part.Kind)
		}
		if err != nil {
			return err
		}
	}
}

// takeImage takes the kernel itself.
func (b *builder) takeImage(r io.Reader) error {
	b.send("unpacking %s", b.k.Name)
	image := filepath.Join(b.dir, fileImage)
	err := writeFile(image, r, maxImage)
	if err == nil {
		err = b.extract(image)
	}
	if err == nil {
		return nil
	}
	if notTheFiles(err) {
		return fmt.Errorf("cannot unpack the kernel %q: %w", b.k.Name, err)
	}
	return errs.New(errs.Invalid, "cannot use the kernel %q: %w", b.k.Name, err).WithHint("give a vmlinux or a bzImage for x86-64, with CONFIG_PVH")
}

// takeModules takes a tar of the kernel's modules.
func (b *builder) takeModules(ctx context.Context, r io.Reader) error {
	b.send("unpacking the modules of %s", b.k.Name)
	err := unpackTree(ctx, r, b.tree)
	if err == nil {
		_, err = io.Copy(io.Discard, r) // what stands behind the archive's end
	}
	if err == nil {
		b.tree, err = findTree(b.tree, b.k.Release)
	}
	if err == nil || notTheFiles(err) {
		return err
	}
	e := errs.New(errs.Invalid, "cannot use the modules of the kernel %q: %w", b.k.Name, err)
	if e.Hint = errs.HintOf(err); e.Hint == "" {
		e.Hint = "give a tar of /lib/modules/<release>"
	}
	return e
}

// notTheFiles says whether an error is of the host or of the connection, rather than of
// what was imported.
func notTheFiles(err error) bool {
	for _, host := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EIO, syscall.EROFS, syscall.EACCES, syscall.EPERM} {
		if errors.Is(err, host) {
			return true
		}
	}
	switch errs.KindOf(err) {
	case errs.Canceled, errs.Unavailable, errs.Timeout:
		return true
	}
	return false
}
