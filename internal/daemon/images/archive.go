package images

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"io"

	"banger/internal/base/errs"
	"banger/internal/base/progress"
	"banger/internal/oci"
	"banger/internal/oci/archive"
	"banger/internal/oci/unpack"
	"banger/internal/vm"
)

// ImportOptions say what an import makes of a file.
type ImportOptions struct {
	// Name is the new image's; empty takes the name that an image archive has for it.
	Name string
	// Source says for people where the file comes from.
	Source string
	// Config is what the image of a root file system says of its processes; nil is
	// nothing. An image archive has its own.
	Config *vm.ImageConfig
	// Image is which image of an archive with several, by name or digest.
	Image string
	// Platform is whose images of an archive are wanted; empty is the host's.
	Platform string
}

// Import makes an image of r and gives it the name; what had the name before loses
// it. r is a tar of a root file system, or an image archive: an OCI image layout or
// what "docker save" writes. It may be compressed with gzip, zstd or xz. When ctx ends,
// the caller ends a Read of r that is under way.
func (s *Service) Import(ctx context.Context, o ImportOptions, r io.Reader, p progress.Func) (vm.Image, error) {
	if o.Name != "" {
		if err := checkName(o.Name); err != nil {
			return vm.Image{}, err
		}
	}
	if err := o.Config.Check(); err != nil {
		return vm.Image{}, err
	}
	want, err := platformOf(o.Platform)
	if err != nil {
		return vm.Image{}, err
	}
	// A key of its own: an import is shared with nobody.
	return s.making.Do(ctx, "import "+rand.Text(), p, func(ctx context.Context, p progress.Func) (vm.Image, error) {
		in := bufio.NewReaderSize(r, archive.SniffSize)
		kind, err := archive.Sniff(ctx, in)
		var img vm.Image
		switch {
		case err != nil:
			err = s.explain(o.Name, err)
		case kind == archive.ImageArchive:
			img, err = s.importArchive(ctx, o, want, in, p)
		default:
			img, err = s.importRoot(ctx, o, in, p)
		}
		if errs.KindOf(err) == errs.Invalid && errs.HintOf(err) == "" {
			err = errs.New(errs.Invalid, "%s: %w", o.Source, err).
				WithHint("import the tar of a root file system, what docker save writes, or an OCI layout: plain, or packed with gzip, zstd or xz")
		}
		return img, err
	})
}

// importRoot makes an image of the tar of a root file system.
func (s *Service) importRoot(ctx context.Context, o ImportOptions, r io.Reader, p progress.Func) (vm.Image, error) {
	if o.Name == "" {
		return vm.Image{}, errs.New(errs.Invalid, "the tar of a root file system has no name for the image").WithHint("banger image import --name NAME …")
	}
	if o.Image != "" {
		return vm.Image{}, errs.New(errs.Invalid, "there is no image %q: the file is the tar of a root file system", o.Image)
	}
	img := vm.Image{Name: o.Name, Source: o.Source, Config: o.Config}
	return s.stage(ctx, img, func(dir string) (made, error) {
		return s.write(ctx, dir, newMeter(p, "importing "+o.Name), func(w io.Writer) error {
			budget := s.budget()
			plain, err := unpack.Decompress(ctx, budget.Earn(r), 0)
			if err != nil {
				return err
			}
			_, err = io.Copy(w, budget.Spend(plain))
			return errors.Join(err, plain.Close())
		})
	})
}

// importArchive makes an image of one of an archive's.
func (s *Service) importArchive(ctx context.Context, o ImportOptions, want oci.Platform, r io.Reader, p progress.Func) (vm.Image, error) {
	if o.Config != nil {
		return vm.Image{}, errs.New(errs.Invalid, "an image archive has its own configuration").WithHint("leave out --change")
	}
	m := newMeter(p, "reading the archive")
	put := func(ctx context.Context, r io.Reader, limit int64) (string, int64, error) {
		d, err := s.Blobs.Put(ctx, io.TeeReader(r, m), limit)
		return d.Digest, d.Size, err
	}
	budget := s.budget()
	all, err := archive.Read(ctx, r, archive.Options{Platform: want, Budget: budget}, put)
	if err != nil {
		return vm.Image{}, s.explain(o.Name, err)
	}
	chosen, err := archive.Choose(all, o.Image)
	if err != nil {
		return vm.Image{}, s.explain(o.Name, err)
	}
	name := o.Name
	if name == "" {
		if name = ownName(chosen); name == "" {
			return vm.Image{}, errs.New(errs.Invalid, "the archive has no name for the image").WithHint("banger image import --name NAME …")
		}
	}
	return s.assemble(ctx, vm.Image{Name: name, Source: o.Source}, "", chosen.Image, budget, p)
}

// ownName is what an archive calls an image, in the form that people write.
func ownName(i *archive.Image) string {
	for _, n := range i.Names {
		if ref, err := oci.ParseReference(n); err == nil && ref.Tag() != "" {
			return ref.Familiar()
		}
	}
	return ""
}
