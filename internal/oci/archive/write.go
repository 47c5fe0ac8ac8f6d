package archive

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"banger/internal/base/errs"
	"banger/internal/oci"
)

// Open opens the blob of a layer.
type Open func(ctx context.Context, l oci.Layer) (io.ReadCloser, error)

// Write writes the image as the tar of an OCI layout, with Docker's manifest.json
// beside it, so that "docker load", "podman load" and "skopeo copy oci-archive:" take it.
// names are what it is to be called there. The same image, names and blobs make the
// same tar, byte for byte.
//
// Each blob is verified as it is written; after an error the tar is of no use. The
// error is errs.Invalid for a blob that is not what the image says, and else that of w
// or of open.
func Write(ctx context.Context, w io.Writer, img *oci.Image, names []oci.Reference, open Open) error {
	for _, n := range names {
		if n.Tag() == "" {
			return errs.New(errs.Invalid, "%q is no name for an image in an archive: it has no tag", n.Familiar())
		}
	}
	t := &tarWriter{w: tar.NewWriter(w), done: map[string]bool{}}
	index, err := layoutIndex(img, names)
	if err != nil {
		return err
	}
	list, err := dockerList(img, names)
	if err != nil {
		return err
	}
	// What tells the rest apart comes first, for those who read once.
	t.file(layoutFile, []byte(`{"imageLayoutVersion":"1.0.0"}`))
	t.file(indexFile, index)
	t.file(manifestFile, list)
	t.dir("blobs/")
	t.dir("blobs/sha256/")
	t.document(img.Digest, img.Manifest)
	t.document(img.ConfigDigest, img.RawConfig)
	for _, l := range img.Layers {
		t.layer(ctx, l, open)
	}
	if t.err == nil {
		t.err = t.w.Close()
	}
	return t.err
}

// layoutIndex returns the index.json, which has an entry for each name.
func layoutIndex(img *oci.Image, names []oci.Reference) ([]byte, error) {
	digest, err := v1.NewHash(img.Digest)
	if err != nil {
		return nil, errs.New(errs.Invalid, "the image's digest: %w", err)
	}
	d := v1.Descriptor{MediaType: types.MediaType(img.MediaType), Size: int64(len(img.Manifest)), Digest: digest}
	if p := img.Platform; p.OS != "" && p.Architecture != "" {
		d.Platform = &v1.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}
	}
	index := v1.IndexManifest{SchemaVersion: 2, MediaType: indexType}
	for _, n := range names {
		d := d
		d.Annotations = map[string]string{
			"io.containerd.image.name":          n.String(),
			"org.opencontainers.image.ref.name": n.Tag(),
		}
		index.Manifests = append(index.Manifests, d)
	}
	if len(names) == 0 {
		index.Manifests = []v1.Descriptor{d}
	}
	return json.Marshal(index)
}

// dockerList returns the manifest.json.
func dockerList(img *oci.Image, names []oci.Reference) ([]byte, error) {
	d := dockerImage{Config: blobPath(img.ConfigDigest), RepoTags: []string{}, Layers: []string{}}
	for _, n := range names {
		d.RepoTags = append(d.RepoTags, n.Familiar())
	}
	for _, l := range img.Layers {
		d.Layers = append(d.Layers, blobPath(l.Digest))
	}
	return json.Marshal([]dockerImage{d})
}

// tarWriter writes the members of a layout. After an error it does nothing.
type tarWriter struct {
	w    *tar.Writer
	done map[string]bool // blobs, by digest
	err  error
}

// epoch is the time of everything in an archive: it says nothing.
var epoch = time.Unix(0, 0)

func (t *tarWriter) header(h tar.Header) {
	h.ModTime = epoch
	if t.err == nil {
		t.err = t.w.WriteHeader(&h)
	}
}

func (t *tarWriter) dir(name string) {
	t.header(tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755})
}

func (t *tarWriter) file(name string, content []byte) {
	t.header(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content))})
	if t.err == nil {
		_, t.err = t.w.Write(content)
	}
}

// first says whether a blob is not written yet, and that it will be.
func (t *tarWriter) first(digest string) bool {
	first := !t.done[digest]
	t.done[digest] = true
	return first && t.err == nil
}

func (t *tarWriter) document(digest string, raw []byte) {
	if got := oci.Digest(raw); got != digest && t.err == nil {
		t.err = errs.New(errs.Invalid, "the image is damaged: its document %s has the digest %s", digest, got)
	}
	if t.first(digest) {
		t.file(blobPath(digest), raw)
	}
}

func (t *tarWriter) layer(ctx context.Context, l oci.Layer, open Open) {
	if !t.first(l.Digest) {
		return
	}
	r, err := open(ctx, l)
	if err != nil {
		t.err = err
		return
	}
	t.header(tar.Header{Typeflag: tar.TypeReg, Name: blobPath(l.Digest), Mode: 0o644, Size: l.Size})
	if t.err == nil {
		t.err = copyLayer(ctx, t.w, r, l)
	}
	if err := r.Close(); t.err == nil {
		t.err = err
	}
}

// copyLayer copies all of a layer, and verifies it.
func copyLayer(ctx context.Context, w io.Writer, r io.Reader, l oci.Layer) error {
	hash := sha256.New()
	n, err := io.CopyBuffer(io.MultiWriter(w, hash), &io.LimitedReader{R: ending{ctx, r}, N: l.Size}, make([]byte, 256<<10))
	if err != nil {
		return err
	}
	var more [1]byte
	extra, err := io.ReadFull(r, more[:])
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if got := "sha256:" + hex.EncodeToString(hash.Sum(nil)); n+int64(extra) != l.Size || got != l.Digest {
		return errs.New(errs.Invalid, "the layer %s of %d bytes is damaged: its first %d bytes have the digest %s", l.Digest, l.Size, n, got)
	}
	return nil
}

// ending is a reader that ends with a context.
type ending struct {
	ctx context.Context //nolint:containedctx // for one copy
	r   io.Reader
}

func (e ending) Read(p []byte) (int, error) {
	if err := e.ctx.Err(); err != nil {
		return 0, err
	}
	return e.r.Read(p)
}
