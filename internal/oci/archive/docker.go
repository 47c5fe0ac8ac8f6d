package archive

import (
	"encoding/json"

	"github.com/google/go-containerregistry/pkg/v1/types"

	"banger/internal/base/errs"
	"banger/internal/oci"
	"banger/internal/oci/unpack"
)

const indexType = types.OCIImageIndex

// dockerImage is an entry of manifest.json (Docker's image specification 1.2,
// "Combined Image JSON + Filesystem Changeset Format").
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func parseDockerImages(raw []byte) ([]dockerImage, error) {
	var all []dockerImage
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, errs.New(errs.Invalid, "the %s is damaged: %w", manifestFile, err)
	}
	if len(all) == 0 || len(all) > maxImages {
		return nil, errs.New(errs.Invalid, "there are %d images in the archive; it must be 1 to %d", len(all), maxImages)
	}
	return all, nil
}

// dockerImages returns the images of an archive that is no layout. They have no
// manifests; those that we make are the same for the same archive.
func (m *members) dockerImages(raw []byte, p oci.Platform) ([]*Image, error) {
	all, err := parseDockerImages(raw)
	if err != nil {
		return nil, err
	}
	var images []*Image
	var other error
	for _, d := range all {
		i := &Image{}
		for _, t := range d.RepoTags {
			i.addName(t)
		}
		i.Image, err = m.dockerImage(d, p)
		switch {
		case errs.KindOf(err) == errs.NotFound:
			if other == nil {
				other = err
			}
			continue
		case err != nil:
			name := d.Config
			if len(i.Names) > 0 {
				name = i.Names[0]
			}
			return nil, errs.New(errs.KindOf(err), "the image %q: %w", oci.Printable(name), err)
		}
		images = append(images, i)
	}
	if len(images) == 0 {
		return nil, other
	}
	return images, nil
}

func (m *members) dockerImage(d dockerImage, p oci.Platform) (*oci.Image, error) {
	config, ok := m.documents[m.follow(d.Config)]
	if !ok {
		return nil, errs.New(errs.Invalid, "the archive does not have its config %q", oci.Printable(d.Config))
	}
	var layers []oci.Layer
	for _, name := range d.Layers {
		b, ok := m.blobs[m.follow(name)]
		if !ok {
			return nil, errs.New(errs.Invalid, "the archive does not have its layer %q", oci.Printable(name))
		}
		mediaType, ok := layerTypes[b.format]
		if !ok {
			return nil, errs.New(errs.Invalid, "its layer %q is compressed with %s, which layers are not", oci.Printable(name), b.format)
		}
		layers = append(layers, oci.Layer{Digest: b.digest, Size: b.size, MediaType: mediaType})
	}
	img, err := oci.Assemble(config, layers)
	if err != nil {
		return nil, err
	}
	if err := img.CheckPlatform(p); err != nil {
		return nil, err
	}
	for i, l := range img.Layers {
		if m.blobs[m.follow(d.Layers[i])].format == unpack.Plain && l.DiffID != l.Digest {
			return nil, errs.New(errs.Invalid, "its layer %q is damaged: its digest is %s, not %s", oci.Printable(d.Layers[i]), l.Digest, l.DiffID)
		}
	}
	return img, nil
}

// layerTypes are the types of layers by what their bytes say.
var layerTypes = map[unpack.Format]string{unpack.Plain: oci.LayerTar, unpack.Gzip: oci.LayerGzip, unpack.Zstd: oci.LayerZstd}

// addTags gives the images of a layout the names that Docker's list has for them. It is
// beside the layout, so that nothing depends on it.
func addTags(images []*Image, raw []byte) {
	all, err := parseDockerImages(raw)
	if err != nil {
		return
	}
	for _, d := range all {
		for _, i := range images {
			if d.Config == blobPath(i.ConfigDigest) {
				for _, t := range d.RepoTags {
					i.addName(t)
				}
			}
		}
	}
}
