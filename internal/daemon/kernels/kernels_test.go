package kernels

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"banger/internal/base/errs"
	"banger/internal/base/paths"
	"banger/internal/base/progress"
)

// saveTar is a FromTar whose disk is the tar itself.
func saveTar(_ context.Context, path string, r io.Reader) (int64, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(f, r)
	return n, errors.Join(err, f.Close())
}

// newService returns a service on m with folders of its own.
func newService(t *testing.T, m *mirror, change ...func(*Options)) *Service {
	t.Helper()
	dir := t.TempDir()
	o := Options{
		Dirs:  paths.Dirs{State: dir + "/state", Cache: dir + "/cache", Runtime: dir + "/run"},
		Store: &memoryStore{}, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		AptRoot: m.root, Keyring: m.keyring, FromTar: saveTar,
	}
	for _, c := range change {
		c(&o)
	}
	s := New(o)
	s.agent = func() ([]byte, error) { return []byte("agent"), nil }
	t.Cleanup(func() { check(t, s.Close()) })
	return s
}

// left lists all files below the service's folders, but kernels and indexes.
func left(t *testing.T, s *Service, but ...string) []string {
	t.Helper()
	var all []string
	for _, dir := range []string{s.o.Dirs.Kernels(), s.o.Dirs.Downloads(), s.o.Dirs.Initramfs()} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		for _, e := range entries {
			if !slices.Contains(but, e.Name()) && !strings.HasSuffix(e.Name(), ".Packages.xz") {
				all = append(all, e.Name())
			}
		}
	}
	return all
}

func TestDefaultMakesAKernel(t *testing.T) {
	m := newMirror(t)
	m.publish("bookworm-security", metapackages[0], release612)
	s := newService(t, m)
	var phases []string
	k, err := s.Default(t.Context(), func(r progress.Report) { phases = append(phases, r.Detail) })
	check(t, err)
	if k.Release != release612 || k.Version != "1" || !strings.HasSuffix(k.Source, "/debian bookworm-security") || k.Bytes == 0 {
		t.Errorf("made %+v", k)
	}
	if got, _ := os.ReadFile(k.Path); !bytes.Equal(got, vmlinux(release612)) {
		t.Errorf("the ELF has %d bytes, want %d", len(got), len(vmlinux(release612)))
	}
	if !slices.Contains(phases, "fetching linux-image-"+release612) {
		t.Errorf("the phases are %q", phases)
	}
	kept, err := os.ReadDir(k.ModulesDir)
	check(t, err)
	var names []string
	for _, e := range kept {
		names = append(names, e.Name())
	}
	if want := []string{"failover.ko", "modules.builtin", "overlay.ko", "virtio_net.ko"}; !slices.Equal(names, want) {
		t.Errorf("kept %q, want %q", names, want)
	}
	disk := readTar(t, k.ModulesDisk)
	for name, text := range map[string]string{
		"kernel/fs/rare.ko": string(module("depends=")), "modules.builtin": "kernel/fs/ext4/ext4.ko\n",
		"modules.dep": "kernel/fs/overlay.ko:\nkernel/fs/rare.ko:\nkernel/net/failover.ko:\nkernel/net/virtio_net.ko: kernel/net/failover.ko\n",
	} {
		if disk[name] != text {
			t.Errorf("the modules disk has %s = %q, want %q", name, disk[name], text)
		}
	}
	if _, ok := disk["modules.dep.bin"]; !ok {
		t.Error("the modules disk has no modules.dep.bin")
	}
	if l := left(t, s, release612); len(l) > 0 {
		t.Errorf("left behind: %q", l)
	}

	// From now on no mirror is needed, in another process either.
	m.serve = func(http.ResponseWriter, string, []byte) bool { t.Error("asked the mirror again"); return false }
	again := New(s.o)
	if k2, err := again.Default(t.Context(), nil); err != nil || !reflect.DeepEqual(k2, k) {
		t.Errorf("the second time: %+v, %v", k2, err)
	}
	if k2, err := again.Get(t.Context(), release612); err != nil || !reflect.DeepEqual(k2, k) {
		t.Errorf("Get: %+v, %v", k2, err)
	}
	if _, err := again.Get(t.Context(), "1.0"); errs.KindOf(err) != errs.NotFound {
		t.Errorf("Get of an unknown release: %v", err)
	}
}

