// Package diskimage makes ext4 file systems in files, without root and without
// mounting anything.
//
// A base disk is a packed, read-only ext4 with the contents of a tar; an empty
// disk is a sparse, writable one. This package is the only place that knows how
// they are made: today hcsshim's converter for the first and mkfs.ext4 for the
// second, one day a writer of our own.
package diskimage

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/Microsoft/hcsshim/ext4/tar2ext4"

	"banger/internal/base/atomicfile"
	"banger/internal/base/errs"
	"banger/internal/vm"
)

// maxDisk bounds a base disk: a tar with more contents is refused.
const maxDisk = 64 * vm.GiB

// FromTar writes the contents of the tar r to path, as an ext4 with no free
// space that is to be mounted read-only, and returns the size of the file. The
// file is new, durable and of mode 0400; after an error it does not exist.
//
// r is read to its end, which must be that of the archive: a tar that is cut off,
// or followed by anything but zeros, is refused. When ctx ends, FromTar returns
// its error after the Read that is under way, which the owner of r must end.
//
// Names are taken as below the root of the file system; parents that are symbolic
// links inside it are followed, missing ones are made. PAX global headers, sockets
// and extended attributes of unknown namespaces are left out. Refused, with
// the entry's name: "..", unknown types, files over 32 GiB, a file or directory
// that replaces one before it, and hard links to nothing.
//
// Limits of the converter: times outside 1970 to 2038 become the nearest one
// inside; attributes of a file over 4 KiB in all are refused, and where several
// do not fit beside the inode (about 90 bytes) the kernel may not find all of
// them; a directory has at most 65,000 subdirectories; a sparse file takes its
// full size; directories have no index, so that one with more than some ten
// thousand files is slow.
func FromTar(ctx context.Context, path string, r io.Reader) (bytes int64, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o400)
	if err != nil {
		return 0, fmt.Errorf("cannot make a disk: %w", err)
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	if err := convert(f, &contextReader{ctx, r}); err != nil {
		return 0, fmt.Errorf("cannot make a disk of the archive: %w", err)
	}
	if err := padInodeBitmaps(f); err != nil {
		return 0, fmt.Errorf("cannot finish the disk: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if err := errors.Join(f.Sync(), atomicfile.SyncDir(filepath.Dir(path))); err != nil {
		return 0, fmt.Errorf("cannot make the disk durable: %w", err)
	}
	return info.Size(), nil
}

// convert runs the filter and the converter side by side.
func convert(f *os.File, r io.Reader) error {
	pr, pw := io.Pipe()
	filtered := make(chan error, 1)
	go func() {
		w := bufio.NewWriterSize(pw, 256<<10)
		err := filter(w, bufio.NewReaderSize(r, 256<<10))
		if err == nil {
			err = w.Flush()
		}
		filtered <- err
		_ = pw.CloseWithError(err) // always nil
	}()
	err := tar2ext4.ConvertTarToExt4(pr, f, tar2ext4.MaximumDiskSize(int64(maxDisk)))
	if err == nil {
		_, err = io.Copy(io.Discard, pr) // the filter has more to check behind the end
	}
	_ = pr.CloseWithError(errConverter) // always nil
	if cause := <-filtered; cause != nil && !errors.Is(cause, errConverter) {
		return cause // the converter has only been told of it
	}
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*os.PathError](err); ok {
		return err // the disk's fault, not the archive's
	}
	return &errs.Error{Kind: errs.Invalid, Err: err}
}

// errConverter ends a filter whose converter has failed.
var errConverter = errors.New("the converter has stopped")

// contextReader fails once its context has ended.
type contextReader struct {
	ctx context.Context //nolint:containedctx // io.Reader has no room for it
	r   io.Reader
}

func (c *contextReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.r.Read(b)
	if ctxErr := c.ctx.Err(); err != nil && ctxErr != nil {
		err = ctxErr // a source that was ended looks cut off; this is why
	}
	return n, err
}
