package oci

import (
	"encoding/json"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"banger/internal/base/errs"
)

// Media types of layers that [Assemble] is given.
const (
	LayerTar  = string(types.OCIUncompressedLayer)
	LayerGzip = string(types.OCILayer)
	LayerZstd = string(types.OCILayerZStd)
)

// Assemble makes an image of a config and of the layers that the config knows, whose
// diff ids it fills in: the manifest is new, and the same for the same arguments. It
// is how an image gets one whose archive has none. The error is errs.Invalid.
func Assemble(rawConfig []byte, layers []Layer) (*Image, error) {
	config := v1.Hash{}
	if len(rawConfig) > MaxConfig {
		return nil, errs.New(errs.Invalid, "its config has %d bytes; %d is the most", len(rawConfig), MaxConfig)
	}
	var err error
	if config, err = v1.NewHash(Digest(rawConfig)); err != nil {
		return nil, err
	}
	m := &v1.Manifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1,
		Config: v1.Descriptor{MediaType: types.OCIConfigJSON, Size: int64(len(rawConfig)), Digest: config},
		Layers: []v1.Descriptor{}, // never null
	}
	for _, l := range layers {
		hash, err := v1.NewHash(l.Digest)
		if err != nil {
			return nil, errs.New(errs.Invalid, "its layer: %w", err)
		}
		m.Layers = append(m.Layers, v1.Descriptor{MediaType: types.MediaType(l.MediaType), Size: l.Size, Digest: hash})
	}
	if err := checkManifest(m); err != nil {
		return nil, err
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	return newImage(raw, &document{mediaType: m.MediaType, manifest: m}, rawConfig)
}

// New makes an image of layers, each with its DiffID, that runs as config says. The
// config's root file system becomes that of the layers, and its history goes, which
// told of others. The same arguments make the same image, byte for byte.
func New(config v1.ConfigFile, p Platform, layers []Layer) (*Image, error) {
	config.OS, config.Architecture, config.Variant = p.OS, p.Architecture, p.Variant
	config.History = nil
	config.RootFS = v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{}}
	for _, l := range layers {
		hash, err := v1.NewHash(l.DiffID)
		if err != nil {
			return nil, errs.New(errs.Invalid, "the diff id of the layer %s: %w", l.Digest, err)
		}
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, hash)
		config.History = append(config.History, v1.History{Created: config.Created})
	}
	raw, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	return Assemble(raw, slices.Clone(layers))
}
