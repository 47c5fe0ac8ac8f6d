package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"banger/internal/base/errs"
)

// shelf has documents by digest.
type shelf map[string][]byte

func (s shelf) get(d v1.Descriptor) ([]byte, error) {
	if raw, ok := s[d.Digest.String()]; ok {
		return raw, nil
	}
	return nil, errs.New(errs.Unavailable, "no %s on the shelf", d.Digest)
}

func (s shelf) Manifest(_ context.Context, d v1.Descriptor) ([]byte, error) { return s.get(d) }
func (s shelf) Config(_ context.Context, d v1.Descriptor) ([]byte, error)   { return s.get(d) }

// put stores v as JSON, or as it is if it is text.
func (s shelf) put(t testing.TB, v any, mediaType types.MediaType) v1.Descriptor {
	t.Helper()
	raw, ok := v.([]byte)
	if !ok {
		var err error
		if raw, err = json.Marshal(v); err != nil {
			t.Fatal(err)
		}
	}
	s[Digest(raw)] = raw
	return v1.Descriptor{MediaType: mediaType, Size: int64(len(raw)), Digest: hash(t, Digest(raw))}
}

func hash(t testing.TB, digest string) v1.Hash {
	t.Helper()
	h, err := v1.NewHash(digest)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func layer(t testing.TB, text string, mediaType types.MediaType) v1.Descriptor {
	return v1.Descriptor{MediaType: mediaType, Size: int64(len(text)), Digest: hash(t, Digest([]byte(text)))}
}

func config(t testing.TB, p Platform, layers int) v1.ConfigFile {
	c := v1.ConfigFile{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant, RootFS: v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{}}}
	c.Config.Cmd = []string{p.String()}
	for i := range layers {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, hash(t, Digest(fmt.Appendf(nil, "layer %d unpacked", i))))
	}
	return c
}

// image puts an image of two layers for p.
func (s shelf) image(t testing.TB, p Platform, change func(*v1.Manifest)) v1.Descriptor {
	t.Helper()
	m := &v1.Manifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: s.put(t, config(t, p, 2), types.OCIConfigJSON),
		Layers: []v1.Descriptor{layer(t, "layer 0", types.OCILayer), layer(t, "layer 1 of "+p.String(), types.OCILayerZStd)},
	}
	if change != nil {
		change(m)
	}
	return s.put(t, m, m.MediaType)
}

func (s shelf) index(t testing.TB, entries ...v1.Descriptor) v1.Descriptor {
	t.Helper()
	return s.put(t, v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: entries}, types.OCIImageIndex)
}

func on(d v1.Descriptor, p Platform) v1.Descriptor {
	d.Platform = &v1.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}
	return d
}

func attestation(d v1.Descriptor) v1.Descriptor {
	d = on(d, Platform{OS: "unknown", Architecture: "unknown"})
	d.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
	return d
}

var (
	amd64 = Platform{OS: "linux", Architecture: "amd64"}
	arm64 = Platform{OS: "linux", Architecture: "arm64"}
	armV6 = Platform{OS: "linux", Architecture: "arm", Variant: "v6"}
	armV7 = Platform{OS: "linux", Architecture: "arm", Variant: "v7"}
)

func (s shelf) sel(t testing.TB, d v1.Descriptor, p Platform) (*Image, error) {
	return Select(t.Context(), s[d.Digest.String()], string(d.MediaType), p, s)
}

