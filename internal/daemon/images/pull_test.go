package images

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"banger/ext4"
	"banger/internal/base/errs"
	"banger/internal/diskimage"
	"banger/internal/oci"
	"banger/internal/oci/registry"
	"banger/internal/vm"
)

// testRegistry is a registry on loopback that counts what is asked of it.
type testRegistry struct {
	t    *testing.T
	host string

	mu      sync.Mutex
	gets    map[string]int // paths below /v2/ that were read
	disrupt func(w http.ResponseWriter, r *http.Request) bool
}

func newRegistry(t *testing.T) *testRegistry {
	t.Helper()
	r := &testRegistry{t: t, gets: map[string]int{}}
	inner := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		if req.Method == http.MethodGet {
			r.gets[strings.TrimPrefix(req.URL.Path, "/v2/")]++
		}
		disrupt := r.disrupt
		r.mu.Unlock()
		if disrupt == nil || !disrupt(w, req) {
			inner.ServeHTTP(w, req)
		}
	}))
	t.Cleanup(server.Close)
	r.host = strings.TrimPrefix(server.URL, "http://")
	return r
}

// blobGets counts the downloads of layers and configs.
func (r *testRegistry) blobGets() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for path, times := range r.gets {
		if strings.Contains(path, "/blobs/") {
			n += times
		}
	}
	return n
}

func (r *testRegistry) set(f func(w http.ResponseWriter, r *http.Request) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.disrupt = f
}

// push stores an image with those layers and returns its digest.
func (r *testRegistry) push(ref string, config v1.Config, layers ...[]byte) string {
	r.t.Helper()
	img := image(r.t, config, layers...)
	tag, err := name.ParseReference(r.host + "/" + ref)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := remote.Write(tag, img); err != nil {
		r.t.Fatal(err)
	}
	d, err := img.Digest()
	if err != nil {
		r.t.Fatal(err)
	}
	return d.String()
}