func readTar(t *testing.T, path string) map[string]string {
	t.Helper()
	f, err := os.Open(path)
	check(t, err)
	defer f.Close() //nolint:errcheck // a test's
	files := map[string]string{}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		check(t, err)
		data, err := io.ReadAll(r)
		check(t, err)
		files[h.Name] = string(data)
	}
}

func TestDefaultChoosesThePackage(t *testing.T) {
	type suite struct{ name, meta, release string }
	for name, test := range map[string]struct {
		suites []suite
		want   string
	}{
		"6.12 of any suite before 6.1": {[]suite{{"bookworm-security", metapackages[1], release61}, {"bookworm", metapackages[0], release612}}, release612},
		"6.1 where there is no 6.12":   {[]suite{{"bookworm", metapackages[1], release61}}, release61},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMirror(t)
			for _, s := range test.suites {
				m.publish(s.name, s.meta, s.release)
			}
			k, err := newService(t, m).Default(t.Context(), nil)
			if err != nil || k.Release != test.want {
				t.Errorf("made %q, %v; want %q", k.Release, err, test.want)
			}
		})
	}
}

func TestDefaultFailsAndLeavesNothing(t *testing.T) {
	const inRelease = "/debian/dists/bookworm-security/InRelease"
	for name, test := range map[string]struct {
		spoil   func(*mirror)
		message string
	}{
		"no sources":         {func(m *mirror) { check(m.t, os.Remove(filepath.Join(m.root, "etc/apt/sources.list"))) }, "names no mirror of Debian"},
		"no keyring":         {func(m *mirror) { m.keyring += ".gone" }, "cannot read Debian's keys"},
		"no suite":           {func(m *mirror) { m.files = nil }, "cannot find Debian's cloud kernel"},
		"other key":          {func(m *mirror) { m.key = newKey(m.t); m.publish("bookworm-security", metapackages[0], release612) }, "no key of Debian has signed it"},
		"no signature":       {func(m *mirror) { m.files[inRelease] = []byte("Codename: bookworm-security\n") }, "it is not signed"},
		"tampered InRelease": {func(m *mirror) { m.flip("InRelease") }, "cannot trust"},
		"other suite": {func(m *mirror) {
			m.publish("trixie", metapackages[0], release612)
			m.files[inRelease] = m.files["/debian/dists/trixie/InRelease"]
		}, `it is of suite "trixie"`},
		"expired": {func(m *mirror) {
			m.files[inRelease] = sign(m.t, m.key, "Codename: bookworm-security\nValid-Until: Sat,  1 Jan 2022 00:00:00 UTC\n")
		}, "it has expired"},
		"tampered Packages": {func(m *mirror) { m.flip("Packages.xz") }, "Packages.xz"},
		"tampered package":  {func(m *mirror) { m.flip(".deb") }, "it is not the file that Debian has signed"},
		"truncated package": {func(m *mirror) {
			m.serve = func(w http.ResponseWriter, path string, data []byte) bool {
				if strings.HasSuffix(path, ".deb") {
					data = data[:len(data)/2]
					w.Header().Set("Content-Length", "999999")
				}
				_, _ = w.Write(data)
				return true
			}
		}, "unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMirror(t)
			m.publish("bookworm-security", metapackages[0], release612)
			test.spoil(m)
			s := newService(t, m)
			_, err := s.Default(t.Context(), nil)
			if errs.KindOf(err) != errs.Unavailable || !strings.Contains(err.Error(), test.message) || errs.HintOf(err) == "" {
				t.Errorf("err = %v (%s, hint %q), want %q", err, errs.KindOf(err), errs.HintOf(err), test.message)
			}
			if l := left(t, s); len(l) > 0 {
				t.Errorf("left behind: %q", l)
			}
			if all, _ := s.List(t.Context()); len(all) > 0 {
				t.Errorf("recorded %v", all)
			}
		})
	}
}

