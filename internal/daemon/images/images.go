// Package images keeps the root file systems that VMs start from.
//
// An image is a name for a base disk; a base disk is the read-only ext4 made from
// a tar, named by the digest of that tar, so that names may share one. The catalog
// lists images that banger knows how to build; one is built when it is first asked
// for.
//
// The records are the truth: a base disk comes into being in staging, is renamed
// into place, and only then gets its record; it is removed after its last record
// and VM. Whatever a crash leaves between those steps, New removes.
package images

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"banger/internal/base/errs"
	"banger/internal/base/flight"
	"banger/internal/base/paths"
	"banger/internal/base/progress"
	"banger/internal/blobs"
	"banger/internal/oci"
	"banger/internal/vm"
)

// Store keeps the records.
type Store interface {
	// PutImage inserts the image, or replaces the one of its name.
	PutImage(ctx context.Context, i vm.Image) error
	// Images returns all images, by name.
	Images(ctx context.Context) ([]vm.Image, error)
	// DeleteImage removes the record of name. It refuses with errs.Conflict while
	// a VM uses the digest and no other name has it. last says that no other
	// record has the digest.
	DeleteImage(ctx context.Context, name string) (last bool, err error)
	// ImageDocuments returns the documents of an image; nil if it has none.
	ImageDocuments(ctx context.Context, name string) (*vm.ImageDocuments, error)
	// DiskInUse says whether an image or a VM names the digest.
	DiskInUse(ctx context.Context, digest string) (bool, error)
}

// Options are what the service needs; all fields but Pin and RemoveAll are required.
type Options struct {
	Dirs  paths.Dirs
	Store Store
	Log   *slog.Logger
	// Catalog lists the images that can be made by name, in any order. Where it cannot be
	// read whole, it returns what can be, and an error.
	Catalog func() ([]Entry, error)
	// FromLayers is diskimage.FromLayers.
	FromLayers func(ctx context.Context, path string, layers ...io.Reader) (int64, error)
	// Registry is where images are pulled from, and Blobs keeps what was.
	Registry Registry
	Blobs    *blobs.Store
	// Pin returns the digest that the user's configuration has for a reference, or "", or
	// why that cannot be said; nil pins nothing.
	Pin func(oci.Reference) (string, error)
	// RemoveAll removes a folder in which a builder may have been killed; nil is
	// [os.RemoveAll].
	RemoveAll func(ctx context.Context, path string) error
}

// Service is the keeper of the images.
type Service struct {
	Options

	making flight.Group[vm.Image]
	// fair is fairBytes, but in tests.
	fair int64
	// mu is held while files and records change together.
	mu sync.Mutex
}