func TestSelect(t *testing.T) {
	s := shelf{}
	plain := s.image(t, amd64, nil)
	docker := s.image(t, arm64, func(m *v1.Manifest) {
		m.MediaType, m.Config.MediaType = types.DockerManifestSchema2, types.DockerConfigJSON
		m.Layers[0].MediaType, m.Layers[1].MediaType = types.DockerLayer, types.DockerUncompressedLayer
	})
	bare := s.image(t, armV6, func(m *v1.Manifest) { m.MediaType = "" })
	nameless := s.image(t, Platform{}, func(m *v1.Manifest) { m.Config.MediaType = "application/octet-stream" })
	v6, v7 := s.image(t, armV6, nil), s.image(t, Platform{OS: "linux", Architecture: "arm"}, nil)
	list := s.put(t, v1.IndexManifest{MediaType: types.DockerManifestList, Manifests: []v1.Descriptor{on(docker, arm64)}}, types.DockerManifestList)
	chart := s.image(t, amd64, func(m *v1.Manifest) { m.Config.MediaType = "application/vnd.cncf.helm.config.v1+json" })

	for name, c := range map[string]struct {
		what v1.Descriptor
		p    Platform
		want v1.Descriptor
	}{
		"a manifest":                    {plain, amd64, plain},
		"Docker's":                      {docker, arm64, docker},
		"without a type":                {bare, armV7, bare},
		"without a platform":            {nameless, arm64, nameless},
		"an index":                      {s.index(t, on(docker, arm64), attestation(plain), on(plain, amd64)), amd64, plain},
		"Docker's list":                 {list, arm64, docker},
		"the best variant":              {s.index(t, on(v6, armV6), on(v7, armV7)), armV7, v7},
		"a lower variant":               {s.index(t, on(v6, armV6), on(v7, armV7)), armV6, v6},
		"of equals the first":           {s.index(t, on(v6, armV6), on(bare, armV6)), armV7, v6},
		"not said in the index":         {s.index(t, on(docker, arm64), chart, plain), amd64, plain},
		"an index in an index":          {s.index(t, s.index(t, on(docker, arm64)), s.index(t, on(plain, amd64))), amd64, plain},
		"four deep":                     {s.index(t, s.index(t, s.index(t, s.index(t, plain)))), amd64, plain},
		"an index that has a platform":  {s.index(t, on(s.index(t, plain), amd64)), amd64, plain},
		"what the index says is enough": {s.index(t, on(v7, armV6)), armV6, v7},
	} {
		img, err := s.sel(t, c.what, c.p)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		index := c.what.Digest.String()
		if c.what.Digest == c.want.Digest {
			index = ""
		}
		if img.Digest != c.want.Digest.String() || img.Index != index || img.MediaType != string(types.OCIManifestSchema1) && img.MediaType != string(c.want.MediaType) {
			t.Errorf("%s: %s of %q, type %q", name, img.Digest, img.Index, img.MediaType)
		}
		if Digest(img.Manifest) != img.Digest || Digest(img.RawConfig) != img.ConfigDigest || len(img.Layers) != 2 || len(img.Config.Config.Cmd) != 1 {
			t.Errorf("%s: %+v", name, img)
		}
		want := Layer{Digest: Digest([]byte("layer 0")), Size: 7, MediaType: img.Layers[0].MediaType, DiffID: Digest([]byte("layer 0 unpacked"))}
		if got := img.Layers[0]; got.Digest != want.Digest || got.Size != want.Size || got.DiffID != want.DiffID {
			t.Errorf("%s: layer %+v", name, got)
		}
	}
}

