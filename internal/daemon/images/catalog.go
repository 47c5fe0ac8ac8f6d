package images

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"banger/internal/base/errs"
	"banger/internal/base/progress"
	"banger/internal/oci"
	"banger/internal/vm"
)

// Entry is an image of the catalog: one that can be made.
type Entry struct {
	// Name is the image's; Description says for people what it is for.
	Name, Description string
	// Sources are what it may be made of: the first that can be used is taken. There is
	// one at least.
	Sources []EntrySource
}

// EntrySource is what an image may be made of: a reference, or something with a Prepare.
type EntrySource struct {
	// Text says for people what it is.
	Text string
	// Reference names an image in a registry; it can be used if the registry has it.
	Reference string
	// Prepare finds out whether the source can be used now, and returns what builds the
	// image of it. The details of its reports are shown.
	Prepare func(ctx context.Context, p progress.Func) (Build, error)
}

// Build streams the tar of a root file system to w, and says for people where its bytes
// came from. tmp is an empty folder of its own. The details of its reports are shown. An
// error of w ends it.
type Build func(ctx context.Context, tmp string, p progress.Func, w io.Writer) (origin string, err error)

// about is what is said of an entry that has not been made.
func (e Entry) about() string {
	var texts []string
	for _, s := range e.Sources {
		texts = append(texts, s.Text)
	}
	text := strings.Join(texts, ", or else ")
	if e.Description != "" {
		text = e.Description + ": " + text
	}
	return text
}

// inCatalog returns the entry that has the name. The error is one of a catalog that
// cannot be read: an entry may be missing for it.
func (s *Service) inCatalog(name string) (e Entry, ok bool, err error) {
	all, err := s.Catalog()
	i := slices.IndexFunc(all, func(e Entry) bool { return e.Name == name })
	if i < 0 {
		return Entry{}, false, err
	}
	return all[i], true, nil
}

// Make makes the image of an entry, which need not be of the catalog; what had the name
// before loses it.
func (s *Service) Make(ctx context.Context, e Entry, p progress.Func) (vm.Image, error) {
	if err := checkName(e.Name); err != nil {
		return vm.Image{}, err
	}
	// A key of its own: two entries of one name may differ.
	return s.making.Do(ctx, "make "+rand.Text(), p, func(ctx context.Context, p progress.Func) (vm.Image, error) {
		return s.make(ctx, e, p)
	})
}

// Remake makes an image of the catalog again, of what its sources have now. VMs of the
// one before keep its disk.
func (s *Service) Remake(ctx context.Context, name string, p progress.Func) (vm.Image, error) {
	e, ok, err := s.inCatalog(name)
	if err != nil {
		return vm.Image{}, err
	}
	if !ok {
		return vm.Image{}, errs.New(errs.NotFound, "there is no image %q in the catalog", name).WithHint("banger image list; images of a registry come anew by: banger image pull")
	}
	return s.Make(ctx, e, p)
}

// make makes an image of the first source that can be used. That one of its bytes fails
// later is an error: which contents an image has does not hang on it.
func (s *Service) make(ctx context.Context, e Entry, p progress.Func) (vm.Image, error) {
	m := newMeter(p, "building "+e.Name)
	var refused []error
	for _, of := range e.Sources {
		m.step("asking for " + of.Text)
		use, err := s.prepare(ctx, e.Name, of, m)
		if err == nil {
			return use(p)
		}
		if ctx.Err() != nil {
			return vm.Image{}, ctx.Err()
		}
		s.Log.WarnContext(ctx, "a source of an image cannot be used", "image", e.Name, "source", of.Text, "err", err)
		m.step(of.Text + " cannot be used: " + err.Error())
		refused = append(refused, fmt.Errorf("%s: %w", of.Text, err))
	}
	return vm.Image{}, unusable(e.Name, refused)
}

// unusable joins why each source of an image cannot be used.
func unusable(name string, refused []error) error {
	if len(refused) == 1 {
		return errs.New(errs.KindOf(refused[0]), "cannot make the image %q: %w", name, refused[0])
	}
	texts, hint := make([]string, len(refused)), ""
	for i, err := range refused {
		texts[i] = fmt.Sprintf("(%d) %s", i+1, err)
		if hint == "" {
			hint = errs.HintOf(err)
		}
	}
	return errs.New(errs.Unavailable, "cannot make the image %q: none of its sources can be used: %s", name, strings.Join(texts, "; ")).WithHint("%s", hint)
}

// prepare finds out whether a source can be used, and returns what uses it.
func (s *Service) prepare(ctx context.Context, name string, of EntrySource, m *meter) (func(progress.Func) (vm.Image, error), error) {
	if of.Prepare != nil {
		build, err := of.Prepare(ctx, func(r progress.Report) { m.step(r.Detail) })
		if err != nil {
			return nil, err
		}
		return func(p progress.Func) (vm.Image, error) { return s.build(ctx, name, build, p) }, nil
	}
	ref, err := oci.ParseReference(of.Reference)
	if err != nil {
		return nil, err
	}
	from, err := s.pinned(ref)
	if err != nil {
		return nil, err
	}
	found, err := s.Registry.Resolve(ctx, from, oci.HostPlatform())
	if err != nil {
		return nil, err
	}
	return func(p progress.Func) (vm.Image, error) {
		return s.assemble(ctx, vm.Image{Name: name, Source: source(from, found)}, from.String(), found, nil, p)
	}, nil
}

// build makes an image of the tar that build streams.
func (s *Service) build(ctx context.Context, name string, build Build, p progress.Func) (vm.Image, error) {
	return s.stage(ctx, vm.Image{Name: name}, func(dir string) (m made, err error) {
		tmp := filepath.Join(dir, "tmp")
		if err := os.Mkdir(tmp, 0o700); err != nil {
			return m, err
		}
		steps, origin := newMeter(p, "building "+name), ""
		steps.step("")
		m, err = s.write(ctx, dir, steps, func(w io.Writer) (err error) {
			origin, err = build(ctx, tmp, func(r progress.Report) { steps.step(r.Detail) }, w)
			return err
		})
		m.source = origin
		return m, err
	})
}