// New returns a service, and removes what one that was killed has left.
func New(ctx context.Context, o Options) (*Service, error) {
	if o.RemoveAll == nil {
		o.RemoveAll = func(_ context.Context, path string) error { return os.RemoveAll(path) }
	}
	s := &Service{Options: o, fair: fairBytes}
	if err := os.MkdirAll(s.staging(), 0o700); err != nil {
		return nil, err
	}
	if err := s.sweep(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// Close cancels the builds and imports under way and waits for them.
func (s *Service) Close() error {
	s.making.Close()
	return nil
}

func (s *Service) staging() string { return filepath.Join(s.Dirs.Images(), "staging") }

// disk is the file of a digest.
func (s *Service) disk(digest string) string {
	return filepath.Join(s.Dirs.Images(), strings.TrimPrefix(digest, digestPrefix)+".ext4")
}

var diskName = regexp.MustCompile(`^([0-9a-f]{64})\.ext4$`)

// sweep removes staged files and base disks without a record. What cannot be
// removed is no reason not to start.
func (s *Service) sweep(ctx context.Context) error {
	staged, err := os.ReadDir(s.staging())
	if err != nil {
		return err
	}
	for _, e := range staged {
		if err := s.RemoveAll(ctx, filepath.Join(s.staging(), e.Name())); err != nil {
			s.Log.WarnContext(ctx, "cannot remove what is left of a build", "err", err)
		}
	}
	disks, err := os.ReadDir(s.Dirs.Images())
	if err != nil {
		return err
	}
	for _, e := range disks {
		m := diskName.FindStringSubmatch(e.Name())
		if m == nil {
			continue
		}
		if _, err := s.dropDisk(ctx, digestPrefix+m[1]); err != nil {
			return err
		}
	}
	return nil
}

// dropDisk removes the base disk of digest unless something uses it, and returns
// how many bytes that gave back.
func (s *Service) dropDisk(ctx context.Context, digest string) (int64, error) {
	used, err := s.Store.DiskInUse(ctx, digest)
	if err != nil || used {
		return 0, err
	}
	info, err := os.Lstat(s.disk(digest))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return info.Size(), os.Remove(s.disk(digest))
}

// Resolve returns the image that ref means: a name, a reference, or at least 12
// digits of a digest. An image of the catalog that is not on disk is built first, and
// what is in neither is pulled; callers who want the same one share that, and it ends
// when the last of them has left. An image for another architecture than the host's
// is errs.Invalid: it would boot, and nothing in it would run.
func (s *Service) Resolve(ctx context.Context, ref string, p progress.Func) (vm.Image, error) {
	img, err := s.resolve(ctx, ref, p)
	if err != nil {
		return vm.Image{}, err
	}
	return img, checkRuns(img)
}

func (s *Service) resolve(ctx context.Context, ref string, p progress.Func) (vm.Image, error) {
	img, err := s.Get(ctx, ref)
	if err == nil && s.differsFromPin(img) {
		return s.Pull(ctx, img.Name, "", p)
	}
	if errs.KindOf(err) != errs.NotFound {
		return img, err
	}
	e, ok, catalogErr := s.inCatalog(ref)
	switch {
	case catalogErr != nil:
		return vm.Image{}, catalogErr
	case !ok:
		return s.pullUnknown(ctx, ref, err, p)
	}
	return s.making.Do(ctx, ref, p, func(ctx context.Context, p progress.Func) (vm.Image, error) {
		// Another build may have ended since we looked.
		if img, err := s.Get(ctx, ref); errs.KindOf(err) != errs.NotFound {
			return img, err
		}
		return s.make(ctx, e, p)
	})
}

// List returns the images that have a record and those of the catalog, by name.
// One that is not on disk has neither Path nor Bytes.
func (s *Service) List(ctx context.Context) ([]vm.Image, error) {
	images, err := s.Store.Images(ctx)
	if err != nil {
		return nil, err
	}
	for i := range images {
		if !s.onDisk(images[i]) {
			images[i].Path, images[i].Bytes = "", 0
		}
	}
	catalog, err := s.Catalog()
	if err != nil {
		s.Log.WarnContext(ctx, "the catalog cannot be read whole", "err", err)
	}
	for _, e := range catalog {
		if !slices.ContainsFunc(images, func(i vm.Image) bool { return i.Name == e.Name }) {
			images = append(images, vm.Image{Name: e.Name, Source: e.about()})
		}
	}
	slices.SortFunc(images, func(a, b vm.Image) int { return strings.Compare(a.Name, b.Name) })
	return images, nil
}

// Get returns the image on disk that ref means, as in Resolve, and builds nothing.
func (s *Service) Get(ctx context.Context, ref string) (vm.Image, error) {
	img, err := s.find(ctx, ref)
	if err != nil {
		return vm.Image{}, err
	}
	if !s.onDisk(img) {
		return vm.Image{}, errs.New(errs.NotFound, "the base disk of the image %q is gone, or was changed", img.Name).
			WithHint("banger image delete %s, then make the image again", img.Name)
	}
	return img, nil
}

// onDisk says whether an image's base disk is there, and whole.
func (s *Service) onDisk(i vm.Image) bool {
	info, err := os.Stat(i.Path)
	return err == nil && info.Mode().IsRegular() && info.Size() == i.Bytes
}

// Delete removes the name that ref means, and its base disk with the last name;
// freed is the size of the disk that is gone. While a VM uses the disk, its last
// name stays: errs.Conflict.
func (s *Service) Delete(ctx context.Context, ref string) (img vm.Image, freed int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	img, err = s.find(ctx, ref)
	if err != nil {
		return vm.Image{}, 0, err
	}
	last, err := s.Store.DeleteImage(ctx, img.Name)
	if err != nil || !last {
		return img, 0, err
	}
	freed, err = s.dropDisk(context.WithoutCancel(ctx), img.Digest)
	return img, freed, err
}
