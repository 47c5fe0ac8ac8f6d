// Package diskimage makes the file systems of VMs in files: a base disk is a packed,
// read-only ext4 with the contents of a tar; an empty disk is a sparse, writable
// one. Package ext4 writes them; what is here is what banger wants of them.
package diskimage

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"banger/ext4"
	"banger/internal/base/atomicfile"
	"banger/internal/base/errs"
	"banger/internal/vm"
)

// FromTar is FromLayers for one tar.
func FromTar(ctx context.Context, path string, r io.Reader) (bytes int64, err error) {
	return FromLayers(ctx, path, r)
}

// FromLayers writes what the layers of an image make together, the lowest first, to
// path, as an ext4 with no free space that is to be mounted read-only, and returns
// the size of the file. The file is new, durable and of mode 0400; after an error it
// does not exist. The same contents give the same file, byte for byte.
//
// Layers are tars in which whiteouts remove what is below; what they may hold, and
// what is refused with the entry's name, is said at [ext4.Builder.Layers]. Each is
// read to its end, which must be that of the archive, and several at the same time.
// An archive that cannot be is errs.Invalid; failures of the readers and of the
// disk are as they are. When ctx ends, or a layer is refused, FromLayers returns after
// the Reads that are under way, which the owner of the readers must end.
func FromLayers(ctx context.Context, path string, layers ...io.Reader) (bytes int64, err error) {
	err = create(path, 0o400, func(f *os.File) error {
		src := make([]io.Reader, len(layers))
		for i, r := range layers {
			src[i] = &source{ctx: ctx, r: r}
		}
		if err := build(f, src); err != nil {
			return fmt.Errorf("cannot make a disk of the archive: %w", judge(err, src))
		}
		info, err := f.Stat()
		if err != nil {
			return err
		}
		bytes = info.Size()
		return nil
	})
	return bytes, err
}

// maxMemory bounds what an archive can make us remember: some 400,000 files, for which the
// process takes less than 150 MB in all.
const maxMemory = 128 << 20

// build takes one tar as a layer, too: what a digest names must not depend on how
// it came.
func build(f *os.File, layers []io.Reader) error {
	defer holdMemory()()
	b, err := ext4.NewBuilder(&writeout{File: f}, &ext4.Options{MaxMemory: maxMemory})
	if err != nil {
		return err
	}
	if err := b.Layers(layers...); err != nil {
		return err
	}
	return b.Finish()
}

// Empty makes an empty ext4 of that size at path, as a new sparse file of mode
// 0600 that takes some hundred KiB on the host. It is durable, and nothing is left
// for the guest's kernel to initialise. label is at most 16 bytes. After an error the
// file does not exist.
func Empty(ctx context.Context, path string, size vm.Size, label string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return create(path, 0o600, func(f *os.File) error {
		o := ext4.Options{Size: int64(size), Label: label, Time: time.Now()}
		_, _ = rand.Read(o.UUID[:])       // never fails
		o.UUID[6] = o.UUID[6]&0x0f | 0x40 // version 4, RFC 9562 section 5.4
		o.UUID[8] = o.UUID[8]&0x3f | 0x80
		if err := ext4.Format(f, &o); err != nil {
			return fmt.Errorf("cannot make a disk of %s: %w", size, err)
		}
		return nil
	})
}

// create makes a file that does not exist yet, and leaves none after an error.
func create(path string, mode os.FileMode, write func(*os.File) error) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("cannot make a disk: %w", err)
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	if err := write(f); err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), atomicfile.SyncDir(filepath.Dir(path))); err != nil {
		return fmt.Errorf("cannot make the disk durable: %w", err)
	}
	return nil
}

// source is an archive that fails once its context has ended, and remembers how it
// failed. The goroutine that reads it has ended when the builder returns.
type source struct {
	ctx context.Context //nolint:containedctx // io.Reader has no room for it
	r   io.Reader
	err error
}

func (s *source) Read(b []byte) (int, error) {
	if s.err = s.ctx.Err(); s.err != nil {
		return 0, s.err
	}
	n, err := s.r.Read(b)
	if ctxErr := s.ctx.Err(); err != nil && ctxErr != nil {
		err = ctxErr // a source that was ended looks cut off; this is why
	}
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// judge says whose fault an error is. Those of the disk come from an os.File, and
// are PathErrors; all that neither it nor a source did, an archive did.
func judge(err error, sources []io.Reader) error {
	for _, r := range sources {
		if s := r.(*source); s.err != nil && errors.Is(err, s.err) {
			return err
		}
	}
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return err
	}
	return &errs.Error{Kind: errs.Invalid, Err: err}
}
