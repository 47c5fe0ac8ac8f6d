package images

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"banger/internal/base/atomicfile"
	"banger/internal/base/errs"
	"banger/internal/base/progress"
	"banger/internal/vm"
)

// Import makes an image of a tar, which may be compressed with gzip, zstd or xz,
// and gives it the name; what had the name before loses it. source says for people
// where the tar comes from. When ctx ends, the caller ends a Read of r that is
// under way.
func (s *Service) Import(ctx context.Context, name, source string, r io.Reader, p progress.Func) (vm.Image, error) {
	if err := checkName(name); err != nil {
		return vm.Image{}, err
	}
	// A key of its own: an import is shared with nobody.
	return s.making.Do(ctx, "import "+rand.Text(), p, func(ctx context.Context, p progress.Func) (vm.Image, error) {
		return s.stage(ctx, name, source, func(dir string) (made, error) {
			return s.write(ctx, dir, newMeter(p, "importing "+name), func(w io.Writer) error { return unpack(ctx, w, r) })
		})
	})
}

func (s *Service) build(ctx context.Context, b Builder, p progress.Func) (vm.Image, error) {
	return s.stage(ctx, b.Name, b.Source, func(dir string) (made, error) {
		tmp := filepath.Join(dir, "tmp")
		if err := os.Mkdir(tmp, 0o700); err != nil {
			return made{}, err
		}
		m := newMeter(p, "building "+b.Name)
		m.step("")
		return s.write(ctx, dir, m, func(w io.Writer) error {
			return b.Build(ctx, tmp, func(r progress.Report) { m.step(r.Detail) }, w)
		})
	})
}

// made is a base disk in staging.
type made struct {
	path, digest string
	bytes        int64
}

// stage calls make with a folder of its own, and publishes what it has made.
func (s *Service) stage(ctx context.Context, name, source string, makeDisk func(dir string) (made, error)) (img vm.Image, err error) {
	dir, err := os.MkdirTemp(s.staging(), "")
	if err != nil {
		return vm.Image{}, s.explain(name, err)
	}
	defer func() { err = errors.Join(err, s.RemoveAll(context.WithoutCancel(ctx), dir)) }()
	m, err := makeDisk(dir)
	if err != nil {
		return vm.Image{}, s.explain(name, err)
	}
	if err := ctx.Err(); err != nil {
		return vm.Image{}, err
	}
	return s.publish(context.WithoutCancel(ctx), m, vm.Image{
		Name: name, Digest: m.digest, Path: s.disk(m.digest), Bytes: m.bytes, Source: source, CreatedAt: time.Now(),
	})
}

// explain names the image in an error, and a full disk as the user's to mend.
func (s *Service) explain(name string, err error) error {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return errs.New(errs.Unavailable, "cannot make the image %q: the disk is full: %w", name, err).
			WithHint("free some space for %s", s.Dirs.Images())
	}
	return errs.New(errs.KindOf(err), "cannot make the image %q: %w", name, err)
}

// errStopped is what a source sees of a disk that cannot be written.
var errStopped = errors.New("the disk cannot be written")

// write makes a base disk in dir of the tar that source streams. When it returns,
// source has returned too.
func (s *Service) write(ctx context.Context, dir string, m *meter, source func(io.Writer) error) (made, error) {
	pr, pw := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := source(pw)
		_ = pw.CloseWithError(err) // always nil
		ended <- err
	}()
	path, sum := filepath.Join(dir, "disk.ext4"), sha256.New()
	n, err := s.FromTar(ctx, path, io.TeeReader(pr, io.MultiWriter(sum, m)))
	_ = pr.CloseWithError(errStopped) // always nil
	if sourceErr := <-ended; sourceErr != nil && !errors.Is(sourceErr, errStopped) {
		err = sourceErr // the writer has only been told of it
	}
	switch {
	case ctx.Err() != nil:
		return made{}, ctx.Err()
	case err != nil:
		return made{}, err
	}
	return made{path: path, digest: digestPrefix + hex.EncodeToString(sum.Sum(nil)), bytes: n}, nil
}

// publish moves a base disk to its place and records it; the disk of an image
// that loses its name goes, if nothing else needs it.
func (s *Service) publish(ctx context.Context, m made, img vm.Image) (vm.Image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, err := s.Store.Images(ctx)
	if err != nil {
		return vm.Image{}, err
	}
	// A disk that is there already may be in use, and has the same contents.
	if !s.onDisk(img) {
		if err := os.Rename(m.path, img.Path); err != nil {
			return vm.Image{}, err
		}
		if err := atomicfile.SyncDir(s.Dirs.Images()); err != nil {
			return vm.Image{}, err
		}
	}
	if err := s.Store.PutImage(ctx, img); err != nil {
		_, dropErr := s.dropDisk(ctx, img.Digest)
		return vm.Image{}, errors.Join(err, dropErr)
	}
	i := slices.IndexFunc(before, func(old vm.Image) bool { return old.Name == img.Name })
	if i >= 0 && before[i].Digest != img.Digest {
		if _, err := s.dropDisk(ctx, before[i].Digest); err != nil {
			s.Log.WarnContext(ctx, "cannot remove the old base disk of an image", "image", img.Name, "err", err)
		}
	}
	return img, nil
}
