// Package blobs keeps downloaded bytes by their digest: layers, configurations
// and manifests of images.
//
// Three words. A blob is whole, verified and durable. A partial is what has come
// of a blob so far: a later download, also of a later process, goes on where it
// ends. A spool holds bytes whose digest is not known yet.
//
//	<dir>/sha256/<hex>        a blob
//	<dir>/sha256/<hex>.part   its partial
//	<dir>/sha512/…            likewise
//	<dir>/spool/…             spools: swept when the store is opened
//
// What must hold, also after kill -9 at any step: a name without ".part" appears
// by one rename of a file that is synced and whose bytes have been hashed. Nothing
// on the disk is believed later: every reader hashes what it hands out, and a
// partial is hashed again before it grows.
//
// One process at a time uses a folder; the caller holds a lock that says so. There
// is no index: the folder is the truth, and a file's modification time is its last
// use. All of it may be deleted while nobody uses it.
package blobs

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/base/errs"
	"banger/internal/base/flight"
)

// ErrDamaged says that bytes which were handed out, or were about to be, are not
// the blob's: a file was torn, or a download had to begin again. What is wrong has
// been removed. The caller throws away what it has read and opens the blob again.
var ErrDamaged = errors.New("the bytes are damaged: read it again from the start")

// ErrMismatch says that a source has sent other bytes, or another number of them,
// than the descriptor names. Nothing of it is kept.
var ErrMismatch = errors.New("it is not what its digest and size say")

// DefaultStall is how long a source may send no byte.
const DefaultStall = 60 * time.Second

// DefaultMaxUnknown is the most that a source of unknown size may send: 4 GiB.
const DefaultMaxUnknown = 4 << 30

// Options are the choices of a [Store]; the zero value is good.
type Options struct {
	// Max is how many bytes of blobs and partials are kept; 0 is no cap. What was
	// used last goes last, and what is in use stays even above the cap.
	Max int64
	// MaxUnknown bounds a blob whose size is not known; 0 is [DefaultMaxUnknown].
	MaxUnknown int64
	// Stall is how long a source may send no byte before it is asked again; 0 is
	// [DefaultStall].
	Stall time.Duration
	// FreeSpace returns how many bytes can still be written below dir; nil asks the
	// file system. A download that would not fit is refused before it begins.
	FreeSpace func(dir string) (int64, error)
	// Log is told what is thrown away and why; nil is nobody.
	Log *slog.Logger
}

// Store is a folder of blobs. Its methods may be called at the same time.
type Store struct {
	dir string
	o   Options
	// max is Options.Max, until SetMax.
	max atomic.Int64

	// flights run the downloads, one at a time for each digest.
	flights flight.Group[result]
	// riders are the goroutines of readers that follow a download.
	riders sync.WaitGroup

	mu     sync.Mutex
	closed bool
	// busy has what is open or being downloaded, by digest. Only what is not in it
	// may be removed.
	busy map[string]*shared
}

// Open returns the store in the folder dir, which it makes if there is none, mode
// 0700. It removes what a killed process left that is of no use: spools, empty
// partials, and partials of blobs that are there.
func Open(dir string, o Options) (*Store, error) {
	if o.MaxUnknown == 0 {
		o.MaxUnknown = DefaultMaxUnknown
	}
	if o.Stall == 0 {
		o.Stall = DefaultStall
	}
	if o.FreeSpace == nil {
		o.FreeSpace = freeSpace
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Store{dir: dir, o: o, busy: map[string]*shared{}}
	s.max.Store(o.Max)
	if err := s.sweep(); err != nil {
		return nil, errs.New(errs.Unavailable, "cannot open the folder of downloads %q: %w", dir, err).
			WithHint("make %s writable, or remove it: all in it can be downloaded again", dir)
	}
	s.enforce()
	return s, nil
}

// Close stops all downloads, whose readers get [context.Canceled], and waits for
// them. What has come of them is kept. Readers still have to be closed.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.flights.Close()
	s.riders.Wait()
	return nil
}

// spool is the folder of spools.
func (s *Store) spool() string { return filepath.Join(s.dir, "spool") }

// blob is where a blob is kept.
func (s *Store) blob(d digest) string { return filepath.Join(s.dir, d.algorithm, d.hex) }

// partial is where what has come of a blob is kept.
func (s *Store) partial(d digest) string { return s.blob(d) + partSuffix }

const partSuffix = ".part"

// enter keeps a digest from being removed until leave is called.
func (s *Store) enter(d digest) (*shared, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, s.errClosed()
	}
	sh := s.busy[d.String()]
	if sh == nil {
		sh = &shared{}
		s.busy[d.String()] = sh
	}
	sh.users++
	return sh, nil
}

func (s *Store) leave(d digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := s.busy[d.String()]
	if sh.users--; sh.users == 0 {
		delete(s.busy, d.String())
	}
}

// spawn runs f in a goroutine that Close waits for.
func (s *Store) spawn(f func()) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return s.errClosed()
	}
	s.riders.Go(f)
	return nil
}

func (s *Store) errClosed() error {
	return errs.New(errs.Canceled, "the folder of downloads %q is closed", s.dir)
}

// sweep makes the folders and removes what is of no use.
func (s *Store) sweep() error {
	if err := s.mkdirs(); err != nil {
		return err
	}
	spools, err := os.ReadDir(s.spool())
	if err != nil {
		return err
	}
	for _, e := range spools {
		if err := os.RemoveAll(filepath.Join(s.spool(), e.Name())); err != nil {
			return err
		}
	}
	all, err := s.scan()
	if err != nil {
		return err
	}
	whole := map[string]bool{}
	for _, i := range all {
		whole[i.Digest] = whole[i.Digest] || !i.Partial
	}
	for _, i := range all {
		if i.Partial && (i.Size == 0 || whole[i.Digest]) {
			if err := os.Remove(s.partial(i.digest)); err != nil {
				return err
			}
		}
	}
	return nil
}

// mkdirs makes the folders. They may be gone at any time: they are a cache.
func (s *Store) mkdirs() error {
	for _, sub := range []string{"sha256", "sha512", "spool"} {
		if err := os.MkdirAll(filepath.Join(s.dir, sub), 0o700); err != nil {
			return err
		}
	}
	return nil
}

func freeSpace(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// full says whether an error is that of a full disk.
func full(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// tellFull names the action that a full disk has ended.
func (s *Store) tellFull(doing string, err error) error {
	return errs.New(errs.Unavailable, "cannot %s: the file system of %s is full: %w", doing, s.dir, err).
		WithHint("free some space there, with banger image prune for one (it removes what is in %s), then try again", s.dir)
}
