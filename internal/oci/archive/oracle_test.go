package archive_test

import (
	"bufio"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/registry"

	"banger/internal/base/testneed"
	"banger/internal/oci"
	"banger/internal/oci/archive"
	"banger/internal/oci/registry"
)

// run runs a program that has a folder to itself.
func run(t *testing.T, dir, program, pkg string, args ...string) {
	t.Helper()
	cmd := exec.Command(testneed.Tool(t, program, pkg), args...)
	cmd.Dir, cmd.Env = dir, []string{"HOME=" + dir, "TMPDIR=" + dir, "XDG_RUNTIME_DIR=" + dir, "PATH=" + os.Getenv("PATH")}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
}

// readFile reads an archive that must look like one.
func readFile(t *testing.T, path string, k *keeper) ([]*archive.Image, error) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // it is only read
	r := bufio.NewReaderSize(f, archive.SniffSize)
	if kind, err := archive.Sniff(t.Context(), r); kind != archive.ImageArchive || err != nil {
		t.Errorf("%s is an %s, %v", path, kind, err)
	}
	return archive.Read(t.Context(), r, opts, k.put)
}

func diffIDs(i *oci.Image) []string {
	var ids []string
	for _, l := range i.Layers {
		ids = append(ids, l.DiffID)
	}
	return ids
}

// skopeo reads archives with the code of Podman and of others.
func TestSkopeo(t *testing.T) {
	testneed.Tool(t, "skopeo", "skopeo")
	dir, k := t.TempDir(), newKeeper()
	img := newImage(t, k, amd64, "hello")
	if err := os.WriteFile(filepath.Join(dir, "ours.tar"), write(t, k, img, "alpine:3.20", "ghcr.io/a/b:c"), 0o600); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))))
	defer srv.Close()
	remote := strings.TrimPrefix(srv.URL, "http://") + "/a/b:c"
	copyTo := func(from, to string, more ...string) {
		t.Helper()
		run(t, dir, "skopeo", "skopeo", append([]string{"--insecure-policy", "copy", "--quiet", from, to}, more...)...)
	}
	check := func(what string, images []*archive.Image, err error, name string) *archive.Image {
		t.Helper()
		if err != nil || len(images) != 1 {
			t.Fatalf("%s: %v, %v", what, images, err)
		}
		got := images[0]
		// On the way from Docker's form to OCI's, skopeo writes configs anew.
		if !slices.Equal(diffIDs(got.Image), diffIDs(img)) || !slices.Equal(got.Config.Config.Env, img.Config.Config.Env) || !slices.Equal(got.Names, []string{name}) {
			t.Errorf("%s: %q %s", what, got.Names, got.RawConfig)
		}
		return got
	}
	kept := newKeeper()
	for _, from := range []string{"oci-archive:ours.tar:c", "docker-archive:ours.tar:ghcr.io/a/b:c"} {
		kind, _, _ := strings.Cut(from, ":")
		copyTo(from, "oci:"+kind+":new")
		images, err := archive.ReadLayout(t.Context(), os.DirFS(filepath.Join(dir, kind)), opts, kept.put)
		got := check(from, images, err, "new")
		same(t, kept, got, got.Image)

		copyTo(from, "oci-archive:"+kind+".tar:x/y:new")
		images, err = readFile(t, filepath.Join(dir, kind+".tar"), kept)
		check(from+" to oci-archive", images, err, "docker.io/x/y:new")

		copyTo(from, "docker-archive:"+kind+".docker:x/y:new")
		images, err = readFile(t, filepath.Join(dir, kind+".docker"), kept)
		got = check(from+" to docker-archive", images, err, "docker.io/x/y:new")
		same(t, kept, got, got.Image)

		copyTo(from, "docker://"+remote, "--dest-tls-verify=false")
		client, err := registry.New(registry.Options{Keychain: registry.UserKeychain(nil)})
		if err != nil {
			t.Fatal(err)
		}
		pulled, err := client.Resolve(t.Context(), refs(t, remote)[0], amd64)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(diffIDs(pulled), diffIDs(img)) {
			t.Errorf("%s through a registry: %s", from, pulled.RawConfig)
		}
		for _, l := range pulled.Layers {
			r, _, err := l.Source(t.Context(), 0)
			if err != nil {
				t.Fatal(err)
			}
			if digest, _, err := kept.put(t.Context(), r, l.Size); err != nil || digest != l.Digest {
				t.Errorf("%s: the layer %s is %s, %v", from, l.Digest, digest, err)
			}
			_ = r.Close()
		}
		_ = client.Close()
	}
}

// umoci holds a layout to the specification, and unpacks what is in it.
func TestUmoci(t *testing.T) {
	testneed.Tool(t, "umoci", "umoci")
	dir, k := t.TempDir(), newKeeper()
	for _, m := range members(t, write(t, k, newImage(t, k, amd64, "hello"), "x:y")) {
		path := filepath.Join(dir, "layout", m.name)
		if strings.HasSuffix(m.name, "/") {
			path = filepath.Join(path, ".keep")
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(m.name, "/") {
			if err := os.WriteFile(path, m.content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	run(t, dir, "umoci", "umoci", "unpack", "--rootless", "--image", "layout:y", "bundle")
	for name, want := range map[string]string{"etc/issue": "base", "etc/motd": "hello"} {
		if got, err := os.ReadFile(filepath.Join(dir, "bundle/rootfs", name)); string(got) != want || err != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}
