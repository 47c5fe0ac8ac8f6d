package images

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"banger/internal/base/errs"
	"banger/internal/base/progress"
	"banger/internal/oci"
)

// builder is an entry of the catalog that can always be built.
type builder struct {
	Name, Source string
	Build        func(ctx context.Context, tmp string, p progress.Func, w io.Writer) error
}

func (b builder) entry() Entry {
	prepare := func(context.Context, progress.Func) (Build, error) {
		return func(ctx context.Context, tmp string, p progress.Func, w io.Writer) (string, error) {
			return b.Source, b.Build(ctx, tmp, p, w)
		}, nil
	}
	return Entry{Name: b.Name, Sources: []EntrySource{{Text: b.Source, Prepare: prepare}}}
}

func catalogOf(builders ...builder) func() ([]Entry, error) {
	var all []Entry
	for _, b := range builders {
		all = append(all, b.entry())
	}
	return func() ([]Entry, error) { return all, nil }
}

// refusing is a source that cannot be used.
func refusing(text string, err error) EntrySource {
	return EntrySource{Text: text, Prepare: func(context.Context, progress.Func) (Build, error) { return nil, err }}
}

func TestFirstUsableSource(t *testing.T) {
	r := newRegistry(t)
	digest := r.push("app:1", v1.Config{Cmd: []string{"/a"}}, tarOf(t, "a", "registry"))
	there, gone := EntrySource{Text: "app", Reference: r.host + "/app:1"}, EntrySource{Text: "gone", Reference: r.host + "/gone:1"}
	mirror := refusing("mirror", errs.New(errs.Unavailable, "no mirror answers").WithHint("check the network"))
	packages := builderOf("x", string(tarOf(t, "a", "packages"))).entry().Sources[0]
	for name, c := range map[string]struct {
		sources      []EntrySource
		file, source string
	}{
		"packages":    {[]EntrySource{packages, there}, "packages", "test"},
		"a registry":  {[]EntrySource{there, packages}, "registry", r.host + "/app@" + digest},
		"the second":  {[]EntrySource{mirror, there}, "registry", r.host + "/app@" + digest},
		"the third":   {[]EntrySource{mirror, gone, packages}, "packages", "test"},
		"of a broken": {[]EntrySource{refusing("", errors.New("bug")), packages}, "packages", "test"},
	} {
		s := real(t, func(o *Options) {
			o.Catalog = func() ([]Entry, error) { return []Entry{{Name: "x", Sources: c.sources}}, nil }
		})
		img, err := s.Resolve(t.Context(), "x", nil)
		if err != nil || img.Name != "x" || img.Source != c.source || files(t, img.Path)["a"] != c.file {
			t.Errorf("%s: %+v, %v", name, img, err)
		}
		if fromRegistry := c.file == "registry"; fromRegistry != (img.Origin != nil && img.Origin.Manifest == digest) {
			t.Errorf("%s: origin %+v", name, img.Origin)
		}
	}
	s := real(t, func(o *Options) {
		o.Catalog = func() ([]Entry, error) {
			return []Entry{{Name: "x", Sources: []EntrySource{mirror, gone}}, {Name: "y", Sources: []EntrySource{gone}}}, nil
		}
	})
	_, err := s.Resolve(t.Context(), "x", nil)
	if errs.KindOf(err) != errs.Unavailable || errs.HintOf(err) != "check the network" ||
		!strings.Contains(err.Error(), "(1) mirror: no mirror answers; (2) gone: ") || !strings.Contains(err.Error(), "/gone:1") {
		t.Errorf("none can be used: %v (%s)", err, errs.HintOf(err))
	}
	if _, err := s.Resolve(t.Context(), "y", nil); errs.KindOf(err) != errs.NotFound || !strings.Contains(err.Error(), `"y"`) {
		t.Errorf("the only one cannot be used: %v", err)
	}
	wantFiles(t, s)
}

