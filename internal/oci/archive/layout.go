package archive

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"banger/internal/base/errs"
	"banger/internal/oci"
	"banger/internal/oci/unpack"
)

// Files of a layout, and of Docker's archives.
const (
	indexFile    = "index.json"
	layoutFile   = "oci-layout"
	manifestFile = "manifest.json"
)

// store is where a layout's parts are.
type store interface {
	// document returns a manifest, index or config of at most limit bytes.
	document(d v1.Descriptor, limit int64) ([]byte, error)
	// layer returns the blob of a layer, and keeps it if that is not done yet.
	layer(ctx context.Context, l oci.Layer) (blob, error)
}

// ReadLayout returns the images of a layout that is a folder, as [Read] does. Only the
// layers of the images that it returns go to put.
func ReadLayout(ctx context.Context, fsys fs.FS, o Options, put Put) ([]*Image, error) {
	f := &folder{fsys: fsys, put: put, kept: map[string]blob{}}
	index, err := f.read(indexFile, oci.MaxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errs.New(errs.Invalid, "the folder is no image layout: it has no %s", indexFile)
	}
	if err != nil {
		return nil, err
	}
	return layoutImages(ctx, index, o.Platform, f)
}

// layoutImages returns the images that an index names, with their layers kept.
func layoutImages(ctx context.Context, index []byte, p oci.Platform, s store) ([]*Image, error) {
	var top v1.IndexManifest
	if err := json.Unmarshal(index, &top); err != nil {
		return nil, errs.New(errs.Invalid, "the %s is damaged: %w", indexFile, err)
	}
	if len(top.Manifests) > maxImages {
		return nil, errs.New(errs.Invalid, "there are %d images in the archive; %d is the most", len(top.Manifests), maxImages)
	}
	var images []*Image
	var other error // why there is none, if there is none
	for _, d := range top.Manifests {
		img, err := selectImage(ctx, d, p, s)
		switch {
		case errs.KindOf(err) == errs.NotFound, errors.Is(err, oci.ErrNotImage):
			// Signatures, and other platforms, stand beside images.
			if other == nil {
				other = err
			}
			continue
		case err != nil:
			return nil, nameError(d, err)
		}
		images = addImage(images, img, d)
	}
	if len(images) == 0 {
		if other == nil {
			return nil, errs.New(errs.Invalid, "there is no image in the archive")
		}
		return nil, other
	}
	for _, i := range images {
		for _, l := range i.Layers {
			if err := keepLayer(ctx, l, s); err != nil {
				return nil, errs.New(errs.KindOf(err), "the image %s: %w", i.name(), err)
			}
		}
	}
	return images, nil
}

func nameError(d v1.Descriptor, err error) error {
	if name := nameOf(d); name != "" {
		return errs.New(errs.KindOf(err), "the image %q: %w", oci.Printable(name), err)
	}
	return errs.New(errs.KindOf(err), "the image %s: %w", d.Digest, err)
}

// addImage adds an image to those before it, or its name to the one that it is.
func addImage(images []*Image, img *oci.Image, d v1.Descriptor) []*Image {
	for _, i := range images {
		if i.Digest == img.Digest {
			i.addName(nameOf(d))
			return images
		}
	}
	i := &Image{Image: img}
	i.addName(nameOf(d))
	return append(images, i)
}

// nameOf returns what an index calls an image: containerd's whole name, or the
// specification's, which may be whole or a tag (annotations.md).
func nameOf(d v1.Descriptor) string {
	if name := d.Annotations["io.containerd.image.name"]; name != "" {
		return name
	}
	return d.Annotations["org.opencontainers.image.ref.name"]
}

func selectImage(ctx context.Context, d v1.Descriptor, p oci.Platform, s store) (*oci.Image, error) {
	// An index of one reads the descriptor as all others are read.
	raw, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: indexType, Manifests: []v1.Descriptor{d}})
	if err != nil {
		return nil, err
	}
	img, err := oci.Select(ctx, raw, string(indexType), p, documents{s})
	if err != nil {
		return nil, err
	}
	if img.Index = d.Digest.String(); img.Index == img.Digest {
		img.Index = ""
	}
	return img, nil
}

