package archive

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"path"
	"regexp"
	"strings"

	"banger/internal/oci/unpack"
)

// Kind is what a file is.
type Kind string

// The kinds of files.
const (
	// Unknown is no tar, or nothing at all.
	Unknown Kind = "unknown"
	// ImageArchive is what [Read] reads.
	ImageArchive Kind = "image archive"
	// RootFS is any other tar.
	RootFS Kind = "root file system"
)

// SniffSize is the size of the buffer that Sniff needs, in bytes: one block of zstd or
// xz may have to come before any of its contents can be seen.
const SniffSize = 512 << 10

// imageMember matches names that members of image archives have and files at the top
// of a root file system have not.
var imageMember = regexp.MustCompile(`^(blobs(/sha256(/[0-9a-f]{64})?|/sha512(/[0-9a-f]{128})?)?|index\.json|oci-layout|manifest\.json|repositories|` +
	`[0-9a-f]{64}(/(VERSION|json|layer\.tar))?|(sha256:)?[0-9a-f]{64}(\.json|\.tar|\.tar\.gz)?)$`)

// Sniff says what r is, by the names of the first members that are in its buffer, which
// is to be of [SniffSize] or more. Nothing is consumed. The error is r's.
func Sniff(ctx context.Context, r *bufio.Reader) (Kind, error) {
	head, err := r.Peek(r.Size())
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
		return Unknown, err
	}
	plain, err := unpack.Decompress(ctx, bytes.NewReader(head), 0)
	if err != nil {
		return Unknown, err
	}
	defer plain.Close() //nolint:errcheck // it is only read
	kind := Unknown
	// What breaks off breaks off because we have no more of it.
	for archive, n := tar.NewReader(plain), 0; n < maxMembers; n++ {
		h, err := archive.Next()
		if err != nil {
			return kind, ctx.Err()
		}
		name := path.Clean(strings.TrimLeft(h.Name, "/"))
		switch {
		case name == "." || h.Typeflag == tar.TypeXGlobalHeader:
			continue
		case !imageMember.MatchString(name):
			return RootFS, nil
		}
		kind = ImageArchive
	}
	return kind, nil
}
