package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/base/kvm"
)

func TestRunChecksEverythingOnce(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	t.Setenv("XDG_STATE_HOME", "")
	t.Setenv("XDG_CACHE_HOME", "")
	names := map[string]bool{}
	for _, c := range Run(t.Context()) {
		t.Logf("%-4s %s: %s (%s)", c.Status, c.Name, c.Detail, c.Fix)
		if names[c.Name] {
			t.Errorf("%s is checked twice", c.Name)
		}
		names[c.Name] = true
		if c.Detail == "" || c.Status == OK && c.Fix != "" {
			t.Errorf("%+v: no detail, or a fix for what is well", c)
		}
		if c.Status != OK && c.Status != Warn && c.Status != Fail {
			t.Errorf("%s has the status %q", c.Name, c.Status)
		}
	}
	for _, want := range []string{"qemu", "kvm", "mmdebstrap", "debian mirror", "debian keyring", "disk space", "runtime folder"} {
		if !names[want] {
			t.Errorf("%s is not checked", want)
		}
	}
}

func TestAMissingToolHasItsPackage(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	c := tool("thing", "no-such-program", "thing-package", "does things")
	if c.Status != Fail || !strings.Contains(c.Fix, "apt-get install -y thing-package") || !strings.Contains(c.Detail, "does things") {
		t.Errorf("%+v", c)
	}
}

func TestEveryFailureOfKVMHasAFix(t *testing.T) {
	if c := onKVM(nil); c.Status != OK {
		t.Errorf("usable: %+v", c)
	}
	for _, err := range []error{os.ErrNotExist, os.ErrPermission, kvm.ErrNoHardware} {
		if c := onKVM(err); c.Status != Warn || c.Fix == "" || !strings.Contains(c.Detail, "emulation") {
			t.Errorf("%v: %+v", err, c)
		}
	}
	if c := onKVM(os.ErrClosed); c.Status != Warn || !strings.Contains(c.Detail, os.ErrClosed.Error()) {
		t.Errorf("another failure: %+v", c)
	}
}

func TestHasRange(t *testing.T) {
	file := filepath.Join(t.TempDir(), "subuid")
	if err := os.WriteFile(file, []byte("# none\nalice:100000:65536\nbroken\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if !hasRange(file, "alice") || hasRange(file, "bob") || hasRange(file, "broken") || hasRange(file+"-", "alice") {
		t.Error("hasRange is wrong")
	}
}

func TestMirror(t *testing.T) {
	for name, c := range map[string]struct {
		file, text string
		want       Status
	}{
		"one-line":    {"sources.list", "# deb http://no.example.com/debian sid main\ndeb [arch=amd64 signed-by=/k] http://example.com/debian bookworm main\n", OK},
		"deb822":      {"sources.list.d/debian.sources", "Types: deb\nURIs:\n http://example.com/debian/\n# note\nSuites: bookworm bookworm-updates\nComponents: main\n", OK},
		"mirror file": {"sources.list.d/debian.sources", "Types: deb\nURIs: mirror+file:/etc/apt/mirrors/debian.list\nSuites: trixie\n", OK},
		"disabled":    {"sources.list.d/debian.sources", "Types: deb\nEnabled: no\nURIs: http://example.com/debian\nSuites: bookworm\n", Fail},
		"source only": {"sources.list", "deb-src http://example.com/debian bookworm main\n", Fail},
		"security":    {"sources.list", "deb http://example.com/debian-security bookworm-security main\n", Fail},
		"vendor":      {"sources.list", "deb https://example.com/node nodistro main\n", Fail},
		"other name":  {"sources.list.d/old.disabled", "deb http://example.com/debian bookworm main\n", Fail},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, c.file)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			got := mirror(dir)
			if got.Status != c.want || got.Status == Fail && got.Fix == "" {
				t.Errorf("%+v, want %s", got, c.want)
			}
		})
	}
}

func FuzzSources(f *testing.F) {
	f.Add("deb [a=b] http://example.com/debian bookworm main")
	f.Add("Types: deb\nURIs: http://example.com/debian\n\tfile:/debian\nSuites: sid\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, find := range []func(string) (string, bool){debianInList, debianInSources} {
			if uri, ok := find(text); ok && !strings.Contains(uri, ":/") || !ok && uri != "" {
				t.Errorf("%q: %q, %t", text, uri, ok)
			}
		}
	})
}