// keepLayer puts a layer away, or makes sure that it was.
func keepLayer(ctx context.Context, l oci.Layer, s store) error {
	b, err := s.layer(ctx, l)
	switch {
	case err != nil:
		return err
	case b.digest != l.Digest || b.size != l.Size:
		return errs.New(errs.Invalid, "its layer %s of %d bytes is damaged: it has %d bytes and the digest %s", l.Digest, l.Size, b.size, b.digest)
	case b.format == unpack.Plain && l.DiffID != l.Digest:
		return errs.New(errs.Invalid, "its layer %s is not the one that its config knows, %s", l.Digest, l.DiffID)
	}
	return nil
}

// documents are those of a store, for [oci.Select].
type documents struct{ s store }

func (d documents) Manifest(_ context.Context, want v1.Descriptor) ([]byte, error) {
	return d.s.document(want, oci.MaxManifest)
}

func (d documents) Config(_ context.Context, want v1.Descriptor) ([]byte, error) {
	return d.s.document(want, oci.MaxConfig)
}

// blobPath returns the path of a blob.
func blobPath(digest string) string { return "blobs/" + strings.Replace(digest, ":", "/", 1) }

func missing(digest string) error {
	return errs.New(errs.Invalid, "the archive does not have the blob %s", digest).WithHint("save the image again: with skopeo copy --all, or for this platform")
}

func (m *members) document(d v1.Descriptor, _ int64) ([]byte, error) {
	raw, ok := m.documents[m.follow(blobPath(d.Digest.String()))]
	if !ok {
		return nil, missing(d.Digest.String())
	}
	return raw, nil
}

func (m *members) layer(_ context.Context, l oci.Layer) (blob, error) {
	b, ok := m.blobs[m.follow(blobPath(l.Digest))]
	if !ok {
		return blob{}, missing(l.Digest)
	}
	return b, nil
}

// folder is a layout in a file system.
type folder struct {
	fsys fs.FS
	put  Put
	// kept are the layers that are with put, by digest.
	kept map[string]blob
}

func (f *folder) read(name string, limit int64) ([]byte, error) {
	file, err := f.open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // it is only read
	raw, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err == nil && int64(len(raw)) > limit {
		err = errs.New(errs.Invalid, "%q has more than %d bytes", name, limit)
	}
	return raw, err
}

// open opens a regular file: a pipe in its place would have us wait.
func (f *folder) open(name string) (fs.File, error) {
	info, err := fs.Stat(f.fsys, name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errs.New(errs.Invalid, "%q is no file", name)
	}
	return f.fsys.Open(name)
}

func (f *folder) document(d v1.Descriptor, limit int64) ([]byte, error) {
	raw, err := f.read(blobPath(d.Digest.String()), min(limit, d.Size))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, missing(d.Digest.String())
	}
	return raw, err
}

func (f *folder) layer(ctx context.Context, l oci.Layer) (blob, error) {
	if b, ok := f.kept[l.Digest]; ok {
		return b, nil
	}
	file, err := f.open(blobPath(l.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		return blob{}, missing(l.Digest)
	}
	if err != nil {
		return blob{}, err
	}
	defer file.Close() //nolint:errcheck // it is only read
	h := &headReader{r: file}
	digest, size, err := f.put(ctx, h, l.Size)
	if err != nil {
		return blob{}, err
	}
	b := blob{digest: digest, size: size, format: unpack.Detect(h.head)}
	f.kept[l.Digest] = b
	return b, nil
}

// headReader remembers the first bytes that are read through it.
type headReader struct {
	r    io.Reader
	head []byte
}

func (h *headReader) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	if need := unpack.HeadLen - len(h.head); need > 0 {
		h.head = append(h.head, p[:min(n, need)]...)
	}
	return n, err
}
