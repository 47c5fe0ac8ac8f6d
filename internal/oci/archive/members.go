package archive

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"path"
	"strings"

	"banger/internal/base/errs"
	"banger/internal/oci"
	"banger/internal/oci/unpack"
)

// blob is a member that is with the Put.
type blob struct {
	digest string
	size   int64
	format unpack.Format
}

// members is what a tar has, by clean path.
type members struct {
	documents map[string][]byte
	blobs     map[string]blob
	// links are the targets of links, by their paths: old archives have a layer that
	// two images share once, and a link to it.
	links map[string]string
	// room is how many bytes of documents there may still be.
	room int64
}

func newMembers(room int64) *members {
	return &members{documents: map[string][]byte{}, blobs: map[string]blob{}, links: map[string]string{}, room: room}
}

// read reads a tar to its end.
func (m *members) read(ctx context.Context, r io.Reader, put Put) error {
	archive := tar.NewReader(r)
	for n := 0; ; n++ {
		h, err := archive.Next()
		switch {
		case errors.Is(err, io.EOF):
			// A checksum, if any, comes behind the end of the tar.
			_, err := io.Copy(io.Discard, r)
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return tarError(err)
		case n == maxMembers:
			return errs.New(errs.Invalid, "the archive has more than %d members", maxMembers)
		}
		if err := m.add(ctx, h, content{archive}, put); err != nil {
			return err
		}
	}
}

// tarError returns an error of a tar's reader with a kind, if it is about the tar.
func tarError(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || strings.HasPrefix(err.Error(), "archive/tar:") {
		return errs.New(errs.Invalid, "the archive is no tar, or is damaged: %w", err)
	}
	return err
}

// content is that of a member.
type content struct{ r io.Reader }

func (c content) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = tarError(err)
	}
	return n, err
}

func (m *members) add(ctx context.Context, h *tar.Header, r io.Reader, put Put) error {
	name := path.Clean(strings.TrimLeft(h.Name, "/"))
	if len(name) > maxName {
		return errs.New(errs.Invalid, "the archive has a name of %d bytes; %d is the most", len(name), maxName)
	}
	switch {
	case !wanted(name):
	case h.Typeflag == tar.TypeLink:
		m.links[name] = path.Clean(strings.TrimLeft(h.Linkname, "/"))
	case h.Typeflag == tar.TypeSymlink:
		m.links[name] = path.Join(path.Dir(name), h.Linkname)
	case h.Typeflag != tar.TypeReg || h.Size == 0:
	case isSparse(h):
		// A few bytes could stand for any number of zeros.
		return errs.New(errs.Invalid, "the archive's member %q is sparse, which we do not read", oci.Printable(name))
	default:
		delete(m.documents, name) // the last one of a name counts
		delete(m.blobs, name)
		if err := m.addFile(ctx, name, h.Size, r, put); err != nil {
			return err
		}
	}
	return nil
}

// wanted says whether an image may need a member: not what is of a file system that
// somebody took for an image.
func wanted(name string) bool {
	dir, base := path.Split(name)
	switch {
	case dir == "": // index.json, manifest.json, <digest>.json, <digest>.tar.gz
		return base != "oci-layout" && base != "repositories"
	case strings.Count(dir, "/") == 1: // <id>/layer.tar
		return base == "layer.tar"
	}
	algorithm, _ := strings.CutPrefix(dir, "blobs/")
	return algorithm == "sha256/"
}

func isSparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return h.Typeflag == tar.TypeGNUSparse
}

func (m *members) addFile(ctx context.Context, name string, size int64, r io.Reader, put Put) error {
	in := bufio.NewReader(r)
	head, err := in.Peek(64)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	var all io.Reader = in
	// Documents are objects and lists, and few tars begin with a name that looks so.
	if text := bytes.TrimLeft(head, " \t\r\n"); len(text) > 0 && (text[0] == '{' || text[0] == '[') && size <= oci.MaxConfig {
		if size > m.room {
			return errs.New(errs.Invalid, "the archive has more than %d bytes of documents", maxDocuments)
		}
		raw, err := io.ReadAll(in)
		if err != nil {
			return err
		}
		if json.Valid(raw) {
			return m.addDocument(name, raw)
		}
		all = bytes.NewReader(raw)
	}
	format := unpack.Detect(head[:min(len(head), unpack.HeadLen)]) // reading on overwrites head
	if size > oci.MaxLayer {
		return errs.New(errs.Invalid, "the archive's member %q has %d bytes; %d is the most", oci.Printable(name), size, int64(oci.MaxLayer))
	}
	digest, n, err := put(ctx, all, size)
	if err != nil {
		return err
	}
	if n != size {
		return errs.New(errs.Internal, "%d bytes of %d of the archive's member %q were kept", n, size, oci.Printable(name))
	}
	if err := checkName(name, digest); err != nil {
		return err
	}
	m.blobs[name] = blob{digest: digest, size: n, format: format}
	return nil
}

func (m *members) addDocument(name string, raw []byte) error {
	m.room -= int64(len(raw))
	if err := checkName(name, oci.Digest(raw)); err != nil {
		return err
	}
	m.documents[name] = raw
	return nil
}

// checkName returns an error if a member's name is a digest and not its own.
func checkName(name, digest string) error {
	hex := strings.TrimPrefix(digest, "sha256:")
	dir, base := path.Split(name)
	said, isJSON := strings.CutSuffix(base, ".json")
	if dir == "blobs/sha256/" && base != hex ||
		dir == "" && isJSON && oci.CheckDigest("sha256:"+said) == nil && said != hex {
		return errs.New(errs.Invalid, "the archive is damaged: its member %q has the digest %s", oci.Printable(name), digest)
	}
	return nil
}

// maxLinks is how many links may lead from one to the next.
const maxLinks = 16

// follow returns the path that a path leads to.
func (m *members) follow(name string) string {
	name = path.Clean(strings.TrimLeft(name, "/"))
	for range maxLinks {
		target, ok := m.links[name]
		if !ok {
			break
		}
		name = target
	}
	return name
}

// images returns the images of a tar that is read.
func (m *members) images(ctx context.Context, p oci.Platform) ([]*Image, error) {
	index, isLayout := m.documents[indexFile]
	list, isDocker := m.documents[manifestFile]
	switch {
	case isLayout:
		images, err := layoutImages(ctx, index, p, m)
		if err == nil && isDocker {
			addTags(images, list)
		}
		return images, err
	case isDocker:
		return m.dockerImages(list, p)
	}
	return nil, errs.New(errs.Invalid, "it is no image archive: it has neither an index.json nor a manifest.json").
		WithHint("archives are made by docker save, podman save or skopeo copy; a root file system is imported as such")
}
