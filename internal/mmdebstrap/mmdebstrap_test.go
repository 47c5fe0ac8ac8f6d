package mmdebstrap

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"banger/internal/base/errs"
	"banger/internal/base/progress"
	"banger/internal/base/testneed"
)

// fake puts a mmdebstrap of our own before the real one, and returns options.
func fake(t *testing.T, script string) Options {
	t.Helper()
	testneed.Tool(t, "apt-config", "apt")
	testneed.Tool(t, "unshare", "util-linux")
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "mmdebstrap"), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	old := searchPath
	searchPath = bin + ":" + old
	t.Cleanup(func() { searchPath = old })
	return Options{
		Suite: "bookworm", Include: []string{"a", "b"}, Tmp: t.TempDir(),
		Sources: []Source{{URI: "http://mirror.example.com/debian", Suites: []string{"bookworm"}, Components: []string{"main"}}},
	}
}

func wantEmpty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestBuildStreams(t *testing.T) {
	o := fake(t, `
echo "I: using $TMPDIR/x as tempdir..." >&2
echo "I: downloading packages with apt..." >&2
echo scrap > "$TMPDIR/scrap" || exit 1
printf '# made of\nindex\tbookworm\tSat, 21 Nov 2026 09:15:44 UTC\npackage\ta\t1.0\tamd64\tbookworm\n' > "$BANGER_RECORD"
cat
for a; do case $a in --customize-hook=*) ;; *) printf "<%s>" "$a";; esac; done
`)
	var steps []string
	o.Progress = func(r progress.Report) { steps = append(steps, r.Detail) }
	o.Keyring = []byte("keys")
	var out bytes.Buffer
	made, err := Build(t.Context(), o, &out)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(made, Record{
		[]Index{{"bookworm", time.Date(2026, 11, 21, 9, 15, 44, 0, time.UTC)}}, []Package{{"a", "1.0", "amd64", "bookworm"}},
	}); d != "" {
		t.Error(d)
	}
	got := out.String()
	for _, want := range []string{
		"/keys.gpg] http://mirror.example.com/debian bookworm main\n", "<--variant=minbase>", "<--format=tar>", "<--include=a,b>", "<--><bookworm><-><->",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in %q", want, got)
		}
	}
	if !slices.Equal(steps, []string{"downloading packages with apt"}) {
		t.Errorf("steps %q", steps)
	}
	wantEmpty(t, o.Tmp)
}