func TestSelectWithoutThePlatform(t *testing.T) {
	s := shelf{}
	plain, docker := s.image(t, amd64, nil), s.image(t, arm64, nil)
	var many []v1.Descriptor
	for i := range 100 {
		many = append(many, on(plain, Platform{OS: "linux", Architecture: fmt.Sprintf("arch%02d", i)}))
	}
	for name, c := range map[string]struct {
		what v1.Descriptor
		want string
	}{
		"an index":       {s.index(t, on(docker, arm64), on(plain, amd64), on(plain, amd64), attestation(plain)), "for linux/riscv64 in it, only for linux/amd64, linux/arm64"},
		"nested":         {s.index(t, s.index(t, on(docker, arm64)), on(plain, amd64)), "only for linux/amd64, linux/arm64"},
		"a manifest":     {docker, "only for linux/arm64"},
		"not said":       {s.index(t, docker), "only for linux/arm64"},
		"empty":          {s.index(t), "there is no image for linux/riscv64 in it"},
		"many":           {s.index(t, many...), "linux/arch23, 76 more"},
		"the index lies": {s.index(t, on(docker, Platform{OS: "linux", Architecture: "riscv64"})), "only for linux/arm64"},
	} {
		_, err := s.sel(t, c.what, Platform{OS: "linux", Architecture: "riscv64"})
		if errs.KindOf(err) != errs.NotFound || !strings.Contains(fmt.Sprint(err), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSelectRefuses(t *testing.T) {
	s := shelf{}
	manifest := func(change func(*v1.Manifest)) v1.Descriptor { return s.image(t, amd64, change) }
	layerOf := func(mediaType string) v1.Descriptor {
		return manifest(func(m *v1.Manifest) { m.Layers[1].MediaType = types.MediaType(mediaType) })
	}
	configOf := func(change func(*v1.ConfigFile)) v1.Descriptor {
		c := config(t, amd64, 2)
		change(&c)
		return manifest(func(m *v1.Manifest) { m.Config = s.put(t, c, types.OCIConfigJSON) })
	}
	good := manifest(nil)
	deep := good
	for range 5 {
		deep = s.index(t, deep)
	}
	var charts []v1.Descriptor
	for i := range 40 {
		charts = append(charts, manifest(func(m *v1.Manifest) {
			m.Config.MediaType, m.Annotations = "application/x", map[string]string{"n": fmt.Sprint(i)}
		}))
	}
	short := good
	short.Size--
	big := good
	big.Size = MaxManifest + 1
	raw := func(text string) v1.Descriptor { return s.put(t, []byte(text), types.OCIManifestSchema1) }
	for name, c := range map[string]struct {
		what     v1.Descriptor
		want     string
		notImage bool
	}{
		"no JSON":               {raw("<html>"), "no JSON that we understand", false},
		"rubbish behind":        {raw("{}{}"), "no JSON that we understand", false},
		"of other types":        {raw(`{"layers": "x", "schemaVersion": 2}`), "its manifest is damaged", false},
		"an empty object":       {raw(`{}`), "is no digest", false},
		"two ways":              {raw(`{"manifests": [], "layers": []}`), "an index as well", false},
		"not its type":          {raw(`{"mediaType": "application/vnd.oci.image.index.v1+json", "layers": []}`), "not of the type that it has", false},
		"schema 1":              {raw(`{"schemaVersion": 1, "fsLayers": []}`), "old format, schema 1", false},
		"schema 1, signed":      {raw(`{"mediaType": "application/vnd.docker.distribution.manifest.v1+prettyjws"}`), "old format, schema 1", false},
		"a chart":               {charts[0], `it is not an image but "application/x"`, true},
		"charts":                {s.index(t, charts[:3]...), `it is not an image but "application/x"`, true},
		"an artifact":           {manifest(func(m *v1.Manifest) { m.ArtifactType, m.Config.MediaType = "application/y", types.OCIEmptyJSON }), `"application/y"`, true},
		"a plugin":              {manifest(func(m *v1.Manifest) { m.Config.MediaType = types.DockerPluginConfig }), "vnd.docker.plugin", true},
		"some document":         {raw(`{"mediaType": "application/vnd.oci.artifact.manifest.v1+json"}`), "oci.artifact", true},
		"something in an index": {s.index(t, v1.Descriptor{MediaType: "text/plain", Digest: good.Digest, Size: 3}), "text/plain", true},
		"a foreign layer":       {layerOf(string(types.DockerForeignLayer)), "its licence forbids", false},
		"a restricted layer":    {layerOf("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"), "its licence forbids", false},
		"an encrypted layer":    {layerOf("application/vnd.oci.image.layer.v1.tar+gzip+encrypted"), "is encrypted", false},
		"an unknown layer":      {layerOf("application/vnd.in-toto+json"), "vnd.in-toto+json", true},
		"too many layers":       {manifest(func(m *v1.Manifest) { m.Layers = slices.Repeat(m.Layers[:1], MaxLayers+1) }), "513 layers; 512 is the most", false},
		"a layer too many":      {manifest(func(m *v1.Manifest) { m.Layers = m.Layers[:1] }), "it has 1 layers, but its config knows 2", false},
		"a negative layer":      {manifest(func(m *v1.Manifest) { m.Layers[0].Size = -1 }), "has -1 bytes", false},
		"a huge layer":          {manifest(func(m *v1.Manifest) { m.Layers[0].Size = MaxLayer + 1 }), "is the most", false},
		"a huge config":         {manifest(func(m *v1.Manifest) { m.Config.Size = MaxConfig + 1 }), "is the most", false},
		"a config cut":          {manifest(func(m *v1.Manifest) { m.Config.Size++ }), "bytes long that it should be", false},
		"no root file system":   {configOf(func(c *v1.ConfigFile) { c.RootFS = v1.RootFS{} }), `of the type ""`, false},
		"another one":           {configOf(func(c *v1.ConfigFile) { c.RootFS.Type = "layers+base" }), `of the type "layers+base"`, false},
		"a sha512 diff id": {configOf(func(c *v1.ConfigFile) {
			c.RootFS.DiffIDs[0] = v1.Hash{Algorithm: "sha512", Hex: strings.Repeat("a", 128)}
		}), "is no digest", false},
		"nested too deep": {deep, "nested more than 4 deep", false},
		"a long search":   {s.index(t, charts...), "none of its first 32", false},
		"a wrong size":    {s.index(t, on(short, amd64)), "bytes long that it should be", false},
		"a big manifest":  {s.index(t, on(big, amd64)), "is the most", false},
	} {
		img, err := s.sel(t, c.what, amd64)
		if errs.KindOf(err) != errs.Invalid || !strings.Contains(fmt.Sprint(err), c.want) || errors.Is(err, ErrNotImage) != c.notImage {
			t.Errorf("%s: %v, %v", name, img, err)
		}
	}

	// Somebody puts something else on the shelf.
	index := s.index(t, on(good, amd64))
	s[good.Digest.String()] = []byte(strings.Replace(string(s[good.Digest.String()]), `"schemaVersion":2`, `"schemaVersion":3`, 1))
	if _, err := s.sel(t, index, amd64); errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error(), "damaged: it has the digest") {
		t.Errorf("another manifest: %v", err)
	}
	delete(s, good.Digest.String())
	if _, err := s.sel(t, index, amd64); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("an error of the shelf: %v", err)
	}
}

func TestNewImage(t *testing.T) {
	layers := []Layer{
		{Digest: Digest([]byte("a.gz")), Size: 4, MediaType: LayerGzip, DiffID: Digest([]byte("a"))},
		{Digest: Digest([]byte("b")), Size: 1, MediaType: LayerTar, DiffID: Digest([]byte("b"))},
	}
	c := config(t, arm64, 3)
	c.History = []v1.History{{CreatedBy: "somebody"}}
	c.Config.Env = []string{"A=b"}
	img, err := New(c, amd64, layers)
	if err != nil {
		t.Fatal(err)
	}
	again, err := New(c, amd64, layers)
	if err != nil || again.Digest != img.Digest {
		t.Errorf("another time it is %v, %v", again, err)
	}
	if len(c.RootFS.DiffIDs) != 3 || c.Architecture != "arm64" {
		t.Error("the caller's config has changed")
	}
	// It is an image to whoever reads it.
	s := shelf{img.ConfigDigest: img.RawConfig}
	read, err := Select(t.Context(), img.Manifest, "", amd64, s)
	if err != nil {
		t.Fatal(err)
	}
	if read.Digest != img.Digest || read.MediaType != img.MediaType || read.Config.Config.Env[0] != "A=b" || len(read.Config.History) != 2 {
		t.Errorf("read: %+v", read)
	}
	for i, l := range read.Layers {
		if l.Digest != layers[i].Digest || l.DiffID != layers[i].DiffID || l.MediaType != layers[i].MediaType || l.Size != layers[i].Size {
			t.Errorf("layer %d: %+v", i, l)
		}
	}
	if err := read.CheckPlatform(arm64); errs.KindOf(err) != errs.NotFound {
		t.Errorf("on another platform: %v", err)
	}
	for _, bad := range [][]Layer{
		{{Digest: "sha256:x", DiffID: layers[0].DiffID}}, {{Digest: layers[0].Digest, DiffID: ""}},
		{{Digest: layers[0].Digest, DiffID: layers[0].DiffID, MediaType: "text/plain"}},
	} {
		if img, err := New(c, amd64, bad); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%v: %v, %v", bad, img, err)
		}
	}
	if img, err := Assemble([]byte("{}"), layers); errs.KindOf(err) != errs.Invalid {
		t.Errorf("layers that the config does not know: %v, %v", img, err)
	}
}

