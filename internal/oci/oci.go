// Package oci is the vocabulary of container images: references, platforms, and the
// documents of an image (index, manifest, config) as the OCI image specification 1.1
// and Docker's manifest format, version 2 schema 2, have them.
//
// The documents are foreign bytes. [Select] walks them from what a reference names
// down to one [Image], whatever the place they come from: package registry brings
// them from a registry, package archive from a file. Every document is held to a size
// and to its digest before it is read, and an Image that Select returns is whole: its
// layers are of types that package unpack can read, and each has its diff id.
//
// Digests are texts, "sha256:" and 64 hexadecimal digits. The specification knows other
// algorithms; nobody publishes images with them, and they are refused by name.
package oci

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"regexp"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"banger/internal/base/errs"
)

// Bounds of an image's documents, in bytes. Registries refuse manifests of more than
// 4 MiB (distribution specification, "Pushing Manifests"); configs have no bound of
// their own.
const (
	MaxManifest = 4 << 20
	MaxConfig   = 8 << 20
)

// Bounds of an image.
const (
	// MaxLayers is four times what Docker builds.
	MaxLayers = 512
	// MaxLayer is the length of the longest layer, in bytes.
	MaxLayer = 1 << 40
	// maxNesting is how many indexes may lie above a manifest.
	maxNesting = 4
	// maxDocuments is how many manifests and indexes are read in search of one.
	maxDocuments = 32
)

// Source opens the bytes of a blob from offset on. It returns the offset at which r
// really starts: at most offset, and 0 where the other side cannot resume. r is bound
// to ctx and is the caller's to close. The bytes are not verified.
type Source func(ctx context.Context, offset int64) (r io.ReadCloser, from int64, err error)

// Image is one image for one platform.
type Image struct {
	// Digest is the manifest's, and MediaType its type.
	Digest, MediaType string
	// Index is the digest of the index that the reference named, or empty if it named
	// the manifest.
	Index string
	// Manifest and RawConfig are the documents, byte for byte.
	Manifest, RawConfig []byte
	// ConfigDigest is what Docker calls the image's id.
	ConfigDigest string
	// Platform is the config's; an image may leave parts of it empty.
	Platform Platform
	// Config is RawConfig, parsed.
	Config v1.ConfigFile
	// Layers are the layers from the lowest to the highest. One may occur twice.
	Layers []Layer
}

// Layer is a tar of changes to the file system below it.
type Layer struct {
	// Digest and Size, in bytes, are those of the blob, which is compressed as
	// MediaType says. In practice the blob's first bytes know better.
	Digest    string
	Size      int64
	MediaType string
	// DiffID is the digest of the tar.
	DiffID string
	// Source opens the blob, or is nil if somebody has it already.
	Source Source
}

// ChainID returns the name of the file system that layers with these diff ids make,
// the lowest first (image specification, config.md, "Layer ChainID"); without any it
// is empty.
func ChainID(diffIDs ...string) string {
	var chain string
	for i, d := range diffIDs {
		if i == 0 {
			chain = d
		} else {
			chain = Digest([]byte(chain + " " + d))
		}
	}
	return chain
}

// Digest returns the digest of b.
func Digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

var digest = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// CheckDigest returns an error, errs.Invalid, unless d is a digest that we use.
func CheckDigest(d string) error {
	if !digest.MatchString(d) {
		return errs.New(errs.Invalid, "%q is no digest", Printable(d)).WithHint(`write "sha256:" and 64 hexadecimal digits in lower case`)
	}
	return nil
}
