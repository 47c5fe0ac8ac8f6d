package daemon

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"banger/internal/base/errs"
	"banger/internal/base/paths"
	"banger/internal/config"
	"banger/internal/daemon/images"
	"banger/internal/debian"
	"banger/internal/imagecatalog"
	"banger/internal/mmdebstrap"
)

// newCatalog has the user's files in a folder of its own.
func newCatalog(t *testing.T) (*catalog, paths.Dirs) {
	t.Helper()
	dirs := paths.Dirs{Config: t.TempDir(), Cache: t.TempDir()}
	return &catalog{settings: newSettings(dirs), root: t.TempDir()}, dirs
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDefaultImageIsInTheCatalog(t *testing.T) {
	c, _ := newCatalog(t)
	all, err := c.entries()
	if err != nil || !slices.ContainsFunc(all, func(e images.Entry) bool { return e.Name == config.DefaultImage }) {
		t.Errorf("%s is not among %d entries, %v", config.DefaultImage, len(all), err)
	}
}

func TestEntriesFollowTheUsersFile(t *testing.T) {
	c, dirs := newCatalog(t)
	find := func(name string) (e images.Entry, err error) {
		all, err := c.entries()
		if i := slices.IndexFunc(all, func(e images.Entry) bool { return e.Name == name }); i >= 0 {
			e = all[i]
		}
		return e, err
	}
	if e, err := find("mine"); err != nil || e.Name != "" {
		t.Errorf("without a file: %+v, %v", e, err)
	}
	write(t, dirs.ImageCatalog(), "[image.mine]\nsources = [{ debian = { suite = 'trixie', packages = ['git'] } }, { oci = 'alpine' }]\n")
	e, err := find("mine")
	if err != nil || len(e.Sources) != 2 || e.Sources[0].Text != "packages of Debian trixie, with git" || e.Sources[0].Prepare == nil ||
		e.Sources[1].Text != "alpine:latest" || e.Sources[1].Reference != "docker.io/library/alpine:latest" || e.Sources[1].Prepare != nil {
		t.Errorf("got %+v, %v", e, err)
	}
	write(t, dirs.ImageCatalog(), "[image.mine]\n")
	if e, err := find("mine"); errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error(), dirs.ImageCatalog()+":1: ") || len(e.Sources) != 2 {
		t.Errorf("broken: %+v, %v", e, err)
	}
}

func TestRecipe(t *testing.T) {
	c, _ := newCatalog(t)
	e, err := c.recipe("mine", "debian:bookworm", "dev", []string{"gdb"})
	if err != nil || e.Name != "mine" || len(e.Sources) != 1 || e.Sources[0].Text != "packages of Debian bookworm, dev, with gdb" {
		t.Errorf("got %+v, %v", e, err)
	}
	if _, err := c.recipe("mine", "debian:bookworm", "dev", []string{"g db"}); errs.KindOf(err) != errs.Invalid {
		t.Errorf("got %v", err)
	}
}

// mirrors have suites by name; an error in the place of one is theirs.
type mirrors map[string]error

func (m mirrors) Suite(_ context.Context, name string) (debian.Suite, error) {
	err, ok := m[name]
	if !ok {
		return debian.Suite{}, errs.New(errs.NotFound, "there is no %q", name)
	}
	return debian.Suite{Name: name, Source: debian.Source{URI: "http://m.example.com/debian"}}, err
}

func TestFindSuites(t *testing.T) {
	refused := errs.New(errs.Unavailable, "cannot trust it")
	for name, c := range map[string]struct {
		has  mirrors
		want string
		err  string
		is   error
	}{
		"all of it":         {has: mirrors{"trixie": nil, "trixie-updates": nil, "trixie-security": nil}, want: "trixie trixie-updates trixie-security"},
		"the release alone": {has: mirrors{"trixie": nil}, want: "trixie"},
		"another release":   {has: mirrors{"bookworm": nil, "trixie-security": nil}, err: "no mirror of this host has Debian trixie"},
		"not trusted":       {has: mirrors{"trixie": refused}, is: refused},
		// What is there and cannot be trusted is not what is missing.
		"security not trusted": {has: mirrors{"trixie": nil, "trixie-security": refused}, is: refused},
	} {
		all, err := findSuites(t.Context(), c.has, "trixie", "/d/debian.sources")
		var got []string
		for _, s := range all {
			got = append(got, s.Name)
		}
		if strings.Join(got, " ") != c.want || (err != nil) != (c.err != "" || c.is != nil) || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if c.err != "" && (errs.KindOf(err) != errs.Unavailable || !strings.Contains(err.Error(), c.err) || errs.HintOf(err) == "") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOrigin(t *testing.T) {
	day := func(n int) time.Time { return time.Date(2026, 11, n, 9, 15, 44, 0, time.UTC) }
	suite := func(name, uri string, date time.Time) debian.Suite {
		return debian.Suite{Name: name, Source: debian.Source{URI: uri}, IndexDate: date}
	}
	const main, security = "http://user:secret@m.example.com/debian", "http://m.example.com/debian-security"
	made := mmdebstrap.Record{
		Indexes:  []mmdebstrap.Index{{Suite: "trixie", Date: day(21)}, {Suite: "trixie-updates", Date: day(23)}, {Suite: "trixie-security", Date: day(24)}},
		Packages: make([]mmdebstrap.Package, 3),
	}
	recipe := imagecatalog.Debian{Suite: "trixie", Variant: "docker"}
	three := []debian.Suite{suite("trixie", main, day(21)), suite("trixie-updates", main, day(23)), suite("trixie-security", security, day(23))}
	got, err := origin(recipe, three, made)
	want := "Debian trixie, docker: http://user:xxxxx@m.example.com/debian trixie of 2026-11-21, trixie-updates of 2026-11-23, " +
		"http://m.example.com/debian-security trixie-security of 2026-11-24; 3 packages (/usr/share/banger/packages)"
	if d := cmp.Diff(got, want); d != "" || err != nil {
		t.Error(d, err)
	}
	if got, err := origin(recipe, three[:1], made); err != nil || !strings.Contains(got, "no security updates") {
		t.Errorf("%q, %v", got, err)
	}
	// Between our look and the build's, somebody has put an older list in the way.
	if _, err := origin(recipe, []debian.Suite{suite("trixie", main, day(22))}, made); !errors.Is(err, debian.ErrOlder) {
		t.Errorf("a replay: %v", err)
	}
	if _, err := origin(recipe, []debian.Suite{suite("sid", main, day(22))}, made); err == nil {
		t.Error("a suite that was not used goes through")
	}
}