func FuzzSelect(f *testing.F) {
	s := shelf{}
	good := s.image(f, amd64, nil)
	for _, d := range []v1.Descriptor{good, s.index(f, on(good, amd64)), s.index(f, attestation(good))} {
		f.Add(s[d.Digest.String()], string(d.MediaType))
	}
	f.Add([]byte(`{"manifests":[{"platform":null}]}`), "application/json; charset=utf-8")
	f.Fuzz(func(t *testing.T, raw []byte, mediaType string) {
		img, err := Select(t.Context(), raw, mediaType, amd64, s)
		if err != nil {
			if k := errs.KindOf(err); k != errs.Invalid && k != errs.NotFound && k != errs.Unavailable {
				t.Errorf("the error is of no kind: %v", err)
			}
			return
		}
		for _, l := range img.Layers {
			if CheckDigest(l.Digest) != nil || CheckDigest(l.DiffID) != nil || l.Size < 0 {
				t.Errorf("layer %+v", l)
			}
		}
	})
}

func FuzzConfig(f *testing.F) {
	raw, err := json.Marshal(config(f, amd64, 2))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{"rootfs":{"type":"layers","diff_ids":["sha256:0","sha256:1"]},"created":null}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := parseConfig(raw, 2)
		if err != nil && errs.KindOf(err) != errs.Invalid {
			t.Errorf("the error is of no kind: %v", err)
		}
		if err == nil && len(c.RootFS.DiffIDs) != 2 {
			t.Errorf("%d layers", len(c.RootFS.DiffIDs))
		}
	})
}
