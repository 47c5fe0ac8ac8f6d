package layers_test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"banger/internal/base/testneed"
	"banger/internal/oci"
)

// writeLayout writes an OCI image layout (image specification, image-layout.md) with
// one image, "x", of these layers, which are stored as they are.
func writeLayout(t testing.TB, layers ...[]byte) string {
	t.Helper()
	layout := filepath.Join(t.TempDir(), "layout")
	blobs := filepath.Join(layout, "blobs", "sha256")
	must(t, os.MkdirAll(blobs, 0o755))
	put := func(b []byte, mediaType types.MediaType) v1.Descriptor {
		hash, err := v1.NewHash(oci.Digest(b))
		must(t, errors.Join(err, os.WriteFile(filepath.Join(blobs, hash.Hex), b, 0o644)))
		return v1.Descriptor{MediaType: mediaType, Size: int64(len(b)), Digest: hash}
	}
	config := v1.ConfigFile{Architecture: "amd64", OS: "linux", RootFS: v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{}}}
	manifest := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Layers: []v1.Descriptor{}}
	for _, l := range layers {
		d := put(l, types.OCIUncompressedLayer)
		manifest.Layers = append(manifest.Layers, d)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, d.Digest)
	}
	manifest.Config = put(encode(t, config), types.OCIConfigJSON)
	index := v1.IndexManifest{SchemaVersion: 2, Manifests: []v1.Descriptor{put(encode(t, manifest), types.OCIManifestSchema1)}}
	index.Manifests[0].Annotations = map[string]string{"org.opencontainers.image.ref.name": "x"}
	must(t, os.WriteFile(filepath.Join(layout, "index.json"), encode(t, index), 0o644))
	must(t, os.WriteFile(filepath.Join(layout, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644))
	return layout
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	must(t, err)
	return b
}

func decode(t testing.TB, path string, v any) {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, errors.Join(err, json.Unmarshal(b, v)))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// knownUmoci is the version that reasons speaks of, and all that Debian has.
const knownUmoci = "0.4.7"

var umociVersion = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("umoci", "--version").Output()
	return strings.TrimSpace(strings.TrimPrefix(string(out), "umoci version ")), err
})

// umoci unpacks the image of a layout into a folder, as root, or says why it does not.
func umoci(t testing.TB, layout string) (root, refused string) {
	t.Helper()
	tool := testneed.Tool(t, "umoci", "umoci")
	if v, err := umociVersion(); err != nil || !strings.HasPrefix(v, knownUmoci) {
		testneed.Missing(t, testneed.Tools, "%s is version %q (%v), and what is known is %s", tool, v, err, knownUmoci)
	}
	root = filepath.Join(t.TempDir(), "root")
	out, err := tryTool(t, "umoci", "umoci", "raw", "unpack", "--image", layout+":x", root)
	if err != nil {
		return "", strings.TrimSpace(out) + ": " + err.Error()
	}
	return root, ""
}
