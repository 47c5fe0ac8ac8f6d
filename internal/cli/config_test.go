package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/base/paths"
)

// newConfig gives the test a home with a folder for the configuration.
func newConfig(t *testing.T) paths.Dirs {
	t.Helper()
	t.Setenv("XDG_CONFIG_HOME", "")
	dirs := newHome(t)
	if err := os.MkdirAll(dirs.Config, 0o700); err != nil {
		t.Fatal(err)
	}
	return dirs
}

func putFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestConfigShow(t *testing.T) {
	dirs := newConfig(t)
	if r := banger(t, "config", "path"); r.out != dirs.ConfigFile()+"\n" || r.code != 0 {
		t.Errorf("path: %+v", r)
	}
	if r := banger(t, "config", "show"); r.code != 0 || !strings.Contains(r.out, "image.default") || !strings.Contains(r.out, " default") {
		t.Errorf("without a file: %+v", r)
	}
	putFile(t, dirs.ConfigFile(), "[image]\ncache_max = \"1GiB\"\n")
	putFile(t, dirs.DebianSources(), "Types: deb\nURIs: http://user:secret@m.example.com/debian\nSuites: trixie\nComponents: main\n")
	var got configJSON
	r := banger(t, "config", "show", "--json")
	if err := json.Unmarshal([]byte(r.out), &got); err != nil || r.code != 0 {
		t.Fatalf("%v: %+v", err, r)
	}
	for _, v := range got.Values {
		if from := map[bool]string{true: dirs.ConfigFile() + ":2", false: "default"}[v.Key == "image.cache_max"]; v.From != from {
			t.Errorf("%+v, want from %s", v, from)
		}
	}
	if len(got.Mirrors) != 1 || got.Mirrors[0] != "http://user:xxxxx@m.example.com/debian trixie" || got.MirrorsFrom != dirs.DebianSources() || got.Catalog != nil {
		t.Errorf("got %+v", got)
	}
	putFile(t, dirs.ConfigFile(), "[image]\ncache = \"1GiB\"\n")
	if r := banger(t, "config", "show"); r.code != 121 || !strings.Contains(r.errOut, `:2: there is no key "image.cache"`) {
		t.Errorf("broken: %+v", r)
	}
}

func TestConfigCheck(t *testing.T) {
	dirs := newConfig(t)
	if r := banger(t, "config", "check"); r.code != 0 || strings.Count(r.out, ": there is none\n") != 3 {
		t.Errorf("no files: %+v", r)
	}
	putFile(t, dirs.ConfigFile(), "[network]\nregistry_ca_file = '/no/such/file'\n")
	putFile(t, dirs.ImageCatalog(), "[image.x]\n")
	r := banger(t, "config", "check")
	if r.code != 121 || strings.Count(r.errOut, "banger: ") != 2 || !strings.Contains(r.errOut, "/no/such/file") || !strings.Contains(r.errOut, dirs.ImageCatalog()+":1: image.x.sources: ") {
		t.Errorf("both are broken: %+v", r)
	}
	putFile(t, dirs.ConfigFile(), "[image]\ndefault = 'x'\n")
	putFile(t, dirs.ImageCatalog(), "[image.x]\nsources = [{ oci = 'alpine' }]\n")
	if r := banger(t, "config", "check"); r.code != 0 || strings.Count(r.out, ": good\n") != 2 {
		t.Errorf("both are mended: %+v", r)
	}
	other := filepath.Join(t.TempDir(), "images.toml")
	if r := banger(t, "config", "check", other); r.code != 122 {
		t.Errorf("a file that is not there: %+v", r)
	}
	putFile(t, other, "[image]\ndefault = 'x'\n")
	if r := banger(t, "config", "check", other); r.code != 121 || !strings.Contains(r.errOut, "image.default") {
		t.Errorf("a configuration is no catalog: %+v", r)
	}
}
