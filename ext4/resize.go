package ext4

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"sort"

	"banger/ext4/internal/disk"
)

// SizeError says that a file system cannot have the size that was asked for.
type SizeError struct {
	// Op is "grow" or "shrink".
	Op string
	// Size was asked for, in bytes.
	Size int64
	// Limit is the largest size that Grow can give this file system, or the smallest
	// that Shrink can, in bytes.
	Limit int64
	// Reason says what the limit is due to.
	Reason string
}

func (e *SizeError) Error() string {
	bound := "at most"
	if e.Op == "shrink" {
		bound = "at least"
	}
	return fmt.Sprintf("cannot %s the file system to %d bytes: %s; it can have %s %d", e.Op, e.Size, e.Reason, bound, e.Limit)
}

// Grow makes the file system in f larger: it fills the first size bytes of f, but
// for a rest of less than a block, and up to a few MiB at the end that are too few
// for a block group. f is extended with a hole where it is shorter. The image must
// not be in use; see Edit for that, for the options, and for a journal that is dirty.
//
// Nothing that is in the image moves, and what is added is not written but for a
// few blocks: new inode tables are holes. The descriptors of new groups go to the blocks
// that the resize inode keeps for them. Without such blocks, or when they run out,
// the file system gets the feature meta_bg, as it does when the kernel resizes it.
//
// Growth is atomic: an interruption leaves the old size or the new one, and
// possibly a longer file. Where one transaction of the image's journal cannot hold
// the change, and for each 32 TiB (with blocks of 4 KiB), it takes several steps, and
// may stop between them. An image without a journal is ErrNoJournal unless o
// allows it; then an interruption leaves it to e2fsck.
//
// A size that is less than that of the file system, or more than its format can
// have, is a *SizeError; features that cannot be kept are a *FeatureError, and damage
// is ErrCorrupt. Nothing was changed then.
func Grow(f ResizableFile, size int64, o *EditOptions) error {
	for {
		done, err := growStep(f, size, o)
		if err != nil || done {
			return public(err)
		}
	}
}

// growStep grows as far as one transaction can.
func growStep(f ResizableFile, size int64, o *EditOptions) (done bool, err error) {
	err = resize(f, o, func(r *resizer) error {
		bs := int64(r.t.v.bs)
		if have := r.old.Blocks(); uint64(size/bs) < have || size < 0 {
			return &SizeError{"grow", size, int64(r.growLimit().blocks) * bs, "it is larger already"}
		}
		g, err := r.planGrow(size)
		if err != nil {
			return err
		}
		done = g.last
		if r.length < size {
			if err := f.Truncate(size); err != nil {
				return err
			}
		}
		if err := g.run(); err != nil {
			if r.length < size && !r.committing {
				// Nothing refers to what was added.
				return errors.Join(err, f.Truncate(r.length))
			}
			return err
		}
		return nil
	})
	return done, err
}

// Shrink makes the file system in f smaller, and cuts f to size bytes: it can give
// up what nothing uses at the end of the image, and moves nothing. Image.ShrinkLimit
// says how far that goes. The size of the file system may be less than size by a
// block group that is too small. Everything else is as with Grow; the file is cut
// last.
//
// A size below the limit, or above that of the file, is a *SizeError, with nothing
// changed.
func Shrink(f ResizableFile, size int64, o *EditOptions) error {
	return public(resize(f, o, func(r *resizer) error {
		s, err := r.planShrink(size)
		if err != nil {
			return err
		}
		if s != nil {
			if err := s.run(); err != nil {
				return err
			}
		}
		if r.length <= size {
			return nil
		}
		if err := f.Truncate(size); err != nil {
			return err
		}
		return txDevice{r.t}.Sync()
	}))
}

// resizer changes the size of a file system within an edit session.
type resizer struct {
	t      *Tx
	length int64           // of the file, in bytes
	old    disk.Superblock // before the change
	sb     disk.Superblock // after it, as it will be committed
	// table has blocks of the new table of descriptors, from block first on.
	table []byte
	first uint32
	w     gather // for what is not in the transaction
	// committing says that the disk may have the new size.
	committing bool
}

// resize runs change in an edit session and keeps the lock on f until it returns.
func resize(f ResizableFile, o *EditOptions, change func(*resizer) error) error {
	length, err := fileLength(f)
	if err != nil {
		return err
	}
	t, err := Edit(f, length, o)
	if err != nil {
		return err
	}
	// A commit ends the session; the backups, and the end of the file, come after it.
	unlock := t.unlock
	t.unlock = func() {}
	defer unlock()
	defer t.Close()
	r := &resizer{t: t, length: length, old: *t.v.sb, sb: *t.v.sb, w: gather{dev: txDevice{t}}}
	defer r.w.close()
	return change(r)
}

// fileLength finds out how long a file is, in bytes.
func fileLength(f File) (int64, error) {
	if s, ok := f.(interface{ Stat() (fs.FileInfo, error) }); ok {
		info, err := s.Stat()
		if err != nil {
			return 0, err
		}
		if info.Mode().IsRegular() {
			return info.Size(), nil
		}
	}
	if s, ok := f.(io.Seeker); ok { // a block device
		return s.Seek(0, io.SeekEnd)
	}
	// What can be read is there.
	var failed error
	n := sort.Search(math.MaxInt, func(n int) bool {
		var b [1]byte
		got, err := f.ReadAt(b[:], int64(n))
		if got == 0 && err != nil && !errors.Is(err, io.EOF) {
			failed = err
		}
		return got == 0
	})
	return int64(n), failed
}