// TestSourceThatFailsLater: its bytes are what the user was told of; those of the next
// source would be others.
func TestSourceThatFailsLater(t *testing.T) {
	broken := errors.New("cut off")
	first := builder{Name: "x", Source: "first", Build: func(context.Context, string, progress.Func, io.Writer) error { return broken }}
	s := start(t, newMemory(), func(o *Options) {
		o.Catalog = func() ([]Entry, error) {
			return []Entry{{Name: "x", Sources: append(first.entry().Sources, builderOf("x", "tar").entry().Sources...)}}, nil
		}
	})
	if _, err := s.Resolve(t.Context(), "x", nil); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	wantFiles(t, s)
}

func TestPinnedSource(t *testing.T) {
	r := newRegistry(t)
	first := r.push("app:1", v1.Config{}, tarOf(t, "a", "1"))
	r.push("app:1", v1.Config{}, tarOf(t, "a", "2"))
	unreadable := errs.New(errs.Invalid, "config.toml:3: nonsense")
	pin, pinErr := first, error(nil)
	s := real(t, func(o *Options) {
		o.Pin = func(oci.Reference) (string, error) { return pin, pinErr }
		o.Catalog = func() ([]Entry, error) {
			return []Entry{{Name: "x", Sources: []EntrySource{{Text: "app", Reference: r.host + "/app:1"}}}}, nil
		}
	})
	if img, err := s.Resolve(t.Context(), "x", nil); err != nil || files(t, img.Path)["a"] != "1" {
		t.Errorf("got %+v, %v", img, err)
	}
	pin, pinErr = "", unreadable
	if _, err := s.Pull(t.Context(), r.host+"/app:1", "", nil); !errors.Is(err, unreadable) {
		t.Errorf("pins that cannot be read: %v", err)
	}
}

func TestCatalogThatCannotBeRead(t *testing.T) {
	unreadable := errs.New(errs.Invalid, "images.toml:3: nonsense")
	s := start(t, newMemory(), func(o *Options) {
		o.Catalog = func() ([]Entry, error) { return []Entry{builderOf("debian", "tar").entry()}, unreadable }
	})
	all, err := s.List(t.Context())
	if err != nil || len(all) != 1 || all[0].Name != "debian" || all[0].Source != "test" {
		t.Errorf("list: %+v, %v", all, err)
	}
	if _, err := s.Resolve(t.Context(), "debian", nil); err != nil {
		t.Errorf("what can be read: %v", err)
	}
	// It may be one of those that cannot be read, and must not come from a registry then.
	if _, err := s.Resolve(t.Context(), "other", nil); !errors.Is(err, unreadable) {
		t.Errorf("what is missing: %v", err)
	}
}

func TestRemake(t *testing.T) {
	m, text := newMemory(), "old"
	s := start(t, m, func(o *Options) {
		o.Catalog = func() ([]Entry, error) { return catalogOf(builderOf("debian", text))() }
	})
	if _, err := s.Resolve(t.Context(), "debian", nil); err != nil {
		t.Fatal(err)
	}
	m.vms[digestOf("old")] = true
	text = "new"
	if img, err := s.Resolve(t.Context(), "debian", nil); err != nil || img.Digest != digestOf("old") {
		t.Errorf("what is here is made again: %+v, %v", img, err)
	}
	if img, err := s.Remake(t.Context(), "debian", nil); err != nil || img.Digest != digestOf("new") {
		t.Errorf("got %+v, %v", img, err)
	}
	wantFiles(t, s, digestOf("new"), digestOf("old")) // which a VM uses
	if _, err := s.Remake(t.Context(), "other", nil); errs.KindOf(err) != errs.NotFound {
		t.Errorf("what is in no catalog: %v", err)
	}
}

func TestMake(t *testing.T) {
	s := start(t, newMemory(), nil)
	for _, text := range []string{"one", "two"} {
		img, err := s.Make(t.Context(), builderOf("mine", text).entry(), nil)
		if err != nil || img.Name != "mine" || img.Digest != digestOf(text) {
			t.Errorf("%s: %+v, %v", text, img, err)
		}
		wantFiles(t, s, digestOf(text))
	}
	if _, err := s.Make(t.Context(), builderOf("No Name", "x").entry(), nil); errs.KindOf(err) != errs.Invalid {
		t.Errorf("got %v", err)
	}
}
