package debian

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/mikelolasagasti/xz"
)

// Bounds of one package's content. Debian's largest packages unpack to a few GiB.
const (
	maxEntries = 1 << 20
	maxContent = 16 << 30
	// maxWindow bounds the memory of a zstd or xz decoder.
	maxWindow = 128 << 20
)

// WalkDeb calls each for every entry of the data archive of the package file r
// (deb(5)), in the order of the archive. The header's name is a clean relative
// path ("boot/vmlinuz", "." for the top); each may leave content unread. Link
// targets are as in the package and not to be trusted.
func WalkDeb(r io.Reader, each func(*tar.Header, io.Reader) error) error {
	name, data, err := findData(r)
	if err != nil {
		return err
	}
	plain, done, err := decompress(name, data)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	defer done()
	archive := tar.NewReader(&bounded{r: plain, left: maxContent})
	for n := 0; ; n++ {
		h, err := archive.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("%s: %w", name, err)
		case n == maxEntries:
			return fmt.Errorf("%s has more than %d entries", name, maxEntries)
		}
		h.Name = path.Clean(strings.TrimPrefix(h.Name, "/"))
		if !fs.ValidPath(h.Name) {
			return fmt.Errorf("%s: the name %q leads out of the package", name, h.Name)
		}
		if err := each(h, archive); err != nil {
			return err
		}
	}
}

// arHeader is the length of a member's header in ar(5).
const arHeader = 60

// findData returns the package's member data.tar.*, and its name.
func findData(r io.Reader) (string, io.Reader, error) {
	magic := make([]byte, 8)
	if _, err := io.ReadFull(r, magic); err != nil || string(magic) != "!<arch>\n" {
		return "", nil, errors.New("it is no package: it does not begin as an ar archive")
	}
	header := make([]byte, arHeader)
	for range 16 { // real packages have three members
		if _, err := io.ReadFull(r, header); err != nil {
			return "", nil, fmt.Errorf("it is no package: it has no data.tar: %w", err)
		}
		name := strings.TrimRight(strings.TrimRight(string(header[:16]), " "), "/")
		size, err := strconv.ParseInt(string(bytes.TrimRight(header[48:58], " ")), 10, 64)
		if err != nil || size < 0 || string(header[58:]) != "`\n" {
			return "", nil, fmt.Errorf("it is no package: the header of its member %q is damaged", name)
		}
		if strings.HasPrefix(name, "data.tar") {
			return name, io.LimitReader(r, size), nil
		}
		if _, err := io.CopyN(io.Discard, r, size+size%2); err != nil {
			return "", nil, fmt.Errorf("it is no package: its member %q breaks off: %w", name, err)
		}
	}
	return "", nil, errors.New("it is no package: it has too many members")
}

// decompress undoes the compression that the file's name tells. The caller calls
// done when it has finished reading.
func decompress(name string, r io.Reader) (plain io.Reader, done func(), err error) {
	none := func() {}
	switch path.Ext(name) {
	case ".tar":
		return r, none, nil
	case ".xz":
		plain, err = xz.NewReader(r, maxWindow)
		return plain, none, err
	case ".gz":
		plain, err = gzip.NewReader(r)
		return plain, none, err
	case ".zst":
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, nil, err
		}
		return z, z.Close, nil
	}
	return nil, nil, errors.New("unknown compression")
}
