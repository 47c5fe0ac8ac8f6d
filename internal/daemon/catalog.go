package daemon

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"banger/internal/base/errs"
	"banger/internal/base/progress"
	"banger/internal/daemon/images"
	"banger/internal/debian"
	"banger/internal/fetch"
	"banger/internal/imagecatalog"
	"banger/internal/mmdebstrap"
)

// catalog makes entries that can be built of what is written in catalogs.
type catalog struct {
	settings *settings
	dates    debian.Dates
	// root is the folder above etc/apt.
	root string
}

// entries are the images that can be made by name. Where the user's file is broken,
// they are what it said last.
func (c *catalog) entries() ([]images.Entry, error) {
	written, err := c.settings.catalog.Get()
	var all []images.Entry
	for _, e := range written {
		all = append(all, c.entry(e))
	}
	return all, err
}

func (c *catalog) entry(e imagecatalog.Entry) images.Entry {
	made := images.Entry{Name: e.Name, Description: e.Description}
	for _, s := range e.Sources {
		made.Sources = append(made.Sources, c.source(s))
	}
	return made
}

func (c *catalog) source(s imagecatalog.Source) images.EntrySource {
	made := images.EntrySource{Text: s.String()}
	if s.Debian == nil {
		made.Reference = s.OCI.String()
		return made
	}
	recipe := *s.Debian
	made.Text = "packages of " + made.Text
	made.Prepare = func(ctx context.Context, _ progress.Func) (images.Build, error) { return c.prepare(ctx, recipe) }
	return made
}

// recipe is the image that a user has described: see [imagecatalog.NewDebian].
func (c *catalog) recipe(name, from, variant string, packages []string) (images.Entry, error) {
	d, err := imagecatalog.NewDebian(from, variant, packages)
	if err != nil {
		return images.Entry{}, err
	}
	return c.entry(imagecatalog.Entry{Name: name, Sources: []imagecatalog.Source{{Debian: d}}}), nil
}

// prepare finds the suites of a recipe on the mirrors.
func (c *catalog) prepare(ctx context.Context, recipe imagecatalog.Debian) (images.Build, error) {
	if err := mmdebstrap.Check(ctx); err != nil {
		return nil, err
	}
	config, err := c.settings.get()
	if err != nil {
		return nil, err
	}
	sources, _, err := debian.Sources(c.settings.dirs.DebianSources(), c.root)
	if err != nil {
		return nil, err
	}
	archive, err := debian.Open(debian.Options{
		Sources: sources, Cache: c.settings.dirs.Downloads(), Host: debian.ReadHostConfig(ctx), Proxy: config.Network.Proxy(), Dates: c.dates,
	})
	if err != nil {
		return nil, err
	}
	defer archive.Close()
	suites, err := findSuites(ctx, archive, recipe.Suite, c.settings.dirs.DebianSources())
	if err != nil {
		return nil, err
	}
	keyring, err := debian.Keyring()
	if err != nil {
		return nil, err
	}
	o := mmdebstrap.Options{Suite: recipe.Suite, Keyring: keyring, Include: recipe.Include()}
	for _, s := range suites {
		o.Sources = append(o.Sources, mmdebstrap.Source{
			URI: s.Source.URI, Suites: []string{s.Name}, Components: []string{"main"}, IgnoreExpiry: s.Source.IgnoreExpiry,
		})
	}
	if n := config.Network; n.Proxy() != nil {
		o.Proxies = &mmdebstrap.Proxies{HTTP: n.HTTPProxy, HTTPS: n.HTTPSProxy, No: n.NoProxy}
	}
	return func(ctx context.Context, tmp string, p progress.Func, w io.Writer) (string, error) {
		o.Tmp, o.Progress = tmp, p
		made, err := mmdebstrap.Build(ctx, o, w)
		if err != nil {
			return "", err
		}
		return origin(recipe, suites, made)
	}, nil
}

// suiteFinder is a [debian.Archive].
type suiteFinder interface {
	Suite(ctx context.Context, name string) (debian.Suite, error)
}

// findSuites returns a release and what has been added to it since: its updates and its
// security updates, where the mirrors have them. own is the file that names mirrors of
// the user's.
func findSuites(ctx context.Context, archive suiteFinder, release, own string) (all []debian.Suite, err error) {
	for _, suite := range []struct {
		name   string
		needed bool
	}{{release, true}, {release + "-updates", false}, {release + "-security", false}} {
		s, err := archive.Suite(ctx, suite.name)
		switch {
		case err == nil:
			all = append(all, s)
		case suite.needed && errs.KindOf(err) == errs.NotFound:
			return nil, errs.New(errs.Unavailable, "no mirror of this host has Debian %s: %w", release, err).
				WithHint("name a mirror that has it in %s", own)
		case suite.needed || errs.KindOf(err) != errs.NotFound:
			return nil, err
		}
	}
	return all, nil
}

// origin says where the bytes of an image came from. The build has read the lists of the
// suites again by itself: older ones than those that we have seen are a replay.
func origin(recipe imagecatalog.Debian, suites []debian.Suite, made mmdebstrap.Record) (string, error) {
	var where []string
	last := ""
	for _, s := range suites {
		i := slices.IndexFunc(made.Indexes, func(x mmdebstrap.Index) bool { return x.Suite == s.Name })
		if i < 0 {
			return "", errs.New(errs.Internal, "the build has not used the suite %q", s.Name)
		}
		date := made.Indexes[i].Date
		if date.Before(s.IndexDate) {
			return "", errs.New(errs.Unavailable, "the list of the suite %q is of %s, %w (of %s)", s.Name, date, debian.ErrOlder, s.IndexDate).
				WithHint("try again later, or use another mirror: this one may be out of step")
		}
		text := s.Name + " of " + date.Format("2006-01-02")
		if uri := fetch.Redacted(s.Source.URI); uri != last {
			text, last = uri+" "+text, uri
		}
		where = append(where, text)
	}
	if !slices.ContainsFunc(suites, func(s debian.Suite) bool { return strings.HasSuffix(s.Name, "-security") }) {
		where = append(where, "no security updates")
	}
	return fmt.Sprintf("%s: %s; %d packages (%s)", recipe, strings.Join(where, ", "), len(made.Packages), mmdebstrap.RecordPath), nil
}
