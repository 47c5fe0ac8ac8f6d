package vm

// ImageOrigin says which OCI image a base disk was made of.
type ImageOrigin struct {
	// Reference is the image's in its registry, in canonical form; empty for one that
	// came as an archive.
	Reference string `json:"reference,omitempty"`
	// Manifest is the digest of the image's manifest, and Index that of the index in
	// which it was found, if there was one.
	Manifest string `json:"manifest_digest"`
	Index    string `json:"index_digest,omitempty"`
	// ConfigDigest is what Docker calls the image's id.
	ConfigDigest string `json:"config_digest"`
	// MediaType is the manifest's.
	MediaType string `json:"media_type"`
	// Platform is such as "linux/amd64".
	Platform string `json:"platform"`
	// Layers are from the lowest to the highest.
	Layers []ImageLayer `json:"layers"`
}

// ImageLayer is a layer of an OCI image.
type ImageLayer struct {
	// Digest and Size, in bytes, are the blob's as the registry has it.
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
	MediaType string `json:"media_type"`
	// DiffID is the digest of the tar in it.
	DiffID string `json:"diff_id"`
}

// ImageDocuments are an OCI image's manifest and config, byte for byte.
type ImageDocuments struct {
	Manifest, Config []byte
}
