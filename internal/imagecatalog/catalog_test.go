package imagecatalog

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"banger/internal/base/errs"
)

func TestEmbedded(t *testing.T) {
	var names []string
	for _, e := range Embedded() {
		names = append(names, e.Name)
		if e.Description == "" || e.Sources[0].Debian == nil {
			t.Errorf("%s: %+v", e.Name, e)
		}
	}
	want := "debian-bookworm debian-bookworm-dev debian-bookworm-docker debian-trixie debian-trixie-dev debian-trixie-docker"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("got %s", got)
	}
}

func TestUsersFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "images.toml")
	if all, err := Read(path); err != nil || len(all) != len(Embedded()) {
		t.Errorf("no file: %v, %v", all, err)
	}
	text := `
[image.debian-trixie]
sources = [{ oci = "alpine:3.20" }]
[image."team/tools:1"]
description = "ours"
sources = [
  { debian = { suite = "trixie", variant = "dev", packages = ["g++", "git"] } },
  { oci = "registry.example.com/tools" },
]
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	all, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, e := range all {
		if !slices.ContainsFunc(Embedded(), func(x Entry) bool { return fmt.Sprint(x) == fmt.Sprint(e) }) || strings.HasSuffix(e.Name, "-dev") {
			lines = append(lines, fmt.Sprint(e.Name, ": ", e.Sources))
		}
	}
	want := "debian-bookworm-dev: [Debian bookworm, dev]\ndebian-trixie: [alpine:3.20]\ndebian-trixie-dev: [Debian trixie, dev]\n" +
		"team/tools:1: [Debian trixie, dev, with g++ git registry.example.com/tools:latest]"
	if got := strings.Join(lines, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestRefusals(t *testing.T) {
	for text, want := range map[string]string{
		"[image.A]\nsources=[{oci='a'}]":                                          "/c:1: image.A: it is no name for an image",
		"[image.a]\ndescription='x'":                                              "/c:1: image.a.sources: it has 0 sources",
		"[image.a]\nsources=[\n{oci='a'},\n{}]":                                   "image.a.sources.1: it must have one of",
		"[image.a]\nsources=[\n{oci='a',\ndebian={suite='x'}}]":                   "image.a.sources.0: it must have one of",
		"[image.a]\nsources=[\n{oci='A B'}]":                                      "/c:3: image.a.sources.0.oci: ",
		"[image.a]\nsources=[\n{debian={suite='Trixie'}}]":                        `/c:3: image.a.sources.0.debian: "Trixie" is no release`,
		"[image.a]\nsources=[\n{debian={suite='trixie', variant='full'}}]":        `there is no variant "full"`,
		"[image.a]\nsources=[\n{debian={suite='trixie', packages=['a b']}}]":      `"a b" is no name`,
		"[image.a]\nsources=[\n{debian={suite='trixie', packages=['sudo-']}}]":    `"sudo-" is no name`,
		"[image.a]\nsources=[\n{debian={suite='trixie', packages=['vim,sudo']}}]": `"vim,sudo" is no name`,
		"[image.a]\nsources=[\n{debian={suite='trixie', packages=['--x']}}]":      `"--x" is no name`,
		"[image.a]\nsources=[\n{debian={suit='trixie'}}]":                         `(write image.a.sources.0.debian.suite)`,
		"[image.a]\nsources=[{oci='a'}]\n[image.a]\nsources=[{oci='a'}]":          "/c:3: ",
		"[image.a]\nsources=[" + strings.Repeat("{oci='a'},", maxSources+1) + "]": "it has 17 sources",
	} {
		_, err := Parse("/c", []byte(text))
		if errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error()+" ("+errs.HintOf(err)+")", want) {
			t.Errorf("%q: %v; want %q", text, err, want)
		}
	}
}

func TestRecipe(t *testing.T) {
	d, err := NewDebian("debian:trixie", "docker", []string{"git", "ripgrep"})
	if err != nil {
		t.Fatal(err)
	}
	got := d.Include()
	for _, p := range []string{"systemd", "docker-cli", "apparmor", "ripgrep"} {
		if !slices.Contains(got, p) {
			t.Errorf("no %s", p)
		}
	}
	if i := slices.Index(got, "git"); slices.Contains(got[i+1:], "git") {
		t.Error("git comes twice")
	}
	if d, err := NewDebian("debian:bookworm", "docker", nil); err != nil || slices.Contains(d.Include(), "docker-cli") {
		t.Errorf("bookworm: %v, %v", d, err)
	}
	if d, err := NewDebian("debian:bookworm", "", nil); err != nil || d.Variant != "base" {
		t.Errorf("no variant: %v, %v", d, err)
	}
	for _, from := range []string{"trixie", "debian", "debian:", "docker.io/library/debian", "ubuntu:noble"} {
		if _, err := NewDebian(from, "", nil); errs.KindOf(err) != errs.Invalid || errs.HintOf(err) == "" {
			t.Errorf("from %q: %v", from, err)
		}
	}
}

// FuzzParse: what is taken can be given to apt and to a registry.
func FuzzParse(f *testing.F) {
	f.Add(embedded)
	f.Add([]byte("[image.a]\nsources=[{debian={suite='sid', packages=['g++']}}]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := Parse("/c", data)
		if err != nil {
			if errs.KindOf(err) != errs.Invalid {
				t.Errorf("%q: %v", data, err)
			}
			return
		}
		for _, e := range all {
			for _, s := range e.Sources {
				if s.String() == "" || s.Debian != nil && strings.ContainsAny(strings.Join(s.Debian.Include(), ""), " ,\n") {
					t.Errorf("%q: %+v", data, s)
				}
			}
		}
	})
}
