package blobs

import (
	"context"
	"errors"
	"hash"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"banger/internal/base/errs"
	"banger/internal/base/progress"
)

// Open returns a reader of the blob d, from its first byte. If the blob is not in
// the store it is downloaded from src, and the reader follows the download: any
// number of readers share one, each at its own pace. With a nil src a blob that is
// not there is a NotFound error. p is told of the bytes that have come, not of those
// that are read.
//
// Read hashes what it returns. The last byte and [io.EOF] come only when the blob is
// known to be right and is durable in the store. An error of Read is final, and is
// [ErrDamaged] if the caller is to begin again with another Open; [ErrMismatch] if
// the source's bytes are wrong, or if the blob has another size than d.Size, which
// is Invalid; and else the source's last word, or the disk's.
//
// When ctx ends, so does the reading. A download goes on, with the src of the
// opener that began it, until all its readers are closed or their contexts have
// ended; what has come is kept for the next. The caller closes the reader, which
// waits until a download that nobody else follows has stopped. Close may be called
// while a Read is under way.
func (s *Store) Open(ctx context.Context, d Descriptor, src Source, p progress.Func) (io.ReadCloser, error) {
	dg, err := d.parse()
	if err != nil {
		return nil, err
	}
	sh, err := s.enter(dg)
	if err != nil {
		return nil, err
	}
	r := &reader{s: s, d: d, dg: dg, sh: sh, sum: dg.hash(), ended: make(chan struct{})}
	r.ctx, r.cancel = context.WithCancel(ctx)
	if err := r.begin(src, p); err != nil {
		r.cancel()
		s.leave(dg)
		return nil, err
	}
	return r, nil
}

// Fetch brings the blob d into the store, if it is not there: [Store.Open] without a
// reader. A blob that is there is not read, only measured: who opens it verifies it.
func (s *Store) Fetch(ctx context.Context, d Descriptor, src Source, p progress.Func) error {
	dg, err := d.parse()
	if err != nil {
		return err
	}
	sh, err := s.enter(dg)
	if err != nil {
		return err
	}
	defer s.leave(dg)
	f, _, err := s.openStored(d, dg, p)
	switch {
	case err != nil:
		return err
	case f != nil:
		return f.Close()
	case src == nil:
		return notThere(dg)
	}
	res, err := s.ride(ctx, d, dg, sh, src, p)
	if err == nil && !d.fits(res.size) {
		err = wrongSize(d, res.size)
	}
	return err
}

func notThere(dg digest) error {
	return errs.New(errs.NotFound, "%s is not among the downloads", dg)
}

// openStored opens a blob that is there and has d's size, marks it as used and tells
// p. The file is nil if there is none.
func (s *Store) openStored(d Descriptor, dg digest, p progress.Func) (f *os.File, size int64, err error) {
	f, err = os.Open(s.blob(dg))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil || !d.fits(info.Size()) {
		return nil, 0, errors.Join(err, f.Close())
	}
	if err := os.Chtimes(f.Name(), time.Time{}, time.Now()); err != nil {
		s.o.Log.Debug("cannot mark a blob as used", "blob", dg.String(), "err", err)
	}
	m := newMeter(p, d, dg)
	m.end(info.Size())
	return f, info.Size(), nil
}

// reader reads one blob from its start: from the partial while it grows, then, or
// from the first, from the blob.
type reader struct {
	s      *Store
	d      Descriptor
	dg     digest
	sh     *shared
	ctx    context.Context //nolint:containedctx // it ends with the reader
	cancel context.CancelFunc

	// ended is closed when the blob is there or the download has failed, and res and
	// failed are set.
	ended  chan struct{}
	res    result
	failed error

	mu   sync.Mutex // Read and the end of Close
	file *os.File
	gen  int // what file is an opening of
	pos  int64
	sum  hash.Hash // of the first pos bytes
	err  error     // what all further calls of Read return
	shut bool
}

