package kernels

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"banger/internal/base/atomicfile"
	"banger/internal/base/errs"
	"banger/internal/vm"
)

// Delete removes a kernel that no VM uses, and returns it as it was. Its folder is
// marked first, so that the next daemon ends what a killed one began.
func (s *Service) Delete(ctx context.Context, name string) (vm.Kernel, error) {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	k, err := s.record(ctx, name)
	if err != nil {
		return k, err
	}
	folder := filepath.Join(s.o.Dirs.Kernels(), k.Name)
	mark := filepath.Join(folder, fileDeleting)
	if err := atomicfile.Write(mark, nil, 0o600); err != nil && !errors.Is(err, os.ErrNotExist) {
		return k, errs.New(errs.Unavailable, "cannot delete the kernel %q: %w", name, err)
	}
	if err := s.o.Store.DeleteKernel(ctx, name); err != nil {
		if gone := os.Remove(mark); gone != nil && !errors.Is(gone, os.ErrNotExist) {
			s.o.Log.Warn("cannot unmark a kernel", "name", name, "err", gone)
		}
		return k, err
	}
	if err := os.RemoveAll(folder); err != nil {
		return k, errs.New(errs.Internal, "cannot remove the files of the kernel %q: %w", name, err).WithHint("rm -r '%s'", folder)
	}
	s.o.Log.Info("deleted a kernel", "name", name)
	return k, nil
}

// sweep ends the deletions that a killed daemon began: those whose record has gone.
func (s *Service) sweep(ctx context.Context) error {
	marks, _ := filepath.Glob(filepath.Join(s.o.Dirs.Kernels(), "*", fileDeleting)) // the pattern is well formed
	if len(marks) == 0 {
		return nil
	}
	records, err := s.o.Store.Kernels(ctx)
	if err != nil {
		return err
	}
	kept := map[string]bool{}
	for _, k := range records {
		kept[k.Name] = true
	}
	var all []error
	for _, mark := range marks {
		if folder := filepath.Dir(mark); kept[filepath.Base(folder)] {
			all = append(all, os.Remove(mark))
		} else {
			all = append(all, os.RemoveAll(folder))
		}
	}
	return errors.Join(all...)
}
