package blobs

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"

	"banger/internal/base/atomicfile"
	"banger/internal/base/errs"
	"banger/internal/base/progress"
)

// chunk is how many bytes are read, hashed and written at a time.
const chunk = 128 << 10

// download is one blob on its way into the store. One goroutine owns it.
type download struct {
	s   *Store
	d   Descriptor
	dg  digest
	src Source
	sh  *shared

	file  *os.File
	sum   hash.Hash
	buf   []byte
	meter meter
	// at is how many bytes are in the file, have been hashed and can be read.
	at int64
	// mixed says that not all bytes came in one piece from the source: if they are
	// wrong, what was there before may be to blame.
	mixed bool
}

// ride waits for the download of a blob, its own or that of another user of the
// digest. If another's fails, this one's source has its turn: it may know better.
func (s *Store) ride(ctx context.Context, d Descriptor, dg digest, sh *shared, src Source, p progress.Func) (result, error) {
	for {
		var own atomic.Bool
		res, err := s.flights.Do(ctx, dg.String(), p, func(ctx context.Context, p progress.Func) (result, error) {
			own.Store(true)
			return s.download(ctx, d, dg, sh, src, p)
		})
		if err == nil || own.Load() || ctx.Err() != nil || errors.Is(err, context.Canceled) || full(err) {
			return res, err
		}
	}
}

// download brings a blob into the store, or finds that it is there.
func (s *Store) download(ctx context.Context, d Descriptor, dg digest, sh *shared, src Source, p progress.Func) (result, error) {
	size, err := s.settle(ctx, d, dg)
	if err == nil {
		return result{size, sh.generation()}, nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		dl := &download{s: s, d: d, dg: dg, src: src, sh: sh, sum: dg.hash(), buf: make([]byte, chunk), meter: newMeter(p, d, dg)}
		if err = dl.run(ctx); err == nil {
			s.enforce()
			return result{dl.at, sh.generation()}, nil
		}
	}
	if ctx.Err() != nil {
		return result{}, ctx.Err()
	}
	return result{}, s.explain(dg, err)
}

// explain names the blob in an error, and says what can be done about it.
func (s *Store) explain(dg digest, err error) error {
	if full(err) {
		return s.tellFull("download "+dg.String(), err)
	}
	kind, hint := errs.KindOf(err), ""
	_, known := errors.AsType[*errs.Error](err)
	_, source := errors.AsType[*sourceError](err)
	switch {
	case known, kind == errs.Canceled:
	case errors.Is(err, ErrMismatch):
		kind, hint = errs.Unavailable, "try again later: the server, or a proxy before it, does not send what it should"
	case source:
		hint = "check the network, then try again: what has come is kept"
		if kind == errs.Internal {
			kind = errs.Unavailable
		}
	}
	return errs.New(kind, "cannot download %s: %w", dg, err).WithHint("%s", hint)
}

// settle returns the size of a blob that is there. One of another size than d's is
// hashed to find out whether the file or the descriptor is wrong: the file is
// removed, and the descriptor is an Invalid error. [fs.ErrNotExist] says that there
// is none.
func (s *Store) settle(ctx context.Context, d Descriptor, dg digest) (int64, error) {
	f, err := os.Open(s.blob(dg))
	if err != nil {
		return 0, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if d.fits(info.Size()) {
		return info.Size(), nil
	}
	sum := dg.hash()
	_, err = io.Copy(sum, &untilDone{ctx, f})
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	if err == nil && dg.matches(sum) {
		return 0, wrongSize(d, info.Size())
	}
	s.discard(dg, f)
	return 0, fs.ErrNotExist
}

func wrongSize(d Descriptor, n int64) error {
	return errs.New(errs.Invalid, "%s has %d bytes, and %d were announced: %w", d.Digest, n, d.Size, ErrMismatch)
}

func (dl *download) run(ctx context.Context) (err error) {
	if err := dl.open(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dl.close(err)) }()
	if err := dl.load(ctx); err != nil {
		return err
	}
	err = dl.fill(ctx)
	if dl.mixed && ctx.Err() == nil && dl.blame(err) {
		dl.s.o.Log.WarnContext(ctx, "a partial download was damaged, and begins again", "blob", dl.dg.String(), "bytes", dl.at)
		if err := dl.restart(); err != nil {
			return err
		}
		err = dl.fill(ctx)
	}
	if err != nil {
		return err
	}
	return dl.publish(ctx)
}