// begin opens the blob, or boards its download.
func (r *reader) begin(src Source, p progress.Func) error {
	f, size, err := r.s.openStored(r.d, r.dg, p)
	switch {
	case err != nil:
		return err
	case f != nil:
		r.file, r.res.size = f, size
		close(r.ended)
		return nil
	case src == nil:
		return notThere(r.dg)
	}
	return r.s.spawn(func() {
		defer close(r.ended)
		r.res, r.failed = r.s.ride(r.ctx, r.d, r.dg, r.sh, src, p)
		if r.failed == nil && !r.d.fits(r.res.size) {
			r.failed = wrongSize(r.d, r.res.size)
		}
	})
}

// Read is as [Store.Open] says.
func (r *reader) Read(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil || len(b) == 0 {
		return 0, r.err
	}
	n, err := r.read(b)
	if err != nil {
		r.err = err
	}
	return n, err
}

func (r *reader) read(b []byte) (int, error) {
	for {
		n, last, err := r.next()
		if err != nil {
			return 0, err
		}
		part := b[:min(int64(len(b)), n)]
		got, err := r.file.ReadAt(part, r.pos)
		if !last && r.sh.generation() != r.gen {
			continue // these may be bytes of the next file
		}
		if got < len(part) {
			return 0, r.damaged(err)
		}
		_, _ = r.sum.Write(part) // never fails
		r.pos += int64(got)
		if !last || int64(got) < n {
			return got, nil
		}
		if !r.dg.matches(r.sum) {
			return 0, r.damaged(errors.New("another digest"))
		}
		r.err = io.EOF
		if got == 0 {
			return 0, io.EOF
		}
		return got, nil
	}
}

// next waits for bytes beyond pos that can be read from file. It returns how many
// there are, and whether the blob ends with them. Until the download has ended well
// the last byte is held back, so that nobody has all of a wrong blob.
func (r *reader) next() (n int64, last bool, err error) {
	for {
		if err := r.ctx.Err(); err != nil {
			return 0, false, err
		}
		select {
		case <-r.ended:
			n, err := r.settle()
			return n, true, err
		default:
		}
		have, gen, grown := r.sh.look()
		if r.pos > 0 && gen != r.gen {
			return 0, false, r.again()
		}
		if r.d.Size >= 0 { // who began the download may have announced another size
			have = min(have, r.d.Size)
		}
		if n := have - 1 - r.pos; n > 0 {
			err := r.open(r.s.partial, gen)
			if err == nil {
				return n, false, nil
			}
			if !errors.Is(err, fs.ErrNotExist) {
				return 0, false, err
			}
			grown = nil // it has just become a blob, or gone: the download is about to end
		}
		select {
		case <-grown:
		case <-r.ended:
		case <-r.ctx.Done():
		}
	}
}

// settle returns how many bytes are left of a blob that is there.
func (r *reader) settle() (int64, error) {
	switch {
	case r.failed != nil:
		return 0, r.failed
	case r.pos > 0 && r.gen != r.res.gen:
		return 0, r.again()
	}
	err := r.open(r.s.blob, r.res.gen)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, r.again() // another reader has found it damaged
	}
	return r.res.size - r.pos, err
}

// open makes file an opening of gen, which is where path says.
func (r *reader) open(path func(digest) string, gen int) error {
	if r.file != nil && r.gen == gen {
		return nil
	}
	f, err := os.Open(path(r.dg))
	if err != nil {
		return err
	}
	if r.file != nil {
		_ = r.file.Close() // it was only read
	}
	r.file, r.gen = f, gen
	return nil
}

// damaged removes the blob, of which wrong bytes have been read.
func (r *reader) damaged(why error) error {
	r.s.o.Log.Warn("a blob is damaged, and is removed", "blob", r.dg.String(), "why", why)
	r.s.discard(r.dg, r.file)
	return r.again()
}

func (r *reader) again() error {
	return errs.New(errs.Unavailable, "cannot read %s: %w", r.dg, ErrDamaged).WithHint("try again: it is downloaded once more")
}

// Close is as [Store.Open] says.
func (r *reader) Close() error {
	r.cancel()
	<-r.ended
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.shut {
		return nil
	}
	r.shut, r.err = true, fs.ErrClosed
	var err error
	if r.file != nil {
		err = r.file.Close()
	}
	r.s.leave(r.dg)
	return err
}
