package kernels

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"banger/internal/base/errs"
	"banger/internal/base/progress"
	"banger/internal/vm"
)

const rt61 = "6.1.0-9-rt-amd64"

// series publishes what a real archive has: two series, an old kernel that is still
// there, one that is not for virtual machines.
func series(m *mirror) {
	packages := func(version string, releases ...string) (all []kernelPackage) {
		for _, r := range releases {
			all = append(all, kernelPackage{r, version, kernelDeb(m.t, r)})
		}
		return all
	}
	m.publishAll("bookworm-security", time.Now(), metapackages[0], append(packages("6.12.5-1", release612), packages("6.12.3-1", "6.12.3+deb12-cloud-amd64")...)...)
	m.publishAll("bookworm", time.Now(), metapackages[1], append(packages("6.1.9-1", release61, rt61), packages("6.1.15-1", "6.1.0-15-amd64")...)...)
}

func (m *mirror) fetched(release string) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for file, hits := range m.hits {
		if strings.HasPrefix(file, "linux-image-"+release+"_") {
			n += hits
		}
	}
	return n
}

func TestPullFindsWhatIsMeant(t *testing.T) {
	m := newMirror(t)
	series(m)
	s := newService(t, m)
	for _, test := range []struct{ ref, want string }{
		{"6.1", release61}, // not the newer one, which is not for virtual machines
		{"6.1.0-9", release61},
		{"6.1.0-15", "6.1.0-15-amd64"},
		{rt61, rt61},
		{"linux-image-" + rt61, rt61},
		{"6.12.3", "6.12.3+deb12-cloud-amd64"},
		{"6.12", release612},
		{"", release612},
		{metapackages[1], release61},
	} {
		r, err := s.Pull(t.Context(), test.ref, false, nil)
		if err != nil || r.Kernel.Name != test.want || r.Kernel.Release != test.want {
			t.Errorf("pull %q: %q, %v; want %q", test.ref, r.Kernel.Name, err, test.want)
		}
		if n := m.fetched(test.want); n != 1 {
			t.Errorf("pull %q: fetched %d times", test.ref, n)
		}
	}
	for ref, kind := range map[string]errs.Kind{"6.2": errs.NotFound, "6.1.0-1": errs.NotFound, "linux-image-none": errs.NotFound, "debian": errs.Invalid, "../x": errs.Invalid} {
		if _, err := s.Pull(t.Context(), ref, false, nil); errs.KindOf(err) != kind || errs.HintOf(err) == "" || !strings.Contains(err.Error(), ref) {
			t.Errorf("pull %q: %v (%s)", ref, err, errs.KindOf(err))
		}
	}
	if l := left(t, s, release61, release612, rt61, "6.1.0-15-amd64", "6.12.3+deb12-cloud-amd64"); len(l) > 0 {
		t.Errorf("left behind: %q", l)
	}
}

// TestManyWordsMakeOneKernel: they come at the same time.
func TestManyWordsMakeOneKernel(t *testing.T) {
	m := newMirror(t)
	series(m)
	s := newService(t, m)
	var wg sync.WaitGroup
	for _, ref := range []string{"", "6.12", "6.12.5", release612, metapackages[0], "linux-image-" + release612} {
		wg.Go(func() {
			if r, err := s.Pull(t.Context(), ref, false, nil); err != nil || r.Kernel.Name != release612 {
				t.Errorf("pull %q: %q, %v", ref, r.Kernel.Name, err)
			}
		})
	}
	wg.Wait()
	if n := m.fetched(release612); n != 1 {
		t.Errorf("fetched the package %d times", n)
	}
	if l := left(t, s, release612); len(l) > 0 {
		t.Errorf("left behind: %q", l)
	}
}

