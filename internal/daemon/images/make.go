package images

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"banger/internal/base/atomicfile"
	"banger/internal/base/errs"
	"banger/internal/vm"
)

// made is a base disk in staging. source is set where it says more than what the image
// has already.
type made struct {
	path, digest, source string
	bytes                int64
}

// stage calls makeDisk with a folder of its own, and publishes what it has made as
// the base disk of img.
func (s *Service) stage(ctx context.Context, img vm.Image, makeDisk func(dir string) (made, error)) (_ vm.Image, err error) {
	name := img.Name
	dir, err := os.MkdirTemp(s.staging(), "")
	if err != nil {
		return vm.Image{}, s.explain(img.Name, err)
	}
	defer func() { err = errors.Join(err, s.RemoveAll(context.WithoutCancel(ctx), dir)) }()
	m, err := makeDisk(dir)
	if err != nil {
		return vm.Image{}, s.explain(img.Name, err)
	}
	if err := ctx.Err(); err != nil {
		return vm.Image{}, err
	}
	img.Digest, img.Path, img.Bytes, img.CreatedAt = m.digest, s.disk(m.digest), m.bytes, time.Now()
	img.Source = cmp.Or(m.source, img.Source)
	if img, err = s.publish(context.WithoutCancel(ctx), m, img); err != nil {
		return vm.Image{}, s.explain(name, err)
	}
	return img, nil
}

// explain names the image in an error, and a full file system as the user's to mend. Which
// one that is, who was writing to another than ours has said.
func (s *Service) explain(name string, err error) error {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), fullDatabase(err):
		hint := errs.HintOf(err)
		if hint == "" {
			err = fmt.Errorf("the file system of %s is full: %w", s.Dirs.Images(), err)
			hint = "free some space there, with banger image prune --all for one, then try again"
		}
		return errs.New(errs.Unavailable, "cannot make the image %q: %w", name, err).WithHint("%s", hint)
	}
	return errs.New(errs.KindOf(err), "cannot make the image %q: %w", name, err)
}

// fullDatabase says whether SQLite had no room for a record: SQLITE_FULL is 13 (its file
// sqlite3.h).
func fullDatabase(err error) bool {
	e, ok := errors.AsType[interface {
		error
		Code() int
	}](err)
	return ok && e.Code()&0xff == 13
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
	n, err := s.FromLayers(ctx, path, io.TeeReader(pr, io.MultiWriter(sum, m)))
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
	return s.record(ctx, img, before)
}

// adopt records img, whose base disk would be digest, if that disk is here already.
func (s *Service) adopt(ctx context.Context, img vm.Image, digest string) (_ vm.Image, ok bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, err := s.Store.Images(ctx)
	if err != nil {
		return vm.Image{}, false, err
	}
	i := slices.IndexFunc(before, func(old vm.Image) bool { return old.Digest == digest && s.onDisk(old) })
	if i < 0 {
		return vm.Image{}, false, nil
	}
	img.Digest, img.Path, img.Bytes, img.CreatedAt = digest, before[i].Path, before[i].Bytes, time.Now()
	img, err = s.record(context.WithoutCancel(ctx), img, before)
	return img, err == nil, err
}

// record puts img, whose disk is in its place, into the store. before are the images
// until now. The caller holds mu.
func (s *Service) record(ctx context.Context, img vm.Image, before []vm.Image) (vm.Image, error) {
	if err := s.Store.PutImage(ctx, img); err != nil {
		_, dropErr := s.dropDisk(ctx, img.Digest)
		return vm.Image{}, errors.Join(err, dropErr)
	}
	img.Documents = nil
	i := slices.IndexFunc(before, func(old vm.Image) bool { return old.Name == img.Name })
	if i >= 0 && before[i].Digest != img.Digest {
		if _, err := s.dropDisk(ctx, before[i].Digest); err != nil {
			s.Log.WarnContext(ctx, "cannot remove the old base disk of an image", "image", img.Name, "err", err)
		}
	}
	return img, nil
}
