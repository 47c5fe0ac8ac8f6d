package archive_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"banger/internal/base/errs"
	"banger/internal/oci"
	"banger/internal/oci/archive"
	"banger/internal/oci/unpack"
)

// saved is what docker save wrote before version 25, in the making.
type saved struct {
	t    testing.TB
	all  []member
	list []map[string]any
	ids  int
}

func (s *saved) id() string {
	s.ids++
	return fmt.Sprintf("%064x", s.ids)
}

// layer adds a layer and returns its path.
func (s *saved) layer(content []byte) string {
	id := s.id()
	s.all = append(s.all, member{name: id + "/"}, member{name: id + "/VERSION", content: []byte("1.0")},
		member{name: id + "/json", content: []byte(`{"id":"` + id + `"}`)}, member{name: id + "/layer.tar", content: content})
	return id + "/layer.tar"
}

// link adds a layer that is a link to another.
func (s *saved) link(to string, kind byte) string {
	name := s.id() + "/layer.tar"
	if kind == tar.TypeSymlink {
		to = "../" + to
	}
	s.all = append(s.all, member{name: name, link: to, kind: kind})
	return name
}

// image adds an image of layers at those paths.
func (s *saved) image(p oci.Platform, diffIDs []string, paths []string, tags ...string) string {
	s.t.Helper()
	c := v1.ConfigFile{OS: p.OS, Architecture: p.Architecture, RootFS: v1.RootFS{Type: "layers"}, Config: v1.Config{Env: tags}}
	for _, d := range diffIDs {
		h, err := v1.NewHash(d)
		if err != nil {
			s.t.Fatal(err)
		}
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, h)
	}
	raw := marshal(s.t, c)
	name := strings.TrimPrefix(oci.Digest(raw), "sha256:") + ".json"
	s.all = append(s.all, member{name: name, content: raw})
	s.list = append(s.list, map[string]any{"Config": name, "RepoTags": tags, "Layers": paths})
	return oci.Digest(raw)
}

func (s *saved) tar() []byte {
	s.t.Helper()
	return tarOf(s.t, append(slices.Clone(s.all), member{name: "manifest.json", content: marshal(s.t, s.list)}, member{name: "repositories", content: []byte("{}")})...)
}

func TestOldDockerArchives(t *testing.T) {
	a, b, c := layerTar(t, "a", "a"), layerTar(t, "b", "b"), layerTar(t, "c", "c")
	id := func(all ...[]byte) []string {
		var ids []string
		for _, b := range all {
			ids = append(ids, oci.Digest(b))
		}
		return ids
	}
	k := newKeeper()
	packed := k.blobs[pack(t, k, c, unpack.Gzip).Digest]
	s := &saved{t: t}
	pathA, pathB := s.layer(a), s.layer(b)
	first := s.image(amd64, id(a, b), []string{pathA, pathB}, "alpine:3", "me/app:v1")
	// Links before and behind what they lead to, of both kinds, and to each other.
	soft, hard := s.link(pathA, tar.TypeSymlink), s.link(pathB, tar.TypeLink)
	ahead := s.link(fmt.Sprintf("%064x/layer.tar", s.ids+2), tar.TypeSymlink)
	pathC := s.layer(packed)
	again := s.link(soft, tar.TypeSymlink)
	second := s.image(amd64, id(a, b, c, a), []string{soft, hard, ahead, again})
	_ = s.image(arm64, id(a), []string{pathA}, "arm:latest")
	_ = pathC

	kept := newKeeper()
	images, err := archive.Read(t.Context(), bytes.NewReader(s.tar()), opts, kept.put)
	if err != nil || len(images) != 2 {
		t.Fatalf("%v, %v", images, err)
	}
	if len(kept.blobs) != 3 {
		t.Errorf("%d blobs were kept", len(kept.blobs))
	}
	for name, want := range map[string]string{"alpine:3": first, "docker.io/me/app:v1": first, second: second} {
		got, err := archive.Choose(images, name)
		if err != nil || got.ConfigDigest != want {
			t.Errorf("%q: %v, %v", name, got, err)
			continue
		}
		same(t, kept, got, got.Image) // its layers are there and have their diff ids
	}
	i := images[1]
	if i.Layers[2].MediaType != oci.LayerGzip || i.Layers[0].MediaType != oci.LayerTar || i.Layers[0].Digest != i.Layers[3].Digest {
		t.Errorf("layers %+v", i.Layers)
	}
	// The manifest that it lacks is always the same, and can be read.
	other, err := archive.Read(t.Context(), bytes.NewReader(s.tar()), opts, kept.put)
	if err != nil || other[1].Digest != i.Digest || oci.Digest(i.Manifest) != i.Digest {
		t.Errorf("another time: %v, %v", other, err)
	}
}