func TestDefaultKeepsThePackageOfABuildThatFailed(t *testing.T) {
	m := newMirror(t)
	m.publish("bookworm-security", metapackages[0], release612)
	boom := errors.New("boom")
	fail := true
	s := newService(t, m, func(o *Options) {
		o.FromTar = func(ctx context.Context, path string, r io.Reader) (int64, error) {
			if fail {
				return 0, boom // without reading the tar
			}
			return saveTar(ctx, path, r)
		}
	})
	if _, err := s.Default(t.Context(), nil); !errors.Is(err, boom) {
		t.Fatalf("err = %v, want boom", err)
	}
	if l := left(t, s); len(l) != 1 || !strings.HasSuffix(l[0], ".deb") {
		t.Errorf("left behind: %q, want the package alone", l)
	}
	fail = false
	_, err := s.Default(t.Context(), nil)
	check(t, err)
	if n := m.hits["linux-image-"+release612+"_1_amd64.deb"]; n != 1 {
		t.Errorf("fetched the package %d times", n)
	}
}

func TestManyCallersShareABuild(t *testing.T) {
	m := newMirror(t)
	m.publish("bookworm-security", metapackages[0], release612)
	s := newService(t, m)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if k, err := s.Default(t.Context(), func(progress.Report) {}); err != nil || k.Release != release612 {
				t.Errorf("%+v, %v", k, err)
			}
		})
	}
	wg.Wait()
	if n := m.hits["linux-image-"+release612+"_1_amd64.deb"]; n != 1 {
		t.Errorf("fetched the package %d times", n)
	}
}

func TestTheLastCallerToLeaveCancelsTheBuild(t *testing.T) {
	m := newMirror(t)
	m.publish("bookworm-security", metapackages[0], release612)
	ctx, cancel := context.WithCancel(t.Context())
	s := newService(t, m, func(o *Options) {
		o.FromTar = func(build context.Context, path string, r io.Reader) (int64, error) {
			check(t, os.WriteFile(path, []byte("half"), 0o600))
			cancel()
			<-build.Done()
			return 0, build.Err()
		}
	})
	if _, err := s.Default(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v, want canceled", err)
	}
	if l := left(t, s); len(l) != 1 || !strings.HasSuffix(l[0], ".deb") {
		t.Errorf("left behind: %q, want the package alone", l)
	}
}

func TestNewRemovesWhatAKilledDaemonLeft(t *testing.T) {
	m := newMirror(t)
	m.publish("bookworm-security", metapackages[0], release612)
	s := newService(t, m)
	for _, dir := range []string{s.o.Dirs.Kernels() + "/.staging-1/tree", s.o.Dirs.Kernels() + "/.staging-1-old", s.o.Dirs.Downloads(), s.o.Dirs.Initramfs()} {
		check(t, os.MkdirAll(dir, 0o700))
	}
	for _, file := range []string{s.o.Dirs.Kernels() + "/.staging-1/vmlinux", s.o.Dirs.Downloads() + "/.a.deb.1.tmp", s.o.Dirs.Initramfs() + "/.b.2.tmp"} {
		check(t, os.WriteFile(file, []byte("half"), 0o600))
	}
	// It was killed between the rename and the record, too.
	unrecorded := filepath.Join(s.o.Dirs.Kernels(), release612)
	check(t, os.MkdirAll(filepath.Join(unrecorded, "modules"), 0o700))
	s = New(s.o)
	if l := left(t, s, release612); len(l) > 0 {
		t.Errorf("left behind: %q", l)
	}
	k, err := s.Default(t.Context(), nil)
	check(t, err)
	if err := onDisk(k); err != nil {
		t.Error(err)
	}
	if l := left(t, s, release612); len(l) > 0 {
		t.Errorf("left behind: %q", l)
	}
}

func TestDefaultMakesAKernelAgainThatWasRemoved(t *testing.T) {
	m := newMirror(t)
	m.publish("bookworm-security", metapackages[0], release612)
	s := newService(t, m)
	k, err := s.Default(t.Context(), nil)
	check(t, err)
	check(t, os.RemoveAll(filepath.Dir(k.Path)))
	if _, err := s.Get(t.Context(), k.Release); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("Get: err = %v", err)
	}
	k, err = s.Default(t.Context(), nil)
	check(t, err)
	check(t, onDisk(k))
}