func image(t *testing.T, config v1.Config, layers ...[]byte) v1.Image {
	t.Helper()
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: oci.HostPlatform().Architecture, RootFS: v1.RootFS{Type: "layers"}, Config: config})
	for i, data := range layers {
		if err != nil {
			t.Fatal(err)
		}
		layer, layerErr := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil })
		if layerErr != nil {
			t.Fatal(layerErr)
		}
		img, err = mutate.Append(img, mutate.Addendum{Layer: layer, History: v1.History{CreatedBy: fmt.Sprint("step ", i+1)}})
	}
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// tarOf makes a tar of files, name and contents in turn.
func tarOf(t *testing.T, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		if err := w.WriteHeader(&tar.Header{Name: files[i], Size: int64(len(files[i+1])), Mode: 0o644, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, files[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// real starts a service that writes real disks and speaks to real registries.
func real(t *testing.T, change func(*Options)) *Service {
	t.Helper()
	client, err := registry.New(registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	return start(t, newMemory(), func(o *Options) {
		o.FromLayers, o.Registry = diskimage.FromLayers, client
		if change != nil {
			change(o)
		}
	})
}

// files reads the regular files of a base disk.
func files(t *testing.T, path string) map[string]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	im, err := ext4.Open(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := im.ExportTar(&b); err != nil {
		t.Fatal(err)
	}
	return filesOfTar(t, b.Bytes())
}

func filesOfTar(t *testing.T, b []byte) map[string]string {
	t.Helper()
	all := map[string]string{}
	for r := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := r.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimPrefix(h.Name, "./")] = string(data)
	}
}

func TestPull(t *testing.T) {
	r := newRegistry(t)
	base, upper := tarOf(t, "etc/os", "one", "gone", "x"), tarOf(t, "etc/new", "two", ".wh.gone", "")
	digest := r.push("team/app:1", v1.Config{Env: []string{"A=b"}, Entrypoint: []string{"/app"}, Cmd: []string{"-v"}, WorkingDir: "/w", User: "7"}, base, upper)
	s := real(t, nil)
	ref := r.host + "/team/app:1"
	img, err := s.Pull(t.Context(), ref, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if img.Name != ref || img.Origin.Manifest != digest || len(img.Origin.Layers) != 2 || img.Source != r.host+"/team/app@"+digest {
		t.Errorf("got %+v, %+v", img, img.Origin)
	}
	if c := img.Config; c == nil || c.User != "7" || c.WorkingDir != "/w" || !slices.Equal(c.Entrypoint, []string{"/app"}) || !slices.Equal(c.Env, []string{"A=b"}) {
		t.Errorf("config %+v", c)
	}
	if d := cmp.Diff(map[string]string{"etc/os": "one", "etc/new": "two"}, files(t, img.Path)); d != "" {
		t.Error(d)
	}
	if img.Digest != oci.ChainID(img.Origin.Layers[0].DiffID, img.Origin.Layers[1].DiffID) {
		t.Errorf("the disk is named %s", img.Digest)
	}
	// Once more: nothing is downloaded but the config.
	before := r.blobGets()
	if again, err := s.Pull(t.Context(), ref, "", nil); err != nil || again.Digest != img.Digest {
		t.Fatalf("again: %+v, %v", again, err)
	}
	if n := r.blobGets() - before; n > 1 {
		t.Errorf("%d downloads for an image that is here", n)
	}
	// Another image with the same base: one layer.
	r.push("team/other:1", v1.Config{}, base, tarOf(t, "other", "3"))
	before = r.blobGets()
	if _, err := s.Pull(t.Context(), r.host+"/team/other:1", "", nil); err != nil {
		t.Fatal(err)
	}
	if n := r.blobGets() - before; n != 2 {
		t.Errorf("%d downloads, want a layer and a config", n)
	}
	steps, err := s.History(t.Context(), ref)
	if err != nil || len(steps) != 2 || steps[0].CreatedBy != "step 2" || steps[0].Layer != img.Origin.Layers[1] {
		t.Errorf("history %+v, %v", steps, err)
	}
}

// TestRunOfAReferencePulls: what is neither here nor in the catalog is pulled, and
// found again under each form of its name.
func TestRunOfAReferencePulls(t *testing.T) {
	r := newRegistry(t)
	r.push("app:latest", v1.Config{}, tarOf(t, "a", "1"))
	s := real(t, nil)
	img, err := s.Resolve(t.Context(), r.host+"/app", nil)
	if err != nil || img.Name != r.host+"/app:latest" {
		t.Fatalf("%+v, %v", img, err)
	}
	r.set(func(w http.ResponseWriter, req *http.Request) bool {
		if req.URL.Path == "/v2/" { // it still is a registry
			return false
		}
		http.Error(w, "away", http.StatusNotFound)
		return true
	})
	for _, ref := range []string{r.host + "/app", r.host + "/app:latest", img.Origin.Manifest[:20], img.Origin.ConfigDigest} {
		if again, err := s.Resolve(t.Context(), ref, nil); err != nil || again.Digest != img.Digest {
			t.Errorf("%s: %+v, %v", ref, again, err)
		}
	}
	if _, err := s.Resolve(t.Context(), r.host+"/nothing", nil); errs.KindOf(err) != errs.NotFound || !strings.Contains(err.Error(), "nothing") {
		t.Errorf("got %v", err)
	}
}

// TestDamagedBlobIsFetchedAgain: what is stored is verified when it is used.
func TestDamagedBlobIsFetchedAgain(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"flipped": func(path string) error {
			b, err := os.ReadFile(path)
			if err == nil {
				b[len(b)/2] ^= 1
				err = os.WriteFile(path, b, 0o600)
			}
			return err
		},
		"cut": func(path string) error { return os.Truncate(path, 10) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRegistry(t)
			layer := tarOf(t, "a", strings.Repeat("some text ", 5000))
			r.push("app:1", v1.Config{}, layer)
			s := real(t, nil)
			img, err := s.Pull(t.Context(), r.host+"/app:1", "", nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := s.Delete(t.Context(), img.Name); err != nil {
				t.Fatal(err)
			}
			blob, err := filepath.Glob(filepath.Join(s.Dirs.State, "blobs", "sha256", strings.TrimPrefix(img.Origin.Layers[0].Digest, "sha256:")))
			if err != nil || len(blob) != 1 {
				t.Fatal(blob, err)
			}
			if err := os.Chmod(blob[0], 0o600); err != nil {
				t.Fatal(err)
			}
			if err := damage(blob[0]); err != nil {
				t.Fatal(err)
			}
			again, err := s.Pull(t.Context(), img.Name, "", nil)
			if err != nil || again.Digest != img.Digest || files(t, again.Path)["a"] != strings.Repeat("some text ", 5000) {
				t.Errorf("%+v, %v", again, err)
			}
		})
	}
}

// TestPullRefuses: an image that is not what it says leaves nothing.
func TestPullRefuses(t *testing.T) {
	good := tarOf(t, "a", "1")
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	_, _ = w.Write(tarOf(t, "b", "2"))
	_ = w.Close()
	for name, c := range map[string]struct {
		layer   []byte
		disrupt func(http.ResponseWriter, *http.Request) bool
		want    string
	}{
		"a layer of other bytes": {good, func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/blobs/") || r.Method != http.MethodGet {
				return false
			}
			_, _ = w.Write(z.Bytes())
			return true
		}, ""},
		"a path that leads out": {tarOf(t, "../evil", "1"), nil, "../evil"},
		"no tar":                {[]byte("no tar at all, but long enough to be looked at " + strings.Repeat("x", 1024)), nil, "tar"},
		"no such tag": {good, func(w http.ResponseWriter, r *http.Request) bool {
			http.NotFound(w, r)
			return true
		}, "app:1"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRegistry(t)
			r.push("app:1", v1.Config{}, c.layer)
			r.set(c.disrupt)
			s := real(t, nil)
			_, err := s.Pull(t.Context(), r.host+"/app:1", "", nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v", err)
			}
			t.Log(err)
			if all, err := s.List(t.Context()); err != nil || len(all) != 0 {
				t.Errorf("left %+v, %v", all, err)
			}
			wantFiles(t, s)
		})
	}
}

