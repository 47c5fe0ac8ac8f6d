package images

import (
	"context"
	"errors"
	"io"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"banger/ext4"
	"banger/internal/base/errs"
	"banger/internal/base/progress"
	"banger/internal/blobs"
	"banger/internal/oci"
	"banger/internal/oci/archive"
	"banger/internal/oci/unpack"
	"banger/internal/vm"
)

// ExportForm is what an export writes.
type ExportForm int

// The forms of an export.
const (
	// ExportLayers is an OCI image layout as a tar, which Docker loads too, with the
	// layers that the image was made of. An image that has none has one made.
	ExportLayers ExportForm = iota
	// ExportFlat is the same with one layer that has all files.
	ExportFlat
	// ExportRoot is a tar of the root file system.
	ExportRoot
)

// Export writes the image that ref means to w. Layers that are no longer here are
// fetched again, by their digests.
func (s *Service) Export(ctx context.Context, ref string, form ExportForm, w io.Writer, p progress.Func) error {
	img, err := s.Get(ctx, ref)
	if err != nil {
		return err
	}
	if err := s.export(ctx, img, form, w, p); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return errs.New(errs.KindOf(err), "cannot export the image %q: %w", img.Name, err)
	}
	return nil
}

func (s *Service) export(ctx context.Context, img vm.Image, form ExportForm, w io.Writer, p progress.Func) error {
	if form == ExportRoot {
		return exportRoot(ctx, img.Path, io.MultiWriter(w, newMeter(p, "exporting "+img.Name)))
	}
	docs, err := s.Store.ImageDocuments(ctx, img.Name)
	if err != nil {
		return err
	}
	var names []oci.Reference
	if name, err := oci.ParseReference(img.Name); err == nil && name.Tag() != "" {
		names = append(names, name)
	}
	if docs == nil || img.Origin == nil || form == ExportFlat {
		made, err := s.flatten(ctx, img, docs, p)
		if err != nil {
			return err
		}
		return archive.Write(ctx, w, made, names, func(ctx context.Context, l oci.Layer) (io.ReadCloser, error) {
			return s.Blobs.Open(ctx, descriptor(l), nil, p)
		})
	}
	found, err := fromDocuments(ctx, img.Origin, docs)
	if err != nil {
		return err
	}
	t := newTally(p, "exporting "+img.Name, found.Layers)
	again := refetch{s: s, img: img}
	return archive.Write(ctx, w, found, names, func(ctx context.Context, l oci.Layer) (io.ReadCloser, error) {
		return s.Blobs.Open(ctx, descriptor(l), again.source(l), t.of(l))
	})
}

// refetch finds the layers of an image in its registry, once, if one is wanted.
type refetch struct {
	s     *Service
	img   vm.Image
	found *oci.Image
}

func (r *refetch) source(l oci.Layer) blobs.Source {
	origin := r.img.Origin
	if origin.Reference == "" {
		return nil
	}
	return func(ctx context.Context, offset int64) (io.ReadCloser, int64, error) {
		if r.found == nil {
			ref, err := oci.ParseReference(origin.Reference)
			if err != nil {
				return nil, 0, err
			}
			platform, err := oci.ParsePlatform(origin.Platform)
			if err != nil {
				return nil, 0, err
			}
			if r.found, err = r.s.Registry.Resolve(ctx, ref.WithDigest(origin.Manifest), platform); err != nil {
				return nil, 0, err
			}
		}
		for _, have := range r.found.Layers {
			if have.Digest == l.Digest {
				return have.Source(ctx, offset)
			}
		}
		return nil, 0, errs.New(errs.NotFound, "%s has no layer %s any more", origin.Reference, l.Digest)
	}
}

// fromDocuments reads again what was read when the image was made.
func fromDocuments(ctx context.Context, o *vm.ImageOrigin, docs *vm.ImageDocuments) (*oci.Image, error) {
	p, err := oci.ParsePlatform(o.Platform)
	if err != nil {
		return nil, err
	}
	return oci.Select(ctx, docs.Manifest, o.MediaType, p, configDocument(docs.Config))
}

// configDocument are the documents of an image whose manifest is known.
type configDocument []byte

func (c configDocument) Config(context.Context, v1.Descriptor) ([]byte, error) { return c, nil }

func (configDocument) Manifest(_ context.Context, d v1.Descriptor) ([]byte, error) {
	return nil, errs.New(errs.NotFound, "the manifest %s is not in the record", d.Digest)
}

// flatten makes an OCI image with one layer of a base disk, and keeps that layer
// among the blobs.
func (s *Service) flatten(ctx context.Context, img vm.Image, docs *vm.ImageDocuments, p progress.Func) (*oci.Image, error) {
	pr, pw := io.Pipe()
	packed := make(chan result, 1)
	go func() {
		tr, tw := io.Pipe()
		exported := make(chan struct{})
		go func() {
			defer close(exported)
			_ = tw.CloseWithError(exportRoot(ctx, img.Path, tw)) // always nil
		}()
		l, err := archive.Pack(ctx, pw, tr, unpack.Gzip)
		_ = tr.CloseWithError(errStopped)
		<-exported
		_ = pw.CloseWithError(err)
		packed <- result{l, err}
	}()
	_, err := s.Blobs.Put(ctx, io.TeeReader(pr, newMeter(p, "packing "+img.Name)), oci.MaxLayer)
	_ = pr.CloseWithError(errStopped)
	got := <-packed
	if got.err != nil && !errors.Is(got.err, errStopped) {
		err = got.err
	}
	if err != nil {
		return nil, err
	}
	config, platform := v1.ConfigFile{}, oci.HostPlatform()
	if docs != nil && img.Origin != nil {
		had, err := fromDocuments(ctx, img.Origin, docs)
		if err != nil {
			return nil, err
		}
		config, platform = had.Config, had.Platform
	} else {
		config.Created = v1.Time{Time: img.CreatedAt.UTC()}
	}
	if c := img.Config; c != nil {
		config.Config = ociConfig(c)
	}
	return oci.New(config, platform, []oci.Layer{got.layer})
}

type result struct {
	layer oci.Layer
	err   error
}

// ociConfig is the reverse of configOf.
func ociConfig(c *vm.ImageConfig) v1.Config {
	set := func(keys []string) map[string]struct{} {
		if len(keys) == 0 {
			return nil
		}
		m := map[string]struct{}{}
		for _, k := range keys {
			m[k] = struct{}{}
		}
		return m
	}
	return v1.Config{
		Env: c.Env, WorkingDir: c.WorkingDir, User: c.User, Entrypoint: c.Entrypoint, Cmd: c.Cmd, StopSignal: c.StopSignal,
		ExposedPorts: set(c.ExposedPorts), Volumes: set(c.Volumes), Labels: c.Labels,
	}
}

// exportRoot writes the files of a base disk as a tar.
func exportRoot(ctx context.Context, path string, w io.Writer) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	image, err := ext4.Open(f, info.Size())
	if err != nil {
		return err
	}
	return image.ExportTar(endingWriter{ctx, w})
}

// endingWriter is a writer that ends with a context.
type endingWriter struct {
	ctx context.Context //nolint:containedctx // io.Writer has no room for it
	w   io.Writer
}

func (e endingWriter) Write(b []byte) (int, error) {
	if err := e.ctx.Err(); err != nil {
		return 0, err
	}
	return e.w.Write(b)
}