func TestPullSaysWhatIsNew(t *testing.T) {
	m := newMirror(t)
	old := kernelPackage{"6.12.3+deb12-cloud-amd64", "6.12.3-1", kernelDeb(t, "6.12.3+deb12-cloud-amd64")}
	m.publishAll("bookworm-security", time.Now(), metapackages[0], old)
	s := newService(t, m)
	first, err := s.Pull(t.Context(), "", false, nil)
	check(t, err)
	if first.Already || first.Before != "" {
		t.Errorf("the first: %+v", first)
	}
	if again, err := s.Pull(t.Context(), "", false, nil); err != nil || !again.Already || again.Kernel.Name != old.release {
		t.Errorf("again: %+v, %v", again, err)
	}
	m.publishAll("bookworm-security", time.Now().Add(time.Hour), metapackages[0], kernelPackage{release612, "6.12.5-1", kernelDeb(t, release612)}, old)
	second, err := s.Pull(t.Context(), "", false, nil)
	if err != nil || second.Already || second.Before != old.release || second.Kernel.Name != release612 {
		t.Errorf("a newer one: %+v, %v", second, err)
	}
	// An older one on request does not become the default.
	_, err = s.Pull(t.Context(), "6.12.3", false, nil)
	check(t, err)
	if name, err := s.DefaultName(t.Context()); err != nil || name != release612 {
		t.Errorf("the default is %q, %v", name, err)
	}
	k, err := s.Default(t.Context(), nil)
	if err != nil || k.Name != release612 {
		t.Errorf("Default: %q, %v", k.Name, err)
	}
	o := k.Origin
	if o.Kind != vm.OriginDebian || o.Package != "linux-image-"+release612 || o.Suite != "bookworm-security" || o.IndexDate.IsZero() || len(o.Key) != 40 ||
		!strings.HasPrefix(o.FileDigest, "sha256:") || !strings.HasSuffix(o.URL, ".deb") {
		t.Errorf("origin %+v", o)
	}
}

// TestPullKeepsAKernelInUse: Debian may put another kernel into a package of the same
// release. VMs keep theirs.
func TestPullKeepsAKernelInUse(t *testing.T) {
	m := newMirror(t)
	m.publish("bookworm-security", metapackages[0], release612)
	s := newService(t, m)
	first, err := s.Pull(t.Context(), "", false, nil)
	check(t, err)
	before, err := os.ReadFile(first.Kernel.ModulesDisk)
	check(t, err)
	m.publishAll("bookworm-security", time.Now(), metapackages[0], kernelPackage{release612, "2", kernelDeb(t, release612, "another")})
	second, err := s.Pull(t.Context(), "", false, nil)
	if err != nil || second.Kernel.Name != release612+"_2" || second.Kernel.Release != release612 || second.Before != release612 {
		t.Fatalf("%+v, %v", second, err)
	}
	if again, err := s.Pull(t.Context(), "", false, nil); err != nil || !again.Already || again.Kernel.Name != second.Kernel.Name {
		t.Errorf("again: %+v, %v", again, err)
	}
	if after, err := os.ReadFile(first.Kernel.ModulesDisk); err != nil || string(after) != string(before) {
		t.Errorf("the first kernel has changed: %v", err)
	}
	if k, err := s.Default(t.Context(), nil); err != nil || k.Name != release612+"_2" {
		t.Errorf("the default is %q, %v", k.Name, err)
	}
}

func TestAnOlderIndexIsRefused(t *testing.T) {
	m := newMirror(t)
	newer := time.Date(2026, 7, 11, 10, 0, 0, 0, time.UTC)
	m.publishAll("bookworm", newer, metapackages[1], kernelPackage{release61, "6.1.9-1", kernelDeb(t, release61)})
	s := newService(t, m)
	_, err := s.Pull(t.Context(), "", false, nil)
	check(t, err)
	// A replay in another process, with another cache.
	check(t, os.RemoveAll(s.o.Dirs.Downloads()))
	s = New(s.o)
	m.publishAll("bookworm", newer.Add(-time.Second), metapackages[1], kernelPackage{"6.1.0-8-cloud-amd64", "6.1.8-1", kernelDeb(t, "6.1.0-8-cloud-amd64")})
	for name, do := range map[string]func() error{
		"pull":    func() error { _, err := s.Pull(t.Context(), "6.1", false, nil); return err },
		"catalog": func() error { _, _, err := s.Catalog(t.Context(), false, false, nil); return err },
	} {
		if err := do(); errs.KindOf(err) != errs.Unavailable || !strings.Contains(err.Error(), "older than the newest that was seen") || !strings.Contains(errs.HintOf(err), "--allow-older") {
			t.Errorf("%s: %v, hint %q", name, err, errs.HintOf(err))
		}
	}
	if n := m.fetched("6.1.0-8-cloud-amd64"); n != 0 {
		t.Errorf("fetched a package of an old index %d times", n)
	}
	r, err := s.Pull(t.Context(), "6.1", true, nil)
	if err != nil || r.Kernel.Name != "6.1.0-8-cloud-amd64" {
		t.Errorf("when it is wanted: %+v, %v", r, err)
	}
}

