package debian

import (
	"errors"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"banger/internal/base/errs"
)

// Arch is the architecture of every package that this one finds.
const Arch = "amd64"

// maxSourceFile bounds one file of the apt configuration, in bytes.
const maxSourceFile = 1 << 20

// Source is one archive of the host's apt configuration, for binary packages.
type Source struct {
	// URI is where "dists" and "pool" lie, without a final slash; its scheme is
	// http, https or file.
	URI string
	// Suites and Components are as configured; neither is empty.
	Suites, Components []string
	// SignedBy is the keyring that the configuration names, or empty.
	SignedBy string
	// IgnoreExpiry is set where the configuration says that a Release whose
	// Valid-Until has passed is good (snapshots).
	IgnoreExpiry bool
}

// Sources returns the archives that may be Debian's, and the file or folder that names
// them: own, a file in the format of sources.list(5) (deb822), if it exists; else the
// apt configuration below root. A file of ours that names none is an error.
func Sources(own, root string) (all []Source, from string, err error) {
	if own != "" {
		text, err := readBounded(own, maxSourceFile)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, own, errs.New(errs.Unavailable, "cannot read the mirrors to use: %w", err)
		default:
			for _, s := range parseSources(text) {
				all = append(all, resolve(root, s)...)
			}
			if len(all) == 0 {
				return nil, own, errs.New(errs.Invalid, "%q names no mirror for %s", own, Arch).WithHint(
					"write lines as in apt's debian.sources: Types: deb, URIs:, Suites:, Components:; or remove the file")
			}
			return all, own, nil
		}
	}
	all, err = DebianSources(root)
	return all, filepath.Join(root, "etc", "apt"), err
}

// DebianSources returns the archives in the apt configuration below root
// (root/etc/apt) that may be Debian's: those that name Debian's keyring, and
// those that name none. Which of the latter are Debian's shows when a signature
// is checked. Lines that make no sense are passed over; apt complains of them.
//
// Formats: sources.list(5), apt-transport-mirror(1) (mirror+file: only).
func DebianSources(root string) ([]Source, error) {
	dir := filepath.Join(root, "etc", "apt")
	files := []string{filepath.Join(dir, "sources.list")}
	entries, err := os.ReadDir(filepath.Join(dir, "sources.list.d"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errs.New(errs.Unavailable, "cannot read the apt configuration: %w", err)
	}
	for _, e := range entries {
		if sourceFile.MatchString(e.Name()) {
			files = append(files, filepath.Join(dir, "sources.list.d", e.Name()))
		}
	}
	var all []Source
	for _, name := range files {
		text, err := readBounded(name, maxSourceFile)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, errs.New(errs.Unavailable, "cannot read the apt configuration: %w", err)
		}
		parse := parseList
		if strings.HasSuffix(name, ".sources") {
			parse = parseSources
		}
		for _, s := range parse(text) {
			all = append(all, resolve(root, s)...)
		}
	}
	return slices.DeleteFunc(all, func(s Source) bool { return !maybeDebian(s) }), nil
}

// sourceFile is which files apt reads in sources.list.d.
var sourceFile = regexp.MustCompile(`^[A-Za-z0-9_.-]+\.(list|sources)$`)

func maybeDebian(s Source) bool {
	return s.SignedBy == "" || strings.Contains(s.SignedBy, "debian-archive-")
}

// parseList reads the one-line format: "deb [option=value …] URI suite component…".
func parseList(text string) []Source {
	var all []Source
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		kind, rest, _ := strings.Cut(strings.TrimSpace(strings.ReplaceAll(line, "\t", " ")), " ")
		if kind != "deb" {
			continue
		}
		rest = strings.TrimSpace(rest)
		options := stanza{}
		if after, ok := strings.CutPrefix(rest, "["); ok {
			inside, after, ok := strings.Cut(after, "]")
			if !ok {
				continue
			}
			rest = after
			for _, o := range strings.Fields(inside) {
				name, value, _ := strings.Cut(o, "=")
				options[strings.ToLower(name)] = strings.ReplaceAll(value, ",", " ")
			}
		}
		fields := strings.Fields(rest)
		if len(fields) < 3 {
			continue
		}
		all = append(all, expand(fields[:1], fields[1:2], fields[2:], options["signed-by"],
			options.words("arch"), options["check-valid-until"])...)
	}
	return all
}

// parseSources reads the deb822 format.
func parseSources(text string) []Source {
	var all []Source
	// A file that breaks off in the middle gives what stands before.
	_ = walkStanzas(strings.NewReader(text), func(s stanza) error {
		if isNo(s["enabled"]) || !slices.Contains(s.words("types"), "deb") {
			return nil
		}
		all = append(all, expand(s.words("uris"), s.words("suites"), s.words("components"), s["signed-by"],
			s.words("architectures"), s["check-valid-until"])...)
		return nil
	})
	return all
}

// expand makes one Source of each URI.
func expand(uris, suites, components []string, signedBy string, archs []string, checkValidUntil string) []Source {
	flat := func(suite string) bool { return strings.HasSuffix(suite, "/") }
	suites = slices.DeleteFunc(slices.Clone(suites), flat)
	if len(suites) == 0 || len(components) == 0 || len(archs) > 0 && !slices.Contains(archs, Arch) {
		return nil
	}
	var all []Source
	for _, uri := range uris {
		all = append(all, Source{
			URI: strings.TrimRight(uri, "/"), Suites: suites, Components: components,
			SignedBy: signedBy, IgnoreExpiry: isNo(checkValidUntil),
		})
	}
	return all
}

// isNo says whether apt reads s as false.
func isNo(s string) bool {
	return slices.Contains([]string{"no", "false", "without", "off", "disable", "0"}, strings.ToLower(s))
}

// resolve replaces a mirror list by the mirrors in it, and drops what no client
// of ours can reach.
func resolve(root string, s Source) []Source {
	uris := []string{s.URI}
	if list, ok := strings.CutPrefix(s.URI, "mirror+file:"); ok {
		text, err := readBounded(filepath.Join(root, filepath.Clean("/"+list)), maxSourceFile)
		if err != nil {
			return nil
		}
		uris = nil
		for line := range strings.Lines(text) {
			if fields := strings.Fields(line); len(fields) > 0 && fields[0][0] != '#' {
				uris = append(uris, strings.TrimRight(fields[0], "/"))
			}
		}
	}
	var all []Source
	for _, uri := range uris {
		u, err := url.Parse(uri)
		if err != nil || !slices.Contains([]string{"http", "https", "file"}, u.Scheme) {
			continue
		}
		s.URI = uri
		all = append(all, s)
	}
	return all
}

// readBounded returns the text of a file of at most limit bytes.
func readBounded(path string, limit int64) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // it was only read
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = &fs.PathError{Op: "read", Path: path, Err: errors.New("the file is too large")}
	}
	return string(data), err
}
