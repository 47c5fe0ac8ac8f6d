package oci

import (
	"regexp"
	"strings"
	"unicode"

	"github.com/google/go-containerregistry/pkg/name"

	"banger/internal/base/errs"
)

// dockerHub is the registry of references that name none. It answers at
// [name.DefaultRegistry].
const dockerHub = "docker.io"

// maxReference is more than the longest name, tag and digest together.
const maxReference = 1024

// Forms of the parts (distribution specification, "Pulling manifests").
var (
	repositoryForm = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagForm        = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
	hostForm       = regexp.MustCompile(`^([a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?$`)
)

// Reference names an image in a registry, by a tag or by a digest. References are
// comparable; the zero value names nothing.
type Reference struct {
	repository name.Repository
	// Exactly one of the two is set.
	tag, digest string
}

// ParseReference reads a reference as people write it: "alpine", "alpine:3.20",
// "ghcr.io/owner/name@sha256:…", "localhost:5000/name". What is left out is Docker
// Hub, its "library" and the tag "latest". A digest next to a tag wins, and the tag
// is forgotten. The error is errs.Invalid.
func ParseReference(s string) (Reference, error) {
	bad := func(hint, format string, args ...any) error {
		args = append([]any{Printable(s)}, args...)
		return errs.New(errs.Invalid, "%q is no image reference: "+format, args...).WithHint("%s", hint)
	}
	const example = "write for example alpine:3.20 or ghcr.io/owner/name:tag"
	switch scheme, rest, found := strings.Cut(s, "://"); {
	case s == "":
		return Reference{}, bad(example, "it is empty")
	case len(s) > maxReference:
		return Reference{}, bad(example, "it is longer than %d bytes", maxReference)
	case found:
		return Reference{}, bad("write "+Printable(rest), "it has the scheme %q", Printable(scheme))
	}
	var r Reference
	rest, digest, found := strings.Cut(s, "@")
	if found {
		if err := CheckDigest(digest); err != nil {
			return Reference{}, bad(errs.HintOf(err), "%w", err)
		}
		r.digest = digest
	}
	// A colon behind the last slash begins a tag; one before it, a port.
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, '/') {
		if rest, r.tag = rest[:i], rest[i+1:]; !tagForm.MatchString(r.tag) {
			return Reference{}, bad(example, "the tag %q is not 1 to 128 letters, digits and ._-", Printable(r.tag))
		}
	}
	switch {
	case r.digest != "":
		r.tag = ""
	case r.tag == "":
		r.tag = name.DefaultTag
	}
	host, path := "", rest
	if first, after, found := strings.Cut(rest, "/"); found && isHost(first) {
		host, path = first, after
	}
	switch {
	case host != "" && !hostForm.MatchString(host):
		return Reference{}, bad(example, "%q is no registry", Printable(host))
	case path != strings.ToLower(path):
		return Reference{}, bad("write "+Printable(strings.ToLower(path)), "names of images are in lower case")
	case len(path) > 255 || !repositoryForm.MatchString(path):
		return Reference{}, bad(example, "the name %q is not words of a-z, 0-9 and ._- with slashes between", Printable(path))
	}
	switch host = strings.ToLower(host); host {
	case "", "index.docker.io", "registry-1.docker.io":
		host = dockerHub
	}
	if host == dockerHub && !strings.Contains(path, "/") {
		path = "library/" + path
	}
	var err error
	if r.repository, err = name.NewRepository(host + "/" + path); err != nil {
		return Reference{}, bad(example, "%w", err)
	}
	return r, nil
}

// Registry returns the registry's host, and its port if one was written: "docker.io".
func (r Reference) Registry() string {
	if host := r.repository.RegistryStr(); host != name.DefaultRegistry {
		return host
	}
	return dockerHub
}

// Repository returns the name within the registry: "library/alpine".
func (r Reference) Repository() string { return r.repository.RepositoryStr() }

// Tag returns the tag, or "" for a reference by digest.
func (r Reference) Tag() string { return r.tag }

// Digest returns the digest, or "" for a reference by tag.
func (r Reference) Digest() string { return r.digest }

// Identifier returns the tag or the digest.
func (r Reference) Identifier() string { return r.tag + r.digest }

// WithDigest returns the reference to that digest in the same repository.
func (r Reference) WithDigest(digest string) Reference {
	return Reference{repository: r.repository, digest: digest}
}

// String returns the canonical form: "docker.io/library/alpine:latest". The zero
// value's is empty.
func (r Reference) String() string {
	if r == (Reference{}) {
		return ""
	}
	return r.Registry() + "/" + r.Repository() + r.identifier()
}

// Familiar returns the form that people write: "alpine:latest". [ParseReference]
// makes the same reference of it.
func (r Reference) Familiar() string {
	whole := r.String()
	short, found := strings.CutPrefix(whole, dockerHub+"/")
	if name, library := strings.CutPrefix(short, "library/"); found && library && !strings.Contains(name, "/") {
		short = name
	}
	if first, _, found := strings.Cut(short, "/"); found && short != whole && isHost(first) {
		return whole // a namespace that looks like a host
	}
	return short
}

// isHost says whether the first part of a name with several is a registry.
func isHost(first string) bool { return strings.ContainsAny(first, ".:") || first == "localhost" }

func (r Reference) identifier() string {
	if r.digest != "" {
		return "@" + r.digest
	}
	return ":" + r.tag
}

// Printable returns a foreign text for use in a message: what cannot be printed is
// replaced, and a long text is cut.
func Printable(s string) string {
	const most = 300
	var b strings.Builder
	for _, c := range s {
		if b.Len() >= most {
			b.WriteString("…")
			break
		}
		if !unicode.IsPrint(c) {
			c = '\uFFFD'
		}
		b.WriteRune(c)
	}
	return b.String()
}