func TestBuildFails(t *testing.T) {
	t.Run("its own error", func(t *testing.T) {
		o := fake(t, "echo 'E: no luck' >&2; exit 3")
		_, err := Build(t.Context(), o, io.Discard)
		if errs.KindOf(err) != errs.Unavailable || !strings.Contains(err.Error(), ": no luck") {
			t.Errorf("got %v", err)
		}
		wantEmpty(t, o.Tmp)
	})
	t.Run("full disk", func(t *testing.T) {
		o := fake(t, "printf 'dpkg: error: No space left on device' >&2; exit 1")
		if _, err := Build(t.Context(), o, io.Discard); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a package", func(t *testing.T) {
		o := fake(t, "echo 'E: Unable to locate package b' >&2; exit 1")
		if _, err := Build(t.Context(), o, io.Discard); errs.KindOf(err) != errs.NotFound || err.Error() != "there is no package b" {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no record", func(t *testing.T) {
		o := fake(t, "exit 0")
		if _, err := Build(t.Context(), o, io.Discard); errs.KindOf(err) != errs.Internal {
			t.Errorf("got %v", err)
		}
		wantEmpty(t, o.Tmp)
	})
	t.Run("writer", func(t *testing.T) {
		o := fake(t, "exec cat /dev/zero")
		broken := errors.New("broken")
		if _, err := Build(t.Context(), o, writerFunc(func([]byte) (int, error) { return 0, broken })); !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
		wantEmpty(t, o.Tmp)
	})
	t.Run("no archive", func(t *testing.T) {
		o := fake(t, "")
		o.Sources = nil
		if _, err := Build(t.Context(), o, io.Discard); errs.KindOf(err) != errs.Unavailable || errs.HintOf(err) == "" {
			t.Errorf("got %v", err)
		}
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// needNamespaces: root is to have them, a user only with subordinate ids.
func needNamespaces(t *testing.T) {
	t.Helper()
	w, err := findWay(t.Context())
	switch {
	case err == nil && w.unshare != nil:
	case os.Getuid() == 0:
		testneed.Missing(t, testneed.Host, "root gets no namespaces here: %v", err)
	default:
		t.Skip("this user has no subordinate ids: ", err)
	}
}

func TestCancelLeavesNothing(t *testing.T) {
	o := fake(t, `
setsid sh -c 'echo $$; while :; do : > "$TMPDIR/$(date +%N)"; done' &
wait
`)
	needNamespaces(t)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Build(ctx, o, writerFunc(func(b []byte) (int, error) {
		cancel() // the background process runs
		return len(b), nil
	}))
	if !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v", err)
	}
	wantEmpty(t, o.Tmp)
}

// TestMain also plays a daemon that is killed in the middle of a build.
func TestMain(m *testing.M) {
	if dir := os.Getenv("BANGER_TEST_DOOMED"); dir != "" {
		searchPath = dir + ":" + searchPath
		_, err := Build(context.Background(), Options{
			Suite: "bookworm", Tmp: dir,
			Sources: []Source{{URI: "http://mirror.example.com/debian", Suites: []string{"bookworm"}, Components: []string{"main"}}},
		}, os.Stdout)
		panic(err)
	}
	os.Exit(m.Run())
}

func TestBuildDiesWithUs(t *testing.T) {
	fake(t, "")
	needNamespaces(t)
	dir := t.TempDir()
	// The pipe on descriptor 1 stays open as long as any process of the build lives.
	script := "#!/bin/sh\nsetsid sh -c 'echo up; while :; do sleep 1; done' &\nwait\n"
	if err := os.WriteFile(filepath.Join(dir, "mmdebstrap"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "BANGER_TEST_DOOMED="+dir)
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	if _, err := io.ReadFull(r, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if err := r.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("a process of the build lives on: %v", err)
	}
}

func TestRemoveAllTakesOtherUsersFiles(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root needs no other way to remove files: an ordinary user runs this")
	}
	needNamespaces(t)
	dir := filepath.Join(t.TempDir(), "d")
	args := append(append([]string{"unshare"}, asRoot...), "sh", "-ec", `mkdir -p "$0/a" && touch "$0/a/f" && chown -R 42:42 "$0/a" && chmod 700 "$0/a"`, dir)
	if err := try(t.Context(), args...); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err == nil {
		t.Error("an ordinary removal is enough")
	}
	if err := RemoveAll(t.Context(), dir); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}

func TestSourcesList(t *testing.T) {
	good := Source{URI: "https://mirror.example.com/debian", Suites: []string{"bookworm", "bookworm-updates"}, Components: []string{"main", "contrib"}, SignedBy: "/usr/share/keyrings/x.gpg"}
	got, err := sourcesList([]Source{good})
	want := "deb [signed-by=/usr/share/keyrings/x.gpg] https://mirror.example.com/debian bookworm main contrib\n" +
		"deb [signed-by=/usr/share/keyrings/x.gpg] https://mirror.example.com/debian bookworm-updates main contrib\n"
	if err != nil || got != want {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := sourcesList([]Source{{URI: "http://a.example.com", Suites: []string{"sid"}, Components: []string{"main"}, IgnoreExpiry: true}}); err != nil ||
		got != "deb [check-valid-until=no] http://a.example.com sid main\n" {
		t.Errorf("a snapshot: %q, %v", got, err)
	}
	for name, spoil := range map[string]func(*Source){
		"newline in the address": func(s *Source) { s.URI += "\ndeb http://evil.example.com x main" },
		"option as the address":  func(s *Source) { s.URI = "[trusted=yes] http://evil.example.com" },
		"no scheme":              func(s *Source) { s.URI = "mirror" },
		"space in the suite":     func(s *Source) { s.Suites = []string{"a b"} },
		"empty component":        func(s *Source) { s.Components = []string{""} },
		"key instead of a path":  func(s *Source) { s.SignedBy = "-----BEGIN PGP PUBLIC KEY BLOCK-----" },
		"option in the keyring":  func(s *Source) { s.SignedBy = "/x trusted=yes" },
	} {
		s := good
		spoil(&s)
		if got, err := sourcesList([]Source{s}); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestProxies(t *testing.T) {
	dump := `APT "";
Acquire::http "";
Acquire::http::Proxy "http://proxy.example.com:3142";
Acquire::http::Proxy::mirror.example.com "DIRECT";
Acquire::https::Proxy "";
Acquire::http::Pipeline-Depth "0";
Acquire::http::Proxy-Auto-Detect "/usr/bin/detect";
Dir::Log "x; Acquire::http::Proxy "y";
`
	want := []string{
		`Acquire::http::Proxy "http://proxy.example.com:3142"`,
		`Acquire::http::Proxy::mirror.example.com "DIRECT"`,
		`Acquire::http::Proxy-Auto-Detect "/usr/bin/detect"`,
	}
	if got := proxies([]byte(dump)); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

// TestOwnProxies take the place of the host's whole.
func TestOwnProxies(t *testing.T) {
	o := fake(t, `printf '' > "$BANGER_RECORD"; echo "[$http_proxy] [$https_proxy] [$no_proxy]"; for a; do case $a in --aptopt=*) echo "$a";; esac; done`)
	t.Setenv("https_proxy", "http://other.example.com:1")
	o.Proxies = &Proxies{HTTP: "http://proxy.example.com:3128", No: "example.org"}
	var out bytes.Buffer
	if _, err := Build(t.Context(), o, &out); err != nil || out.String() != "[http://proxy.example.com:3128] [] [example.org]\n" {
		t.Errorf("%q, %v", &out, err)
	}
	o.Proxies = nil
	out.Reset()
	if _, err := Build(t.Context(), o, &out); err != nil || !strings.Contains(out.String(), "[http://other.example.com:1]") {
		t.Errorf("%q, %v", &out, err)
	}
}

func FuzzMessages(f *testing.F) {
	f.Add([]byte("I: a step...\nE: bad\n"), 3)
	f.Add(bytes.Repeat([]byte("x"), 3*maxLine), 100)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		m := &messages{}
		cut = min(max(cut, 0), len(b))
		for _, part := range [][]byte{b[:cut], b[cut:]} {
			if n, err := m.Write(part); n != len(part) || err != nil {
				t.Fatalf("Write = %d, %v", n, err)
			}
		}
		if tail := m.tail(); len(tail) > maxTail*(maxLine+2) {
			t.Errorf("a tail of %d bytes", len(tail))
		}
	})
}

// TestBuildForReal builds an image from the host's own mirror, and needs
// minutes and a network.
func TestBuildForReal(t *testing.T) {
	testneed.Asked(t, testneed.Mirror)
	targets, err := exec.Command("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages").Output()
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Suite: "bookworm", Include: []string{"systemd", "systemd-sysv", "sudo", "git"}, Tmp: t.TempDir()}
	for line := range strings.Lines(string(targets)) {
		if f := strings.Fields(line); len(f) == 3 && strings.HasPrefix(f[1], o.Suite) && strings.Contains(f[0], "debian") {
			o.Sources = append(o.Sources, Source{URI: f[0], Suites: f[1:2], Components: f[2:3], SignedBy: "/usr/share/keyrings/debian-archive-keyring.gpg"})
		}
	}
	var steps []string
	o.Progress = func(r progress.Report) { steps = append(steps, r.Detail) }
	pr, pw := io.Pipe()
	built, made := make(chan error, 1), Record{}
	start := time.Now()
	go func() {
		var err error
		made, err = Build(t.Context(), o, pw)
		_ = pw.CloseWithError(err)
		built <- err
	}()
	var in io.Reader = pr
	if path := os.Getenv("BANGER_TEST_TAR"); path != "" {
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		in = io.TeeReader(pr, f)
	}
	names := map[string]*tar.Header{}
	tr := tar.NewReader(in)
	for {
		h, err := tr.Next()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				t.Error(err)
			}
			break
		}
		names[strings.Trim(h.Name, "./")] = h
	}
	n, _ := io.Copy(io.Discard, in)
	if err := <-built; err != nil {
		t.Fatal(err)
	}
	t.Logf("%d entries in %s, %d bytes of padding; steps %q", len(names), time.Since(start).Round(time.Second), n, steps)
	for _, want := range []string{"usr/bin/git", "usr/lib/systemd/systemd", "etc/systemd/system/systemd-firstboot.service", "dev/null", "etc/.updated", strings.TrimPrefix(RecordPath, "/")} {
		if names[want] == nil {
			t.Errorf("no %s", want)
		}
	}
	if len(made.Indexes) == 0 || time.Since(made.Indexes[0].Date) > 365*24*time.Hour {
		t.Errorf("indexes %v", made.Indexes)
	}
	i := slices.IndexFunc(made.Packages, func(p Package) bool { return p.Name == "git" })
	if i < 0 || made.Packages[i].Version == "" || made.Packages[i].Architecture != "amd64" || !strings.HasPrefix(made.Packages[i].Suite, o.Suite) {
		t.Errorf("git is not among %v", made.Packages)
	}
	for _, bad := range []string{"etc/resolv.conf", "etc/hostname", "etc/apt/apt.conf.d/99mmdebstrap"} {
		if names[bad] != nil {
			t.Errorf("%s is in the image", bad)
		}
	}
	if h := names["usr/bin/sudo"]; h == nil || h.Uid != 0 || h.Mode&0o4000 == 0 {
		t.Errorf("sudo: %+v", h)
	}
	if h := names["etc/shadow"]; h == nil || h.Gid != 42 {
		t.Errorf("shadow: %+v", h)
	}
	wantEmpty(t, o.Tmp)
}

func FuzzRecord(f *testing.F) {
	f.Add("# x\nindex\ta\tSat, 21 Nov 2026 09:15:44 UTC\npackage\ta\t1\tall\ta\n")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parseRecord(strings.NewReader(text))
		if err == nil && len(r.Indexes)+len(r.Packages) > strings.Count(text, "\n")+1 {
			t.Errorf("%q has %+v", text, r)
		}
	})
}
