// Package archive reads and writes images in files: OCI image layouts (image
// specification 1.1, image-layout.md), as folders and as tars, and the tars of "docker
// save" in their old form and in their new one, which is a layout too.
//
// A tar is read once, from its start to its end, whatever the order of its members: the
// documents are kept in memory, which is bounded, and all else goes to a [Put], which
// keeps it. Nothing is written under a name that an archive has.
package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"banger/internal/base/errs"
	"banger/internal/oci"
	"banger/internal/oci/unpack"
)

// Put keeps the bytes of r, of which there must not be more than limit, and returns
// their digest, "sha256:…", and their number. What it has kept for a reading that
// fails, or that no image has as a layer, is its owner's to throw away.
type Put func(ctx context.Context, r io.Reader, limit int64) (digest string, size int64, err error)

// Image is an image of an archive. Its layers are with the Put and have no Source.
type Image struct {
	*oci.Image
	// Names are what the archive calls it: references in canonical form, or whatever
	// else stands in their place, such as a tag alone. It may have none.
	Names []string
}

// Options say what is read of an archive.
type Options struct {
	// Platform is the one whose images are wanted.
	Platform oci.Platform
	// Budget bounds the archive when decompressed; nil is no bound.
	Budget *unpack.Budget
}

// Bounds of an archive.
const (
	maxMembers   = 1 << 16
	maxImages    = 1 << 10
	maxDocuments = 16 << 20 // bytes of all documents together
	maxName      = 4096     // bytes of a member's name
)

// Read reads the tar r, which may be compressed, and returns its images for the
// platform: one at least. It reads r to its end.
//
// The error is errs.NotFound if there are only images for others, and errs.Invalid
// for an archive that is none, or is damaged, or has images that we cannot use. Errors
// of r and of put come as they are. When ctx ends, Read returns after the Read of r that
// is under way, which r's owner must end.
func Read(ctx context.Context, r io.Reader, o Options, put Put) ([]*Image, error) {
	if o.Budget != nil {
		r = o.Budget.Earn(r)
	}
	stream, err := unpack.Decompress(ctx, r, 0)
	if err != nil {
		return nil, err
	}
	var plain io.Reader = stream
	if o.Budget != nil {
		plain = o.Budget.Spend(plain)
	}
	members := newMembers(maxDocuments)
	if err := errors.Join(members.read(ctx, plain, put), stream.Close()); err != nil {
		return nil, err
	}
	return members.images(ctx, o.Platform)
}

// Choose returns the image that name means: one of an image's names, in any form of a
// reference, the digest of its manifest, or its id. An empty name means the only image.
// The error lists what there is; it is errs.NotFound if there is no such image, and
// errs.Invalid if there are several.
func Choose(images []*Image, name string) (*Image, error) {
	var found []*Image
	for _, i := range images {
		if name == "" || i.is(name) {
			found = append(found, i)
		}
	}
	var names []string
	for _, i := range images {
		names = append(names, i.name())
	}
	const hint = "name one of them"
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return nil, errs.New(errs.Invalid, "there are several images in the archive: %s", list(names)).WithHint(hint)
	case len(images) == 0:
		return nil, errs.New(errs.NotFound, "there is no image in the archive")
	}
	return nil, errs.New(errs.NotFound, "there is no image %q in the archive, but %s", oci.Printable(name), list(names)).WithHint(hint)
}

func (i *Image) is(name string) bool {
	if name == i.Digest || name == i.ConfigDigest || name == i.Index || slices.Contains(i.Names, name) {
		return true
	}
	ref, err := oci.ParseReference(name)
	return err == nil && slices.Contains(i.Names, ref.String())
}

// name returns what people call an image.
func (i *Image) name() string {
	var names []string
	for _, n := range i.Names {
		if ref, err := oci.ParseReference(n); err == nil && ref.String() == n {
			n = ref.Familiar()
		}
		names = append(names, oci.Printable(n))
	}
	if len(names) == 0 {
		return i.Digest
	}
	return strings.Join(names, " = ")
}

func list(names []string) string {
	const most = 24
	if n := len(names) - most; n > 0 {
		names = append(names[:most:most], fmt.Sprintf("%d more", n))
	}
	return strings.Join(names, ", ")
}

// addName adds a name that an archive has for an image, in canonical form if it is a
// whole reference.
func (i *Image) addName(name string) {
	if name == "" {
		return
	}
	if ref, err := oci.ParseReference(name); err == nil && strings.ContainsAny(name, "/:") {
		name = ref.String()
	}
	if !slices.Contains(i.Names, name) {
		i.Names = append(i.Names, name)
	}
}