func TestCatalog(t *testing.T) {
	m := newMirror(t)
	series(m)
	s := newService(t, m)
	_, err := s.Pull(t.Context(), "6.1", false, nil)
	check(t, err)
	list, from, err := s.Catalog(t.Context(), false, false, nil)
	check(t, err)
	if from != filepath.Join(m.root, "etc/apt") {
		t.Errorf("from %q", from)
	}
	var got []string
	for _, c := range list {
		got = append(got, fmt.Sprintf("%s %s %s %t %s", c.Release, c.Version, c.Suite, c.Default, c.Here))
		if c.FetchBytes == 0 || !strings.HasSuffix(c.Mirror, "/debian") || c.Package != "linux-image-"+c.Release {
			t.Errorf("%+v", c)
		}
	}
	want := []string{release612 + " 6.12.5-1 bookworm-security true ", "6.12.3+deb12-cloud-amd64 6.12.3-1 bookworm-security false ", release61 + " 6.1.9-1 bookworm false " + release61}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if all, _, err := s.Catalog(t.Context(), true, false, nil); err != nil || len(all) != 5 {
		t.Errorf("all: %d, %v", len(all), err)
	}
}

// TestOwnSources: what banger is configured with comes before apt.
func TestOwnSources(t *testing.T) {
	m := newMirror(t)
	m.publish("bookworm", metapackages[1], release61)
	apt, err := os.ReadFile(filepath.Join(m.root, "etc/apt/sources.list"))
	check(t, err)
	check(t, os.RemoveAll(filepath.Join(m.root, "etc")))
	config := t.TempDir()
	s := newService(t, m, func(o *Options) { o.Dirs.Config = config })
	if _, err := s.Default(t.Context(), nil); errs.KindOf(err) != errs.Unavailable || !strings.Contains(errs.HintOf(err), "debian.sources") {
		t.Errorf("without any: %v, hint %q", err, errs.HintOf(err))
	}
	for text, ok := range map[string]bool{
		"Types: deb\nURIs: " + strings.Fields(string(apt))[1] + "\nSuites: bookworm\nComponents: main\n": true, "": false, "Types: deb\n": false,
	} {
		check(t, os.WriteFile(s.o.Dirs.DebianSources(), []byte(text), 0o600))
		_, from, err := s.Catalog(t.Context(), false, false, nil)
		if (err == nil) != ok || from != s.o.Dirs.DebianSources() || err != nil && (errs.KindOf(err) != errs.Invalid || errs.HintOf(err) == "") {
			t.Errorf("%q: from %q, %v", text, from, err)
		}
	}
}

func TestResolve(t *testing.T) {
	m := newMirror(t)
	series(m)
	s := newService(t, m)
	k, err := s.Resolve(t.Context(), "6.1", nil) // fetched on its first use
	if err != nil || k.Name != release61 {
		t.Fatalf("%q, %v", k.Name, err)
	}
	hits := m.hits["InRelease"]
	for _, ref := range []string{"6.1", release61, "linux-image-" + release61, "6.1.0-9"} {
		if k, err := s.Resolve(t.Context(), ref, nil); err != nil || k.Name != release61 {
			t.Errorf("%q: %q, %v", ref, k.Name, err)
		}
	}
	if m.hits["InRelease"] != hits {
		t.Error("asked the mirror for what is on disk")
	}
	for ref, kind := range map[string]errs.Kind{"mine": errs.NotFound, "6.2": errs.NotFound} {
		if _, err := s.Resolve(t.Context(), ref, nil); errs.KindOf(err) != kind || errs.HintOf(err) == "" {
			t.Errorf("%q: %v", ref, err)
		}
	}
	check(t, os.RemoveAll(filepath.Dir(k.Path)))
	if k, err = s.Resolve(t.Context(), release61, nil); err != nil || onDisk(k) != nil {
		t.Errorf("a kernel whose files have gone: %v", err)
	}
}

