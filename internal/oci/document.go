package oci

import (
	"encoding/json"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"banger/internal/base/errs"
)

// kind is what a document or a descriptor's target is.
type kind string

const (
	indexKind    kind = "index"
	manifestKind kind = "manifest"
	otherKind    kind = "something else"
)

// ManifestTypes are the media types of documents that a reference may name and that
// [Select] reads, for an Accept header.
var ManifestTypes = []string{
	string(types.OCIImageIndex), string(types.OCIManifestSchema1),
	string(types.DockerManifestList), string(types.DockerManifestSchema2),
}

func kindOf(mediaType types.MediaType) kind {
	switch {
	case mediaType.IsIndex():
		return indexKind
	case mediaType.IsImage():
		return manifestKind
	}
	return otherKind
}

// document is a manifest or an index: one of the two is set.
type document struct {
	mediaType types.MediaType
	index     *v1.IndexManifest
	manifest  *v1.Manifest
}

// parse reads a document. said is the type that its descriptor or its server gave it,
// or empty; what the document says itself counts more, since servers are careless,
// but one that could be read both ways is refused (CVE-2021-41190).
func parse(raw []byte, said string) (*document, error) {
	var d struct {
		SchemaVersion int             `json:"schemaVersion"`
		MediaType     types.MediaType `json:"mediaType"`
		Manifests     json.RawMessage `json:"manifests"`
		Config        json.RawMessage `json:"config"`
		Layers        json.RawMessage `json:"layers"`
		FSLayers      json.RawMessage `json:"fsLayers"`
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		return nil, errs.New(errs.Invalid, "its manifest is no JSON that we understand: %w", err)
	}
	said, _, _ = strings.Cut(said, ";") // parameters of a Content-Type
	mediaType := d.MediaType
	if mediaType == "" {
		mediaType = types.MediaType(strings.TrimSpace(said))
	}
	list, image := d.Manifests != nil, d.Config != nil || d.Layers != nil
	switch {
	case mediaType.IsSchema1(), d.SchemaVersion == 1, d.FSLayers != nil:
		return nil, errs.New(errs.Invalid, "it is in Docker's old format, schema 1").WithHint("push it again with a current docker or skopeo")
	case list && image:
		return nil, errs.New(errs.Invalid, "its manifest is an index as well")
	case kindOf(mediaType) == indexKind && image, kindOf(mediaType) == manifestKind && list:
		return nil, errs.New(errs.Invalid, "its manifest is not of the type that it has, %q", mediaType)
	case d.MediaType == "" && kindOf(mediaType) == otherKind:
		// Old OCI documents have no type, and plain file servers give them none.
		mediaType = types.OCIManifestSchema1
		if list {
			mediaType = types.OCIImageIndex
		}
	}
	doc := &document{mediaType: mediaType}
	var err error
	switch kindOf(mediaType) {
	case indexKind:
		doc.index = new(v1.IndexManifest)
		err = json.Unmarshal(raw, doc.index)
	case manifestKind:
		doc.manifest = new(v1.Manifest)
		err = json.Unmarshal(raw, doc.manifest)
	default:
		return nil, notImage(mediaType)
	}
	if err != nil {
		return nil, errs.New(errs.Invalid, "its %s is damaged: %w", kindOf(mediaType), err)
	}
	return doc, nil
}

// ErrNotImage is in the chain of an error about something that is no image of a file
// system, such as a chart, a signature or a plugin.
var ErrNotImage error = errs.New(errs.Invalid, "it is not an image")

func notImage(what types.MediaType) error {
	return errs.New(errs.Invalid, "%w but %q", ErrNotImage, Printable(string(what)))
}

// checkManifest returns an error unless m is the manifest of an image that we can
// unpack.
func checkManifest(m *v1.Manifest) error {
	switch what := m.Config.MediaType; {
	case what.IsConfig():
	case m.ArtifactType != "":
		return notImage(types.MediaType(m.ArtifactType))
	case what != "" && what != "application/octet-stream": // old registries forgot it
		return notImage(what)
	}
	if len(m.Layers) > MaxLayers {
		return errs.New(errs.Invalid, "it has %d layers; %d is the most", len(m.Layers), MaxLayers)
	}
	if err := checkDescriptor(m.Config, "config", MaxConfig); err != nil {
		return err
	}
	for _, l := range m.Layers {
		if err := checkLayerType(l.MediaType); err != nil {
			return err
		}
		if err := checkDescriptor(l, "layer", MaxLayer); err != nil {
			return err
		}
	}
	return nil
}

func checkDescriptor(d v1.Descriptor, what string, most int64) error {
	if err := CheckDigest(d.Digest.String()); err != nil {
		return errs.New(errs.Invalid, "its %s: %w", what, err)
	}
	if d.Size < 0 || d.Size > most {
		return errs.New(errs.Invalid, "its %s %s has %d bytes; %d is the most", what, d.Digest, d.Size, most)
	}
	return nil
}

// checkLayerType returns an error unless layers of that type can be had and unpacked.
// An eStargz layer is a gzip one to everybody who does not look for its index.
func checkLayerType(t types.MediaType) error {
	switch t {
	case types.OCILayer, types.OCILayerZStd, types.OCIUncompressedLayer,
		types.DockerLayer, types.DockerUncompressedLayer, dockerLayerZstd:
		return nil
	}
	name := Printable(string(t))
	switch {
	case strings.HasSuffix(string(t), "+encrypted"):
		return errs.New(errs.Invalid, "its layer of type %q is encrypted, which we cannot read", name)
	case !t.IsDistributable() || strings.HasPrefix(string(t), "application/vnd.oci.image.layer.nondistributable."), strings.Contains(string(t), ".foreign."):
		return errs.New(errs.Invalid, "its layer of type %q is not in the registry: its licence forbids that", name)
	}
	return errs.New(errs.Invalid, "%w: its layer is of type %q", ErrNotImage, name)
}

// dockerLayerZstd is what some builders call a zstd layer in Docker's format.
const dockerLayerZstd types.MediaType = "application/vnd.docker.image.rootfs.diff.tar.zstd"

// parseConfig reads the config of an image with that many layers.
func parseConfig(raw []byte, layers int) (*v1.ConfigFile, error) {
	var c v1.ConfigFile
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, errs.New(errs.Invalid, "its config is damaged: %w", err)
	}
	if c.RootFS.Type != "layers" && (c.RootFS.Type != "" || layers > 0) {
		return nil, errs.New(errs.Invalid, "its root file system is of the type %q, which we do not know", Printable(c.RootFS.Type))
	}
	if n := len(c.RootFS.DiffIDs); n != layers {
		return nil, errs.New(errs.Invalid, "it has %d layers, but its config knows %d", layers, n)
	}
	for _, d := range c.RootFS.DiffIDs {
		if err := CheckDigest(d.String()); err != nil {
			return nil, errs.New(errs.Invalid, "its config: %w", err)
		}
	}
	return &c, nil
}
