package blobs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"banger/internal/base/errs"
)

// Info is a blob, or a partial, in the store.
type Info struct {
	Digest string
	// Size is how many bytes are there: of a partial, those that have come.
	Size int64
	// Used is when it was last opened, or grew.
	Used time.Time
	// Partial says that it is not whole.
	Partial bool

	digest digest
}

// path is where i is.
func (s *Store) path(i Info) string {
	if i.Partial {
		return s.partial(i.digest)
	}
	return s.blob(i.digest)
}

// Has says whether the blob d is there and has d's size, if that is known.
func (s *Store) Has(d Descriptor) bool {
	i, err := s.Stat(d.Digest)
	return err == nil && d.fits(i.Size)
}

// Stat looks at a blob; one that is not there, or is not whole, is a NotFound error.
func (s *Store) Stat(digest string) (Info, error) {
	dg, err := parseDigest(digest)
	if err != nil {
		return Info{}, err
	}
	info, err := os.Stat(s.blob(dg))
	if errors.Is(err, fs.ErrNotExist) {
		return Info{}, notThere(dg)
	}
	if err != nil {
		return Info{}, err
	}
	return Info{Digest: digest, Size: info.Size(), Used: info.ModTime(), digest: dg}, nil
}

// List returns all blobs and partials, sorted by digest.
func (s *Store) List() ([]Info, error) {
	all, err := s.scan()
	if err != nil {
		return nil, errs.New(errs.Unavailable, "cannot list the downloads in %q: %w", s.dir, err)
	}
	slices.SortFunc(all, func(a, b Info) int { return strings.Compare(a.Digest, b.Digest) })
	return all, nil
}

// Usage is what a store holds.
type Usage struct {
	Blobs, Partials int
	// Bytes is the length of all of them together.
	Bytes int64
}

// Usage measures the store.
func (s *Store) Usage() (Usage, error) {
	all, err := s.List()
	var u Usage
	for _, i := range all {
		if u.Bytes += i.Size; i.Partial {
			u.Partials++
		} else {
			u.Blobs++
		}
	}
	return u, err
}

// Delete removes a blob and its partial; it is no error if there is none. One that
// is open or being downloaded is a Conflict.
func (s *Store) Delete(digest string) error {
	dg, err := parseDigest(digest)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy[digest] != nil {
		return errs.New(errs.Conflict, "cannot delete %s: it is in use", dg).WithHint("try again when what uses it has ended")
	}
	for _, path := range []string{s.blob(dg), s.partial(dg)} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return errs.New(errs.Unavailable, "cannot delete %s: %w", dg, err)
		}
	}
	return nil
}

// Prune removes blobs and partials, those first that were used longest ago, until at
// most max bytes are left, and returns how many went. What is open or being
// downloaded stays, and so does every digest that keep is true for. A nil keep keeps
// nothing; 0 as max removes all that may go.
func (s *Store) Prune(max int64, keep func(digest string) bool) (freed int64, err error) {
	all, err := s.List()
	if err != nil {
		return 0, err
	}
	var total int64
	for _, i := range all {
		total += i.Size
	}
	slices.SortStableFunc(all, func(a, b Info) int { return a.Used.Compare(b.Used) })
	for _, i := range all {
		if total-freed <= max {
			break
		}
		if keep != nil && keep(i.Digest) {
			continue
		}
		gone, removeErr := s.remove(i)
		if gone {
			freed += i.Size
		}
		err = errors.Join(err, removeErr)
	}
	if err != nil {
		err = errs.New(errs.Unavailable, "cannot remove all old downloads: %w", err)
	}
	return freed, err
}

// remove removes a blob or partial unless it is in use.
func (s *Store) remove(i Info) (gone bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy[i.Digest] != nil {
		return false, nil
	}
	if err := os.Remove(s.path(i)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	s.o.Log.Debug("a download is removed", "blob", i.Digest, "bytes", i.Size, "partial", i.Partial)
	return true, nil
}

// SetMax replaces [Options.Max], and brings the store below a lower one.
func (s *Store) SetMax(max int64) {
	if s.max.Swap(max) != max {
		s.enforce()
	}
}

// enforce brings the store below its cap.
func (s *Store) enforce() {
	max := s.max.Load()
	if max == 0 {
		return
	}
	if _, err := s.Prune(max, nil); err != nil {
		s.o.Log.Warn("cannot keep to the cap of the downloads", "dir", s.dir, "err", err)
	}
}

// dropPartial removes the partial of a blob that is there, unless somebody besides
// the caller may be at work on it.
func (s *Store) dropPartial(dg digest, own *shared) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if own.users > 1 {
		return nil
	}
	if err := os.Remove(s.partial(dg)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// discard removes a blob whose bytes are wrong, if it still is the file f.
func (s *Store) discard(dg digest, f *os.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	opened, err := f.Stat()
	if err != nil {
		return
	}
	now, err := os.Stat(s.blob(dg))
	if err != nil || !os.SameFile(opened, now) {
		return
	}
	if err := os.Remove(s.blob(dg)); err != nil {
		s.o.Log.Warn("cannot remove a damaged blob", "blob", dg.String(), "err", err)
	}
}

// scan finds the blobs and partials, and passes over other names.
func (s *Store) scan() ([]Info, error) {
	var all []Info
	for _, algorithm := range []string{"sha256", "sha512"} {
		entries, err := os.ReadDir(filepath.Join(s.dir, algorithm))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			digits, partial := strings.CutSuffix(e.Name(), partSuffix)
			dg := digest{algorithm, digits}
			info, err := e.Info()
			switch {
			case errors.Is(err, fs.ErrNotExist) || !dg.valid():
				continue
			case err != nil:
				return nil, err
			case !info.Mode().IsRegular():
				continue
			}
			all = append(all, Info{dg.String(), info.Size(), info.ModTime(), partial, dg})
		}
	}
	return all, nil
}
