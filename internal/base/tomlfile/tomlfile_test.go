package tomlfile_test

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/base/errs"
	"banger/internal/base/tomlfile"
)

type document struct {
	Image struct {
		Default *string           `toml:"default"`
		Pins    map[string]string `toml:"pins"`
	} `toml:"image"`
	Registry []struct {
		Host     string   `toml:"host"`
		Mirrors  []string `toml:"mirrors"`
		Insecure bool     `toml:"insecure"`
	} `toml:"registry"`
	Sources []struct {
		OCI    string `toml:"oci"`
		Debian struct {
			Suite    string   `toml:"suite"`
			Packages []string `toml:"packages"`
		} `toml:"debian"`
	} `toml:"sources"`
	Entries map[string]struct {
		Text string `toml:"text"`
	} `toml:"entries"`
}

const good = `# comment
sources = [
  { oci = "a" },
  # another
  { debian = { suite = "trixie", packages = [
    "one",
    "two" ] } },
]
[image]
default = "x"
pins."alpine:3.20" = "sha256:y"

[[registry]]
host = "one"
[[registry]]
host = "two"
mirrors = ["m1",
  "m2"]

[entries.first]
[entries."second one"]
text = ""
`

func TestWhere(t *testing.T) {
	var d document
	f, err := tomlfile.Decode("/f", []byte(good), &d)
	if err != nil {
		t.Fatal(err)
	}
	if d.Image.Default == nil || *d.Image.Default != "x" || d.Registry[1].Mirrors[1] != "m2" {
		t.Errorf("got %+v", d)
	}
	for key, want := range map[string]string{
		"image": "9", "image default": "10", "image pins alpine:3.20": "11", "registry": "13", "registry 0 host": "14", "registry 1": "15", "registry 1 host": "16",
		"registry 1 mirrors": "17", "registry 1 mirrors 0": "17", "registry 1 mirrors 1": "18", "sources": "2", "sources 0": "3", "sources 0 oci": "3",
		"sources 1": "5", "sources 1 debian suite": "5", "sources 1 debian packages 1": "7", "entries first": "20", "entries second-one text": "22",
	} {
		parts := strings.Fields(key)
		for i := range parts {
			parts[i] = strings.ReplaceAll(parts[i], "second-one", "second one")
		}
		if got := f.Where(parts...); got != "/f:"+want {
			t.Errorf("%s is at %q, want line %s", key, got, want)
		}
	}
	if got := f.Where("registry", "2"); got != "" {
		t.Errorf("what is not there is at %q", got)
	}
	err = f.At(errors.New("boom"), "registry", "1", "insecure")
	if want := "/f:15: registry.1.insecure: boom"; err.Error() != want || errs.KindOf(err) != errs.Invalid {
		t.Errorf("got %q, want %q", err, want)
	}
	var none *tomlfile.File
	if none.Where("image") != "" {
		t.Error("no file has a key")
	}
}

func TestErrors(t *testing.T) {
	for text, want := range map[string]string{
		"[image]\ndefautl = 'x'\n":                    `/f:2: there is no key "image.defautl" (write image.default)`,
		"\n[imgae]\nfoo = 1\n":                        `/f:2: there is no key "imgae" (write image)`,
		"[[registry]]\nhosst = 'x'\n":                 `/f:2: there is no key "registry.0.hosst" (write registry.0.host)`,
		"[[registri]]\nx = 1\n":                       `/f:1: there is no key "registri" (write registry)`,
		"entries.a.texxt = 'x'\n":                     `/f:1: there is no key "entries.a.texxt" (write entries.a.text)`,
		"sources = [{},\n{ debian = { suit = 'x' }}]": `/f:2: there is no key "sources.1.debian.suit" (write sources.1.debian.suite)`,
		"[nothing-like-it]\n":                         `/f:1: there is no key "nothing-like-it" ()`,
		"[image]\ndefault = 3\n":                      `/f:2: image.default: it is an integer, and must be a string ()`,
		"image = 3\n":                                 `/f:1: image: it is an integer, and must be a table ()`,
		"[[registry]]\nmirrors = 'x'\n":               `/f:2: registry.mirrors: it is a string, and must be an array ()`,
		"[[registry]]\ninsecure = 'x'\n":              `/f:2: registry.insecure: it is a string, and must be true or false ()`,
		"[image.default]\n":                           `/f:1: image.default: it is a table, and must be a string ()`,
		"[image.pins]\n\"a:1\" = 3\n":                 `/f:2: image.pins."a:1": it is an integer, and must be a string ()`,
		"[image]\ndefault='a'\ndefault='b'":           `/f:3: default: key default is already defined ()`,
		"a = \n":                                      ``,
		"[image":                                      `/f:1: expected ']' to close table name ()`,
		"\xff":                                        ``,
	} {
		var d document
		_, err := tomlfile.Decode("/f", []byte(text), &d)
		if err == nil || errs.KindOf(err) != errs.Invalid {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if got := err.Error() + " (" + errs.HintOf(err) + ")"; want != "" && got != want {
			t.Errorf("%q:\n got %s\nwant %s", text, got, want)
		}
	}
}

func TestRead(t *testing.T) {
	var d document
	if _, err := tomlfile.Read(filepath.Join(t.TempDir(), "none"), &d); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := tomlfile.Read("/dev/zero", &d); errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("a file without end: %v", err)
	}
}

// FuzzDecode: every text is decoded or refused, and where keys are is found.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{good, "a.b.c = [[1, {x = 2}], []]", "[[a]]\n[[a.b]]\n[a.b.c]\nd=1", "[image]\r\ndefault='x'", "a = [\n\n]"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var d document
		if file, err := tomlfile.Decode("/f", data, &d); err == nil && d.Image.Default != nil && file.Where("image", "default") == "" {
			t.Errorf("%q has image.default, and it is nowhere", data)
		} else if err != nil && errs.KindOf(err) != errs.Invalid {
			t.Errorf("%q: %v", data, err)
		}
		var free map[string]any
		_, _ = tomlfile.Decode("/f", data, &free) // whatever shape it has
	})
}

// TestLargeFiles ends at all: what takes time for each pair of keys, or a stack for
// each bracket, does not.
func TestLargeFiles(t *testing.T) {
	for _, text := range []string{
		"a=" + strings.Repeat("[", 1<<14), "a=" + strings.Repeat("{a=", 1<<14), strings.Repeat("a.", 1<<14) + "a=1",
		strings.Repeat("[[a]]\n", 1<<13), "a=[" + strings.Repeat("1,\n", 1<<14) + "]",
	} {
		var free map[string]any
		if _, err := tomlfile.Decode("/f", []byte(text), &free); err != nil && len(err.Error()) > 200 {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}