// blame says whether a failure may be due to the bytes that were there before:
// some are wrong, or, of a blob of unknown size, there are more than it has.
func (dl *download) blame(err error) bool {
	return errors.Is(err, ErrMismatch) || dl.d.Size < 0 && refusal(err)
}

// limit is how many bytes the blob may have.
func (dl *download) limit() int64 {
	if dl.d.Size >= 0 {
		return dl.d.Size
	}
	return dl.s.o.MaxUnknown
}

// open opens the partial, or makes one.
func (dl *download) open() error {
	path := dl.s.partial(dl.dg)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err := dl.s.mkdirs(); err != nil {
			return err
		}
		f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	}
	if err != nil {
		return err
	}
	dl.file = f
	return nil
}

// close closes the partial, and removes one that nobody can go on with.
func (dl *download) close(failure error) error {
	info, err := dl.file.Stat()
	if failure != nil && (errors.Is(failure, ErrMismatch) || err == nil && info.Size() == 0) {
		if removeErr := os.Remove(dl.s.partial(dl.dg)); !errors.Is(removeErr, fs.ErrNotExist) {
			err = errors.Join(err, removeErr)
		}
	}
	return errors.Join(err, dl.file.Close())
}

// restart throws away what is there.
func (dl *download) restart() error {
	dl.sh.restart()
	dl.sum.Reset()
	dl.at, dl.mixed = 0, false
	return dl.file.Truncate(0)
}

// load hashes the bytes of the partial, which can be read as it goes.
func (dl *download) load(ctx context.Context) error {
	info, err := dl.file.Stat()
	if err != nil {
		return err
	}
	size := info.Size()
	if size == 0 || size > dl.limit() {
		if err := dl.restart(); err != nil {
			return err
		}
		size = 0
	}
	if err := dl.checkSpace(size); err != nil {
		return err
	}
	dl.sh.grow(0)
	for dl.at < size {
		n, err := dl.file.ReadAt(dl.buf[:min(chunk, size-dl.at)], dl.at)
		if n == 0 && err != nil { // an unreadable sector: it is not worth more
			return dl.restart()
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		dl.took(dl.buf[:n])
	}
	dl.mixed = dl.at > 0
	if dl.mixed {
		dl.s.o.Log.DebugContext(ctx, "a download goes on", "blob", dl.dg.String(), "bytes", dl.at)
	}
	return nil
}

// checkSpace refuses a download that cannot fit, of which have bytes are there.
func (dl *download) checkSpace(have int64) error {
	free, err := dl.s.o.FreeSpace(dl.s.dir)
	if err != nil {
		return err
	}
	if need := dl.d.Size - have; need > free {
		return fmt.Errorf("%w: it needs %d bytes, and %d are free", syscall.ENOSPC, need, free)
	}
	return nil
}

// add appends bytes that have come.
func (dl *download) add(b []byte) error {
	if room := dl.limit() - dl.at; int64(len(b)) > room {
		return fmt.Errorf("more than %d bytes came: %w", dl.limit(), ErrMismatch)
	}
	n, err := dl.file.WriteAt(b, dl.at)
	dl.took(b[:n])
	return err
}

// took accounts for bytes that are in the file.
func (dl *download) took(b []byte) {
	_, _ = dl.sum.Write(b) // never fails
	dl.at += int64(len(b))
	dl.sh.grow(dl.at)
	dl.meter.report(dl.at)
}

// publish makes the partial a blob. It does not look at ctx's end: all is there.
func (dl *download) publish(ctx context.Context) error {
	log := dl.s.o.Log.With("blob", dl.dg.String())
	log.DebugContext(ctx, "a download is whole")
	if err := dl.file.Sync(); err != nil {
		return err
	}
	info, err := dl.file.Stat()
	if err != nil {
		return err
	}
	if info.Size() != dl.at {
		return fmt.Errorf("the file has %d of %d bytes: %w", info.Size(), dl.at, ErrMismatch)
	}
	log.DebugContext(ctx, "a download is synced")
	final := dl.s.blob(dl.dg)
	if err := os.Rename(dl.s.partial(dl.dg), final); err != nil {
		return err
	}
	log.DebugContext(ctx, "a download is published")
	if err := atomicfile.SyncDir(filepath.Dir(final)); err != nil {
		return err
	}
	dl.meter.end(dl.at)
	return nil
}