func TestCancelledPullGoesOnLater(t *testing.T) {
	r := newRegistry(t)
	r.push("app:1", v1.Config{}, tarOf(t, "a", "1"), tarOf(t, "b", "2"))
	var held atomic.Int32
	reached := make(chan struct{}, 8)
	r.set(func(w http.ResponseWriter, req *http.Request) bool {
		if !strings.Contains(req.URL.Path, "/blobs/") || held.Add(1) == 1 { // the config passes
			return false
		}
		reached <- struct{}{}
		<-req.Context().Done()
		return true
	})
	s := real(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-reached
		cancel()
	}()
	if _, err := s.Pull(ctx, r.host+"/app:1", "", nil); err != context.Canceled {
		t.Errorf("got %v", err)
	}
	wantFiles(t, s)
	r.set(nil)
	if _, err := s.Pull(t.Context(), r.host+"/app:1", "", nil); err != nil {
		t.Error(err)
	}
}

func TestPins(t *testing.T) {
	r := newRegistry(t)
	first := r.push("app:1", v1.Config{}, tarOf(t, "a", "1"))
	r.push("app:1", v1.Config{}, tarOf(t, "a", "2"))
	pin := ""
	s := real(t, func(o *Options) {
		o.Pin = func(ref oci.Reference) (string, error) {
			if ref.Familiar() == r.host+"/app:1" {
				return pin, nil
			}
			return "", nil
		}
	})
	for _, c := range []struct{ pin, want string }{{"", "2"}, {first, "1"}, {"", "1"}} {
		pin = c.pin
		img, err := s.Resolve(t.Context(), r.host+"/app:1", nil)
		if err != nil || files(t, img.Path)["a"] != c.want {
			t.Errorf("pin %q: %+v, %v", c.pin, img, err)
		}
	}
	pin = "latest"
	if _, err := s.Pull(t.Context(), r.host+"/app:1", "", nil); errs.KindOf(err) != errs.Invalid {
		t.Errorf("a pin that is no digest: %v", err)
	}
}

