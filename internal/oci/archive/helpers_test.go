package archive_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"banger/internal/base/errs"
	"banger/internal/oci"
	"banger/internal/oci/archive"
	"banger/internal/oci/unpack"
)

var (
	amd64 = oci.Platform{OS: "linux", Architecture: "amd64"}
	arm64 = oci.Platform{OS: "linux", Architecture: "arm64"}
	opts  = archive.Options{Platform: amd64}
)

// keeper keeps blobs in memory.
type keeper struct {
	mu    sync.Mutex
	blobs map[string][]byte
	err   error // what put says, if not nil
}

func newKeeper() *keeper { return &keeper{blobs: map[string][]byte{}} }

func (k *keeper) put(_ context.Context, r io.Reader, limit int64) (string, int64, error) {
	if k.err != nil {
		return "", 0, k.err
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return "", 0, err
	}
	if int64(len(b)) > limit {
		return "", 0, errors.New("it is longer than its limit")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.blobs[oci.Digest(b)] = b
	return oci.Digest(b), int64(len(b)), nil
}

func (k *keeper) open(_ context.Context, l oci.Layer) (io.ReadCloser, error) {
	b, ok := k.blobs[l.Digest]
	if !ok {
		return nil, errs.New(errs.NotFound, "no %s", l.Digest)
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

// layerTar returns a tar with one file.
func layerTar(t testing.TB, name, text string) []byte {
	t.Helper()
	return tarOf(t, member{name: name, content: []byte(text)})
}

// member is one of a tar: a file, or a link if link is set.
type member struct {
	name    string
	content []byte
	link    string
	kind    byte
}

func tarOf(t testing.TB, all ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range all {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: m.name, Mode: 0o644, Size: int64(len(m.content)), Linkname: m.link}
		switch {
		case m.kind != 0:
			h.Typeflag = m.kind
		case m.link != "":
			h.Typeflag = tar.TypeSymlink
		case strings.HasSuffix(m.name, "/"):
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(m.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// members returns those of a tar.
func members(t testing.TB, b []byte) []member {
	t.Helper()
	var all []member
	for r := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, member{h.Name, content, h.Linkname, h.Typeflag})
	}
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// pack keeps a tar as a layer.
func pack(t testing.TB, k *keeper, b []byte, format unpack.Format) oci.Layer {
	t.Helper()
	var out bytes.Buffer
	l, err := archive.Pack(t.Context(), &out, bytes.NewReader(b), format)
	if err != nil {
		t.Fatal(err)
	}
	k.blobs[l.Digest] = out.Bytes()
	return l
}

// newImage returns an image of two layers, which k has.
func newImage(t testing.TB, k *keeper, p oci.Platform, text string) *oci.Image {
	t.Helper()
	img, err := oci.New(v1.ConfigFile{Config: v1.Config{Cmd: []string{"/bin/sh"}, Env: []string{"A=" + text}}}, p, []oci.Layer{
		pack(t, k, layerTar(t, "etc/issue", "base"), unpack.Gzip),
		pack(t, k, layerTar(t, "etc/motd", text), unpack.Plain),
	})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func refs(t testing.TB, all ...string) []oci.Reference {
	t.Helper()
	var list []oci.Reference
	for _, s := range all {
		ref, err := oci.ParseReference(s)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, ref)
	}
	return list
}

func write(t testing.TB, k *keeper, img *oci.Image, names ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := archive.Write(t.Context(), &b, img, refs(t, names...), k.open); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// same fails unless got is the image want, and k has its layers.
func same(t testing.TB, k *keeper, got *archive.Image, want *oci.Image) {
	t.Helper()
	if got.Digest != want.Digest || got.ConfigDigest != want.ConfigDigest || got.MediaType != want.MediaType || !bytes.Equal(got.Manifest, want.Manifest) || !bytes.Equal(got.RawConfig, want.RawConfig) {
		t.Errorf("got the image %s of type %s, not %s of type %s", got.Digest, got.MediaType, want.Digest, want.MediaType)
	}
	if !slices.EqualFunc(got.Layers, want.Layers, func(a, b oci.Layer) bool {
		return a.Digest == b.Digest && a.Size == b.Size && a.MediaType == b.MediaType && a.DiffID == b.DiffID
	}) {
		t.Errorf("layers %+v, not %+v", got.Layers, want.Layers)
	}
	for _, l := range got.Layers {
		r, err := unpack.Decompress(t.Context(), bytes.NewReader(k.blobs[l.Digest]), 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, unpack.Verify(r, l.DiffID)); err != nil {
			t.Errorf("the layer %s: %v", l.Digest, err)
		}
		_ = r.Close()
	}
}

// layout is an OCI layout in the making.
type layout struct {
	t     testing.TB
	all   []member
	index v1.IndexManifest
}

func newLayout(t testing.TB) *layout {
	return &layout{t: t, index: v1.IndexManifest{SchemaVersion: 2}}
}

func (l *layout) blob(b []byte, mediaType string) v1.Descriptor {
	l.t.Helper()
	hash, err := v1.NewHash(oci.Digest(b))
	if err != nil {
		l.t.Fatal(err)
	}
	l.all = append(l.all, member{name: "blobs/sha256/" + hash.Hex, content: b})
	return v1.Descriptor{MediaType: types.MediaType(mediaType), Size: int64(len(b)), Digest: hash}
}

// image adds the blobs of an image.
func (l *layout) image(k *keeper, img *oci.Image) v1.Descriptor {
	l.t.Helper()
	for _, layer := range img.Layers {
		l.blob(k.blobs[layer.Digest], layer.MediaType)
	}
	l.blob(img.RawConfig, "")
	d := l.blob(img.Manifest, img.MediaType)
	d.Platform = &v1.Platform{OS: img.Platform.OS, Architecture: img.Platform.Architecture}
	return d
}

func named(d v1.Descriptor, name string) v1.Descriptor {
	d.Annotations = map[string]string{"org.opencontainers.image.ref.name": name}
	return d
}

func (l *layout) add(d ...v1.Descriptor) *layout {
	l.index.Manifests = append(l.index.Manifests, d...)
	return l
}

// tar returns the layout, its index last.
func (l *layout) tar() []byte {
	l.t.Helper()
	all := append(slices.Clone(l.all), member{name: "index.json", content: marshal(l.t, l.index)}, member{name: "oci-layout", content: []byte(`{"imageLayoutVersion":"1.0.0"}`)})
	return tarOf(l.t, all...)
}
