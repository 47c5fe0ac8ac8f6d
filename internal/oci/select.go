package oci

import (
	"context"
	"errors"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"banger/internal/base/errs"
)

// Documents is where an image's documents are. The methods return at most one byte
// more than d.Size, and need not verify what they return.
type Documents interface {
	// Manifest returns the index or manifest of that descriptor.
	Manifest(ctx context.Context, d v1.Descriptor) ([]byte, error)
	// Config returns the config.
	Config(ctx context.Context, d v1.Descriptor) ([]byte, error)
}

// Select returns the image for platform p out of raw, which is an index or a manifest
// of the type mediaType (empty if unknown). Whoever asked for raw by its digest has
// verified it; all else that Select reads, it verifies. Layers have no Source.
//
// The error is errs.NotFound, and says which platforms there are, if p is not among
// them. It is errs.Invalid if the image is not one, is damaged, or is in a form that
// we cannot use; [ErrNotImage] is in the chain if it is not one. Errors of docs are
// returned as they are.
func Select(ctx context.Context, raw []byte, mediaType string, p Platform, docs Documents) (*Image, error) {
	s := &selection{platform: p.normal(), docs: docs}
	img, err := s.walk(ctx, raw, mediaType, 0, false)
	if other, ok := errors.AsType[*otherPlatforms](err); ok {
		return nil, errs.New(errs.NotFound, "%w", other).WithHint("ask for one of the platforms that it has")
	}
	if err != nil {
		return nil, err
	}
	if top := Digest(raw); top != img.Digest {
		img.Index = top
	}
	return img, nil
}

type selection struct {
	platform Platform
	docs     Documents
	read     int
}

// walk returns the image of a document. vouched is whether an index has said that it
// is for our platform, so that its config need not.
func (s *selection) walk(ctx context.Context, raw []byte, mediaType string, depth int, vouched bool) (*Image, error) {
	doc, err := parse(raw, mediaType)
	if err != nil {
		return nil, err
	}
	if doc.manifest != nil {
		return s.image(ctx, raw, doc, vouched)
	}
	if depth == maxNesting {
		return nil, errs.New(errs.Invalid, "its indexes are nested more than %d deep", maxNesting)
	}
	none := &otherPlatforms{want: s.platform}
	var odd error // what there is instead of images
	for _, d := range doc.index.Manifests {
		switch {
		case isAttestation(d):
		case kindOf(d.MediaType) == otherKind:
			odd = notImage(d.MediaType)
		case d.Platform != nil:
			none.have = append(none.have, platformOf(*d.Platform))
		}
	}
	for _, c := range s.candidates(doc.index) {
		raw, err := s.manifest(ctx, c.Descriptor)
		if err != nil {
			return nil, err
		}
		img, err := s.walk(ctx, raw, string(c.MediaType), depth+1, c.vouched)
		other, isOther := errors.AsType[*otherPlatforms](err)
		switch {
		case isOther:
			none.have = append(none.have, other.have...)
		case !c.vouched && errors.Is(err, ErrNotImage):
			odd = err // signatures and the like stand beside images
		default:
			return img, err
		}
	}
	if odd != nil && len(none.have) == 0 {
		return nil, odd
	}
	return nil, none
}

type candidate struct {
	v1.Descriptor
	vouched bool
	fit     float64
}

// candidates returns what of an index may be for our platform: first what says so,
// best fit first, then what does not say.
func (s *selection) candidates(index *v1.IndexManifest) []candidate {
	var sure, unsure []candidate
	for _, d := range index.Manifests {
		if isAttestation(d) || kindOf(d.MediaType) == otherKind {
			continue
		}
		if d.Platform == nil || d.Platform.OS == "" && d.Platform.Architecture == "" {
			unsure = append(unsure, candidate{Descriptor: d})
			continue
		}
		if fit, ok := s.platform.runs(platformOf(*d.Platform)); ok {
			sure = append(sure, candidate{Descriptor: d, vouched: true, fit: fit})
		}
	}
	slices.SortStableFunc(sure, func(a, b candidate) int {
		switch {
		case a.fit > b.fit:
			return -1
		case a.fit < b.fit:
			return 1
		}
		return 0
	})
	return append(sure, unsure...)
}

// isAttestation says whether d is what BuildKit puts beside an image: a manifest for
// no platform.
func isAttestation(d v1.Descriptor) bool {
	return d.Annotations["vnd.docker.reference.type"] == "attestation-manifest" ||
		d.Platform != nil && d.Platform.OS == "unknown" && d.Platform.Architecture == "unknown"
}

func platformOf(p v1.Platform) Platform {
	return Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}
}

// manifest fetches and verifies an index or manifest that another one names.
func (s *selection) manifest(ctx context.Context, d v1.Descriptor) ([]byte, error) {
	if s.read++; s.read > maxDocuments {
		return nil, errs.New(errs.Invalid, "none of its first %d manifests is an image for %s", maxDocuments, s.platform)
	}
	if err := checkDescriptor(d, "manifest", MaxManifest); err != nil {
		return nil, err
	}
	raw, err := s.docs.Manifest(ctx, d)
	if err != nil {
		return nil, err
	}
	return raw, verify(raw, d, "manifest")
}

func verify(raw []byte, d v1.Descriptor, what string) error {
	if int64(len(raw)) != d.Size {
		return errs.New(errs.Invalid, "its %s %s is not the %d bytes long that it should be", what, d.Digest, d.Size)
	}
	if got := Digest(raw); got != d.Digest.String() {
		return errs.New(errs.Invalid, "its %s %s is damaged: it has the digest %s", what, d.Digest, got)
	}
	return nil
}

func (s *selection) image(ctx context.Context, raw []byte, doc *document, vouched bool) (*Image, error) {
	if err := checkManifest(doc.manifest); err != nil {
		return nil, err
	}
	config, err := s.docs.Config(ctx, doc.manifest.Config)
	if err != nil {
		return nil, err
	}
	img, err := newImage(raw, doc, config)
	if err != nil {
		return nil, err
	}
	have := img.Platform
	if vouched { // configs leave the variant out, or have another way to write it
		have.Variant = ""
	}
	if !s.platform.admits(have) {
		return nil, &otherPlatforms{want: s.platform, have: []Platform{img.Platform}}
	}
	return img, nil
}

// newImage puts an image together of documents, of which the manifest is checked.
func newImage(raw []byte, doc *document, config []byte) (*Image, error) {
	m := doc.manifest
	if err := verify(config, m.Config, "config"); err != nil {
		return nil, err
	}
	c, err := parseConfig(config, len(m.Layers))
	if err != nil {
		return nil, err
	}
	img := &Image{
		Digest: Digest(raw), MediaType: string(doc.mediaType), Manifest: raw,
		RawConfig: config, ConfigDigest: m.Config.Digest.String(), Config: *c,
		Platform: Platform{OS: c.OS, Architecture: c.Architecture, Variant: c.Variant},
	}
	for i, l := range m.Layers {
		img.Layers = append(img.Layers, Layer{
			Digest: l.Digest.String(), Size: l.Size, MediaType: string(l.MediaType), DiffID: c.RootFS.DiffIDs[i].String(),
		})
	}
	return img, nil
}

// CheckPlatform returns an error, errs.NotFound, unless the image runs on p.
func (i *Image) CheckPlatform(p Platform) error {
	if p.admits(i.Platform) {
		return nil
	}
	err := &otherPlatforms{want: p.normal(), have: []Platform{i.Platform}}
	return errs.New(errs.NotFound, "%w", err).WithHint("ask for one of the platforms that it has")
}