func TestOldDockerArchivesThatAreDamaged(t *testing.T) {
	a, b := layerTar(t, "a", "a"), layerTar(t, "b", "b")
	xz := append([]byte{0xfd, '7', 'z', 'X', 'Z', 0}, make([]byte, 600)...)
	for name, c := range map[string]struct {
		make func(s *saved)
		kind errs.Kind
		want string
	}{
		"another layer": {func(s *saved) { s.image(amd64, []string{oci.Digest(a)}, []string{s.layer(b)}, "x:y") }, errs.Invalid, `the image "docker.io/library/x:y": its layer "`},
		"no layer":      {func(s *saved) { s.image(amd64, []string{oci.Digest(a)}, []string{"none/layer.tar"}) }, errs.Invalid, "does not have its layer"},
		"a layer fewer": {func(s *saved) { s.image(amd64, []string{oci.Digest(a)}, nil) }, errs.Invalid, "it has 0 layers, but its config knows 1"},
		"links in a ring": {func(s *saved) {
			l := s.link(fmt.Sprintf("%064x/layer.tar", 2), tar.TypeSymlink)
			s.link(fmt.Sprintf("%064x/layer.tar", 1), tar.TypeSymlink)
			s.image(amd64, []string{oci.Digest(a)}, []string{l})
		}, errs.Invalid, "does not have its layer"},
		"a link out of it": {func(s *saved) {
			s.all = append(s.all, member{name: strings.Repeat("0", 64) + "/layer.tar", link: "../../../etc/passwd"})
			s.image(amd64, []string{oci.Digest(a)}, []string{strings.Repeat("0", 64) + "/layer.tar"})
		}, errs.Invalid, "does not have its layer"},
		"an xz layer": {func(s *saved) { s.image(amd64, []string{oci.Digest(a)}, []string{s.layer(xz)}) }, errs.Invalid, "compressed with xz"},
		"no config":   {func(s *saved) { s.list = append(s.list, map[string]any{"Config": "\x1b.json", "Layers": []string{}}) }, errs.Invalid, "does not have its config"},
		"no image":    {func(s *saved) { s.list = []map[string]any{} }, errs.Invalid, "there are 0 images"},
		"only others": {func(s *saved) { s.image(arm64, []string{oci.Digest(a)}, []string{s.layer(a)}) }, errs.NotFound, "only for linux/arm64"},
		"another config": {func(s *saved) {
			s.image(amd64, nil, nil)
			s.all[0].content = append(s.all[0].content, ' ')
		}, errs.Invalid, "the archive is damaged: its member"},
		"another list": {func(s *saved) { s.list = append(s.list, map[string]any{"Config": 1}) }, errs.Invalid, "the manifest.json is damaged"},
	} {
		s := &saved{t: t}
		c.make(s)
		images, err := archive.Read(t.Context(), bytes.NewReader(s.tar()), opts, newKeeper().put)
		if errs.KindOf(err) != c.kind || !strings.Contains(fmt.Sprint(err), c.want) || strings.ContainsRune(err.Error(), 0x1b) {
			t.Errorf("%s: %v, %v", name, images, err)
		}
	}
}

// Docker 25 and later write a layout that has Docker's list beside, whose names count too.
func TestNewDockerArchives(t *testing.T) {
	k := newKeeper()
	img := newImage(t, k, amd64, "hello")
	l := newLayout(t)
	l.add(l.image(k, img))
	list := []map[string]any{{
		"Config": "blobs/sha256/" + strings.TrimPrefix(img.ConfigDigest, "sha256:"), "RepoTags": []string{"x:y"},
		"Layers": []string{"blobs/sha256/" + strings.TrimPrefix(img.Layers[0].Digest, "sha256:"), "blobs/sha256/" + strings.TrimPrefix(img.Layers[1].Digest, "sha256:")},
	}}
	l.all = append(l.all, member{name: "manifest.json", content: marshal(t, list)})
	for name, b := range map[string][]byte{
		"whole": l.tar(),
		// Bazel's have no index.
		"the list alone": tarOf(t, l.all...),
	} {
		k := newKeeper()
		images, err := archive.Read(t.Context(), bytes.NewReader(b), opts, k.put)
		if err != nil || len(images) != 1 || !slices.Equal(images[0].Names, []string{"docker.io/library/x:y"}) {
			t.Fatalf("%s: %v, %v", name, images, err)
		}
		same(t, k, images[0], img)
	}
}
