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
	const list, deb822, own = "etc/apt/sources.list", "etc/apt/sources.list.d/debian.sources", "own/debian.sources"
	type files map[string]string
	for name, c := range map[string]struct {
		files files
		want  Status
		// detail and fix are parts of what is said.
		detail, fix string
	}{
		"one-line":    {files{list: "# deb http://no.example.com/debian sid main\ndeb [arch=amd64 signed-by=/k/debian-archive-k.gpg] http://example.com/debian bookworm main\n"}, OK, "http://example.com/debian, from", ""},
		"deb822":      {files{deb822: "Types: deb\nURIs:\n http://example.com/debian/\n# note\nSuites: bookworm bookworm-updates\nComponents: main\n"}, OK, "http://example.com/debian, from", ""},
		"by suite":    {files{list: "deb http://example.com/mirrors/debian-all bookworm main\n"}, OK, "debian-all", ""},
		"mirror file": {files{deb822: "Types: deb\nURIs: mirror+file:/etc/apt/mirrors\nSuites: trixie\nComponents: main\n", "etc/apt/mirrors": "http://one.example.com/debian\n"}, OK, "http://one.example.com/debian", ""},
		"password":    {files{list: "deb http://me:secret@example.com/debian bookworm main\n"}, OK, "example.com/debian", ""},
		"disabled":    {files{deb822: "Types: deb\nEnabled: no\nURIs: http://example.com/debian\nSuites: bookworm\nComponents: main\n"}, Fail, "etc/apt names no", "sources.list.d"},
		"source only": {files{list: "deb-src http://example.com/debian bookworm main\n"}, Fail, "names no", "sources.list.d"},
		"security":    {files{list: "deb http://example.com/debian-security bookworm-security main\n"}, Fail, "names no", "sources.list.d"},
		"vendor":      {files{list: "deb https://example.com/node nodistro main\n"}, Fail, "names no", "sources.list.d"},
		"other name":  {files{"etc/apt/sources.list.d/old.disabled": "deb http://example.com/debian bookworm main\n"}, Fail, "names no", "sources.list.d"},
		"nothing":     {files{}, Fail, "names no", "sources.list.d"},

		"ours alone": {files{own: "Types: deb\nURIs: http://ours.example.com/debian\nSuites: bookworm\nComponents: main\n"}, OK, "ours.example.com/debian, from", ""},
		"ours first": {files{
			list: "deb http://example.com/debian bookworm main\n",
			own:  "Types: deb\nURIs: http://ours.example.com/debian\nSuites: bookworm\nComponents: main\n",
		}, OK, "ours.example.com/debian, from", ""},
		"ours of something else": {files{
			list: "deb http://example.com/debian bookworm main\n",
			own:  "Types: deb\nURIs: http://ours.example.com/node\nSuites: nodistro\nComponents: main\n",
		}, Fail, "own/debian.sources names no", "remove the file"},
		"ours is broken": {files{list: "deb http://example.com/debian bookworm main\n", own: "URIs\n"}, Fail, "own/debian.sources", "remove the file"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for file, text := range c.files {
				path := filepath.Join(root, file)
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got := mirror(filepath.Join(root, own), root)
			if got.Status != c.want || !strings.Contains(got.Detail, c.detail) || !strings.Contains(got.Fix, c.fix) || (got.Fix == "") != (c.want == OK) ||
				strings.Contains(got.Detail, "secret") {
				t.Errorf("%+v, want %s", got, c.want)
			}
		})
	}
}
