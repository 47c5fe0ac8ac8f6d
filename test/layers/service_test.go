package layers_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"banger/internal/base/errs"
	"banger/internal/base/paths"
	"banger/internal/base/undo"
	"banger/internal/blobs"
	"banger/internal/daemon/images"
	"banger/internal/daemon/statedb"
	"banger/internal/diskimage"
	"banger/internal/oci"
	"banger/internal/oci/registry"
	"banger/internal/oci/unpack"
)

// newService returns the images service as the daemon has it, in a folder of its own.
func newService(t testing.TB) *images.Service {
	t.Helper()
	s, end, err := openService(t.Context(), t.TempDir(), nil)
	must(t, err)
	t.Cleanup(func() {
		if err := end(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// openService starts the images service in the folder root, as the daemon does, with what
// change changes of it. The caller calls end.
func openService(ctx context.Context, root string, change func(*images.Options)) (s *images.Service, end func() error, err error) {
	var cleanup undo.Stack
	defer func() {
		if err != nil {
			err = errors.Join(err, cleanup.Run())
		}
	}()
	db, err := statedb.Open(ctx, filepath.Join(root, "db"))
	if err != nil {
		return nil, nil, err
	}
	cleanup.Add(db.Close)
	client, err := registry.New(registry.Options{})
	if err != nil {
		return nil, nil, err
	}
	cleanup.Add(client.Close)
	o := images.Options{
		Dirs: paths.Dirs{State: root, Cache: root, Runtime: root, Config: root}, Store: db, Log: slog.New(slog.DiscardHandler),
		FromLayers: diskimage.FromLayers, Registry: client, Catalog: func() ([]images.Entry, error) { return nil, nil },
	}
	if change != nil {
		change(&o)
	}
	if o.Blobs, err = blobs.Open(filepath.Join(root, "blobs"), blobs.Options{Log: o.Log}); err != nil {
		return nil, nil, err
	}
	cleanup.Add(o.Blobs.Close)
	if s, err = images.New(ctx, o); err != nil {
		return nil, nil, err
	}
	cleanup.Add(s.Close)
	return s, cleanup.Run, nil
}

// serve is a registry on loopback with the image of a layout as "x:1". It returns the
// reference.
func serve(t testing.TB, layout string) string {
	t.Helper()
	var index v1.IndexManifest
	decode(t, filepath.Join(layout, "index.json"), &index)
	manifest := index.Manifests[0].Digest.String()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		what, digest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/x/"), "/")
		if what == "manifests" {
			w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
			w.Header().Set("Docker-Content-Digest", manifest)
			digest = manifest
		}
		if f, err := os.Open(filepath.Join(layout, "blobs", "sha256", strings.TrimPrefix(digest, "sha256:"))); err == nil && r.URL.Path != "/v2/" {
			defer f.Close()
			http.ServeContent(w, r, "", time.Time{}, f)
		} else if r.URL.Path != "/v2/" {
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://") + "/x:1"
}

// TestEvilImages pulls images that are refused, each for one reason. No image is left of
// them, and no part of a disk.
func TestEvilImages(t *testing.T) {
	good := archive(t, dir("d"), file("d/a", noise(5000, 1)))
	other := archive(t, file("d/b", "2"))
	short := packed(t, unpack.Gzip, good)
	for name, c := range map[string]struct {
		layers  [][]byte
		diffIDs []string // of the config; nil is the right ones
		says    string
	}{
		"a way out":           {[][]byte{good, archive(t, file("a/../../b", ""))}, nil, `entry "a/../../b"`},
		"a hard link out":     {[][]byte{good, archive(t, hard("d/c", "../d/a"))}, nil, `entry "d/c"`},
		"links in a loop":     {[][]byte{archive(t, symlink("a", "b"), symlink("b", "a")), archive(t, file("a/x", ""))}, nil, `entry "a/x"`},
		"a hole of an EiB":    {[][]byte{archive(t, verbatim("evil", paxSparse("1.0", "evil", 1<<60, []piece{{0, 512}}, make([]byte, 512))))}, nil, `entry "evil"`},
		"another layer":       {[][]byte{good, other}, []string{oci.Digest(good), oci.Digest(good)}, oci.Digest(good)},
		"layers exchanged":    {[][]byte{good, other}, []string{oci.Digest(other), oci.Digest(good)}, oci.Digest(good)},
		"a layer more":        {[][]byte{good, other}, []string{oci.Digest(good)}, "layers"},
		"a layer less":        {[][]byte{good}, []string{oci.Digest(good), oci.Digest(other)}, "layers"},
		"a layer cut short":   {[][]byte{short[:len(short)-20]}, []string{oci.Digest(good)}, "decompress"},
		"a tar cut short":     {[][]byte{good[:len(good)-4000]}, nil, "cut short"},
		"something behind it": {[][]byte{append(short[:len(short):len(short)], "more"...)}, []string{oci.Digest(good)}, "decompress"},
		"no tar":              {[][]byte{[]byte(noise(9000, 1))}, nil, "tar"},
	} {
		t.Run(name, func(t *testing.T) {
			layout := writeLayout(t, c.layers...)
			if c.diffIDs != nil {
				changeDiffIDs(t, layout, c.diffIDs)
			}
			s := newService(t)
			_, err := s.Pull(t.Context(), serve(t, layout), "", nil)
			if errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v (%v), want %q", err, errs.KindOf(err), c.says)
			}
			nothingLeft(t, s)
		})
	}
}

// nothingLeft checks that there is no image, and no file that would become one.
func nothingLeft(t testing.TB, s *images.Service) {
	t.Helper()
	if all, err := s.List(t.Context()); err != nil || len(all) > 0 {
		t.Errorf("there are %v, %v", all, err)
	}
	must(t, filepath.WalkDir(s.Dirs.Images(), func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			t.Errorf("there still is %s", path)
		}
		return err
	}))
}

// changeDiffIDs gives the image of a layout a config with other diff ids.
func changeDiffIDs(t testing.TB, layout string, diffIDs []string) {
	t.Helper()
	blob := func(h v1.Hash) string { return filepath.Join(layout, "blobs", h.Algorithm, h.Hex) }
	put := func(v any) (v1.Hash, int64) {
		b := encode(t, v)
		h, err := v1.NewHash(oci.Digest(b))
		must(t, errors.Join(err, os.WriteFile(blob(h), b, 0o600)))
		return h, int64(len(b))
	}
	var index v1.IndexManifest
	var manifest v1.Manifest
	var config v1.ConfigFile
	decode(t, filepath.Join(layout, "index.json"), &index)
	m := &index.Manifests[0]
	decode(t, blob(m.Digest), &manifest)
	decode(t, blob(manifest.Config.Digest), &config)
	config.RootFS.DiffIDs = nil
	for _, d := range diffIDs {
		h, err := v1.NewHash(d)
		must(t, err)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, h)
	}
	manifest.Config.Digest, manifest.Config.Size = put(config)
	m.Digest, m.Size = put(manifest)
	must(t, os.WriteFile(filepath.Join(layout, "index.json"), encode(t, index), 0o600))
}

// TestPulledImagesAndImportedOnes: an image by a registry, the same out of an archive,
// and the disk of its layers alone are one disk. umoci has made it: its archives have
// no end.
func TestPulledImagesAndImportedOnes(t *testing.T) {
	layout := inserted(t)
	plain, diffIDs := readLayout(t, layout)
	want, err := diskOf(t, plain, diffIDs, 1<<30)
	must(t, err)
	s := newService(t)
	pulled, err := s.Pull(t.Context(), serve(t, layout), "", nil)
	must(t, err)
	if readFile(t, pulled.Path) != readFile(t, want) {
		t.Error("what was pulled is another disk")
	}
	s = newService(t)
	imported, err := s.Import(t.Context(), images.ImportOptions{Name: "x"}, tarOf(t, layout), nil)
	must(t, err)
	if imported.Digest != pulled.Digest || readFile(t, imported.Path) != readFile(t, want) {
		t.Errorf("what was imported is another disk: %s, %s", imported.Digest, pulled.Digest)
	}
}

// TestImportOfLayersOfAllLengths has layers that end anywhere in the pieces in which they
// are read.
func TestImportOfLayersOfAllLengths(t *testing.T) {
	var layers [][]byte
	var diffIDs []string
	for i := range 24 {
		l := archive(t, file(fmt.Sprint(i), noise(500*i, i)))
		layers, diffIDs = append(layers, packed(t, formats[i%2], l)), append(diffIDs, oci.Digest(l))
	}
	layout := writeLayout(t, layers...)
	changeDiffIDs(t, layout, diffIDs)
	img, err := newService(t).Import(t.Context(), images.ImportOptions{Name: "x"}, tarOf(t, layout), nil)
	must(t, err)
	if all, err := openDisk(t, img.Path).ReadDir("."); err != nil || len(all) != len(layers)+1 {
		t.Errorf("%d files, %v", len(all), err)
	}
}

// tarOf is a folder as a tar.
func tarOf(t testing.TB, folder string) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	must(t, errors.Join(w.AddFS(os.DirFS(folder)), w.Close()))
	return &b
}