// TestArchivesGoRound: what is exported can be imported, and is the same image.
func TestArchivesGoRound(t *testing.T) {
	r := newRegistry(t)
	digest := r.push("app:1", v1.Config{Cmd: []string{"/a"}}, tarOf(t, "a", "1", "b", "2"), tarOf(t, ".wh.b", "", "c", "3"))
	s := real(t, nil)
	img, err := s.Pull(t.Context(), r.host+"/app:1", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"a": "1", "c": "3"}
	export := func(name string, form ExportForm) []byte {
		t.Helper()
		var b bytes.Buffer
		if err := s.Export(t.Context(), name, form, &b, nil); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	for _, gone := range []bool{false, true} {
		if gone {
			if _, err := s.Prune(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		}
		archive := export(img.Name, ExportLayers)
		got, err := s.Import(t.Context(), ImportOptions{Source: "file"}, bytes.NewReader(archive), nil)
		if err != nil || got.Name != img.Name || got.Digest != img.Digest || got.Origin.Manifest != digest || !slices.Equal(got.Config.Cmd, []string{"/a"}) {
			t.Errorf("layers (gone: %v): %+v, %v", gone, got, err)
		}
		if img, err = s.Pull(t.Context(), img.Name, "", nil); err != nil {
			t.Fatal(err)
		}
	}
	flat, err := s.Import(t.Context(), ImportOptions{Name: "flat"}, bytes.NewReader(export(img.Name, ExportFlat)), nil)
	if err != nil || len(flat.Origin.Layers) != 1 || !slices.Equal(flat.Config.Cmd, []string{"/a"}) {
		t.Fatalf("flat: %+v, %v", flat, err)
	}
	if d := cmp.Diff(want, files(t, flat.Path)); d != "" {
		t.Error(d)
	}
	root := export(img.Name, ExportRoot)
	if d := cmp.Diff(want, filesOfTar(t, root)); d != "" {
		t.Error(d)
	}
	plain, err := s.Import(t.Context(), ImportOptions{Name: "plain"}, bytes.NewReader(root), nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, files(t, plain.Path)); d != "" {
		t.Error(d)
	}
	// An image that was never an OCI image becomes one.
	one, err := s.Import(t.Context(), ImportOptions{Name: "one"}, bytes.NewReader(export("plain", ExportLayers)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, files(t, one.Path)); d != "" {
		t.Error(d)
	}
	if _, err := s.Import(t.Context(), ImportOptions{}, bytes.NewReader(root), nil); errs.KindOf(err) != errs.Invalid {
		t.Errorf("a root file system without a name: %v", err)
	}
}

func TestTagAndPrune(t *testing.T) {
	r := newRegistry(t)
	r.push("app:1", v1.Config{}, tarOf(t, "a", "1"))
	s := real(t, nil)
	img, err := s.Pull(t.Context(), r.host+"/app:1", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if tagged, err := s.Tag(t.Context(), img.Name, "mine"); err != nil || tagged.Name != "mine" || tagged.Digest != img.Digest {
		t.Errorf("%+v, %v", tagged, err)
	}
	if steps, err := s.History(t.Context(), "mine"); err != nil || len(steps) != 1 {
		t.Errorf("%+v, %v", steps, err)
	}
	if _, err := s.Tag(t.Context(), img.Name, "No Name"); errs.KindOf(err) != errs.Invalid {
		t.Errorf("got %v", err)
	}
	if _, freed, err := s.Delete(t.Context(), img.Name); err != nil || freed != 0 {
		t.Errorf("freed %d, %v", freed, err)
	}
	p, err := s.Prune(t.Context(), nil)
	if err != nil || len(p.Images) != 0 || p.DownloadBytes == 0 {
		t.Errorf("%+v, %v", p, err)
	}
	p, err = s.Prune(t.Context(), func(i vm.Image) bool { return i.Name == "mine" })
	if err != nil || !slices.Equal(p.Images, []string{"mine"}) || p.DiskBytes != img.Bytes {
		t.Errorf("%+v, %v", p, err)
	}
	wantFiles(t, s)
}