// files serves files by name.
func files(t *testing.T, content map[string][]byte) (url string, hits *atomic.Int32) {
	t.Helper()
	hits = &atomic.Int32{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hits.Add(1)
		if data, ok := content[filepath.Base(r.URL.Path)]; ok {
			_, _ = w.Write(data)
			return
		}
		http.NotFound(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL, hits
}

func TestPullURL(t *testing.T) {
	const release = "6.6.1-mine"
	image, modules := bzImage(vmlinux(release)), modulesTar(t, "lib/modules/"+release, release)
	url, hits := files(t, map[string][]byte{"vmlinuz": image, "modules.tar": modules})
	s := newService(t, newMirror(t))
	r := URLRequest{
		Name: "mine", URL: url + "/vmlinuz", Digest: digestText(sum(image)), ModulesURL: url + "/modules.tar", ModulesDigest: digestText(sum(modules)), Config: []byte(goodConfig()),
	}
	var phases []string
	got, err := s.PullURL(t.Context(), r, func(p progress.Report) { phases = append(phases, p.Detail) })
	check(t, err)
	k := got.Kernel
	if k.Name != "mine" || k.Release != release || k.Format != "bzImage" || k.ImageDigest != r.Digest || k.Modules != 4 || k.Origin.Kind != vm.OriginURL ||
		k.Origin.FileDigest != r.Digest || k.Origin.URL != r.URL || k.Origin.ModulesURL != r.ModulesURL || k.Source != r.URL {
		t.Errorf("made %+v", k)
	}
	if !strings.Contains(strings.Join(phases, "\n"), "fetching vmlinuz") || hits.Load() != 2 {
		t.Errorf("%d requests, phases %q", hits.Load(), phases)
	}
	if again, err := s.PullURL(t.Context(), r, nil); err != nil || !again.Already || hits.Load() != 2 {
		t.Errorf("again: %+v, %v, %d requests", again, err, hits.Load())
	}
	if l := left(t, s, "mine"); len(l) > 0 {
		t.Errorf("left behind: %q", l)
	}
	for name, test := range map[string]struct {
		change func(*URLRequest)
		kind   errs.Kind
		text   string
	}{
		"other content, same name": {func(r *URLRequest) { r.Digest = r.ModulesDigest }, errs.Exists, `"mine"`},
		"no digest":                {func(r *URLRequest) { r.Digest = "" }, errs.Invalid, "digest is missing"},
		"no modules digest":        {func(r *URLRequest) { r.ModulesDigest = "" }, errs.Invalid, "digest is missing"},
		"no modules URL":           {func(r *URLRequest) { r.ModulesURL = "" }, errs.Invalid, "neither http"},
		"bad digest":               {func(r *URLRequest) { r.Digest = "sha1:00" }, errs.Invalid, "sha1:00"},
		"bad URL":                  {func(r *URLRequest) { r.URL = "/tmp/x" }, errs.Invalid, "/tmp/x"},
		"bad name":                 {func(r *URLRequest) { r.Name = "../x" }, errs.Invalid, "../x"},
		"wrong digest":             {func(r *URLRequest) { r.Name, r.Digest = "x", digestText(sum(nil)) }, errs.Unavailable, "not the file"},
		"nothing there":            {func(r *URLRequest) { r.Name, r.URL = "x", url+"/none" }, errs.NotFound, "/none"},
		"no kernel":                {func(r *URLRequest) { r.Name, r.URL, r.Digest = "x", r.ModulesURL, r.ModulesDigest }, errs.Invalid, "neither a bzImage nor an ELF"},
		"a large configuration":    {func(r *URLRequest) { r.Name, r.Config = "x", make([]byte, maxConfig+1) }, errs.Invalid, "larger than"},
	} {
		bad := r
		test.change(&bad)
		if _, err := s.PullURL(t.Context(), bad, nil); errs.KindOf(err) != test.kind || !strings.Contains(err.Error(), test.text) || name != "a large configuration" && name != "nothing there" && errs.HintOf(err) == "" {
			t.Errorf("%s: %v (%s, hint %q)", name, err, errs.KindOf(err), errs.HintOf(err))
		}
	}
}
