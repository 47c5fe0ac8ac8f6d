// Package imagecatalog lists the images that can be made by name, and what each may be
// made of: banger's own list is embedded, and the user's file comes on top of it.
package imagecatalog

import (
	_ "embed"
	"errors"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strconv"

	"banger/internal/base/errs"
	"banger/internal/base/tomlfile"
	"banger/internal/oci"
)

// Entry is an image that can be made.
type Entry struct {
	// Name is the image's, Description says for people what it is for.
	Name, Description string
	// Sources are in the order in which they are tried; there is one at least.
	Sources []Source
}

// Source is what an image may be made of: exactly one of its fields is set.
type Source struct {
	OCI    oci.Reference
	Debian *Debian
}

// String says for people what it is.
func (s Source) String() string {
	if s.Debian != nil {
		return s.Debian.String()
	}
	return s.OCI.Familiar()
}

//go:embed catalog.toml
var embedded []byte

// maxSources bounds the sources of one image.
const maxSources = 16

// raw is a catalog as it is written.
type raw struct {
	Image map[string]struct {
		Description string `toml:"description"`
		Sources     []struct {
			OCI    string `toml:"oci"`
			Debian *struct {
				Suite    string   `toml:"suite"`
				Variant  string   `toml:"variant"`
				Packages []string `toml:"packages"`
			} `toml:"debian"`
		} `toml:"sources"`
	} `toml:"image"`
}

// Embedded returns banger's own catalog, by name.
func Embedded() []Entry {
	all, err := Parse("catalog.toml", embedded)
	if err != nil {
		panic(err) // a test reads it
	}
	return all
}

// Read returns banger's own catalog with that of the user's file at path on top, by
// name: an entry of the same name is replaced whole. The file may be missing, and path
// empty. Errors are errs.Invalid and say where in the file what is wrong.
func Read(path string) ([]Entry, error) {
	all := Embedded()
	if path == "" {
		return all, nil
	}
	var r raw
	file, err := tomlfile.Read(path, &r)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return all, nil
	case err != nil:
		return nil, err
	}
	own, err := r.entries(file)
	if err != nil {
		return nil, err
	}
	byName := map[string]Entry{}
	for _, e := range append(all, own...) {
		byName[e.Name] = e
	}
	all = all[:0]
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		all = append(all, byName[name])
	}
	return all, nil
}

// Parse reads the text of a catalog; path only names it.
func Parse(path string, data []byte) ([]Entry, error) {
	var r raw
	file, err := tomlfile.Decode(path, data, &r)
	if err != nil {
		return nil, err
	}
	return r.entries(file)
}

// imageName is what an image may be called: what the records take, without a registry's
// digest.
var imageName = regexp.MustCompile(`^[a-z0-9][a-z0-9._/:-]{0,127}$`)

func (r *raw) entries(file *tomlfile.File) (all []Entry, err error) {
	for _, name := range slices.Sorted(maps.Keys(r.Image)) {
		key := []string{"image", name}
		if !imageName.MatchString(name) {
			err := errs.New(errs.Invalid, "it is no name for an image").WithHint("use 1 to 128 of a-z, 0-9, and . _ - / : behind the first")
			return nil, file.At(err, key...)
		}
		e := Entry{Name: name, Description: r.Image[name].Description}
		sources := r.Image[name].Sources
		if len(sources) == 0 || len(sources) > maxSources {
			err := errs.New(errs.Invalid, "it has %d sources, and must have 1 to %d", len(sources), maxSources).
				WithHint(`write sources = [{ debian = { suite = "trixie" } }]`)
			return nil, file.At(err, append(key, "sources")...)
		}
		for i, s := range sources {
			var source Source
			at := append(key[:len(key):len(key)], "sources", strconv.Itoa(i))
			switch {
			case (s.OCI == "") == (s.Debian == nil):
				err := errs.New(errs.Invalid, "it must have one of oci and debian").WithHint(`write { oci = "REFERENCE" } or { debian = { suite = "trixie" } }`)
				return nil, file.At(err, at...)
			case s.OCI != "":
				if source.OCI, err = oci.ParseReference(s.OCI); err != nil {
					return nil, file.At(err, append(at, "oci")...)
				}
			default:
				d := Debian{Suite: s.Debian.Suite, Variant: s.Debian.Variant, Packages: s.Debian.Packages}
				if source.Debian, err = d.check(); err != nil {
					return nil, file.At(err, append(at, "debian")...)
				}
			}
			e.Sources = append(e.Sources, source)
		}
		all = append(all, e)
	}
	return all, nil
}
