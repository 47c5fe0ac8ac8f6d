package ext4

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"time"

	"banger/ext4/internal/disk"
	"banger/ext4/internal/jbd2"
)

var (
	// ErrInUse says that another process holds a lock on the image: another edit, or
	// a virtual machine that runs from it.
	ErrInUse = errors.New("the image is in use")
	// ErrNoJournal says that an image has no journal, without which an edit is not
	// atomic: EditOptions.WithoutJournal allows it all the same.
	ErrNoJournal = errors.New("the file system has no journal, without which an edit that is interrupted leaves it damaged")
	// ErrTooLarge says that a transaction changes more blocks of metadata than the
	// image's journal holds. Nothing was changed; smaller transactions will do.
	ErrTooLarge = jbd2.ErrTooLarge
	// ErrClosed says that a transaction, or a FileWriter, has ended.
	ErrClosed = errors.New("the transaction has ended")
)

// EditOptions says how Edit works. The zero value is a durable edit.
type EditOptions struct {
	// NoSync leaves out every Sync: a kill of the process still finds all or nothing,
	// a power failure may not.
	NoSync bool
	// WithoutJournal allows images that have no journal. They are edited in place, and
	// a commit that is interrupted leaves a file system that e2fsck has to mend; it is
	// marked as such.
	WithoutJournal bool
	// Now gives the time for what is created and changed; time.Now if nil.
	Now func() time.Time
	// Generation gives the generation number of a new inode, by which NFS tells apart
	// two files that had the same number; random if nil.
	Generation func() uint32
}

// Tx is an edit session: any number of changes that Commit makes together, or not at
// all. It is not safe for concurrent use.
//
// A change that fails leaves the session as it was before it. Until Commit nothing
// in the image refers to what was written: the metadata is in memory, and the
// contents of files lie in blocks that were free. Blocks that a session frees are
// not used again before it is committed, so it can run out of space (ENOSPC) where two
// sessions would not.
//
// Paths are taken from the root of the image, with or without a slash in front. Links
// and ".." are followed inside it, and lead nowhere else. Errors are *fs.PathError; what
// they wrap is what the kernel's system call would return (fs.ErrNotExist,
// syscall.ENOTEMPTY, syscall.ENOSPC, …), or names the damage.
type Tx struct {
	v       *volume
	f       File
	o       EditOptions
	unlock  func()
	journal *jbd2.Journal // nil without one
	// reserved are blocks that are no file's to give or take: the journal's.
	reserved []disk.Extent
	// onDisk is the superblock as it is in the image.
	onDisk disk.Superblock

	groups map[uint32]*allocGroup
	// spread is where the search for a free inode goes on after full groups.
	spread uint32

	// inOp is set within an operation. undo then has what v.dirty held of a block
	// before, nil for nothing, and before the superblock.
	inOp   bool
	undo   map[uint64][]byte
	before disk.Superblock
	// pool has the memory of blocks that operations replaced.
	pool [][]byte
	// unused are blocks that the operation took and gave back.
	unused []run

	// writers are the open FileWriters; those of existing contents by inode too.
	writers map[*FileWriter]bool
	locked  map[uint32]bool

	done bool
	buf  *[]byte // for contents on their way; nil or from buffers
}

// Edit begins an edit session on the image in f, which is size bytes long. The
// image must not be mounted, nor used by a virtual machine: a lock on all of f that
// another process holds is ErrInUse, and Edit holds one until Commit or Close.
// What it cannot know, the caller must: a mount of the image, which takes no such lock,
// and a second session on the same open file, which the lock does not keep out.
//
// A journal that has not been replayed, because the machine that used the image was
// killed, is replayed first, and what the kernel does then is done: the superblock's sums
// are counted, and files that were deleted but still open are freed. This is written at
// once, and stays if the session is given up.
//
// Features that this package cannot keep are refused by name (*FeatureError), and
// so are file systems with known errors (ErrCorrupt), until e2fsck -f was there, and those
// without a journal (ErrNoJournal), unless o allows them. Nothing was written then. o may be
// nil, for a durable edit.
func Edit(f File, size int64, o *EditOptions) (*Tx, error) {
	t := &Tx{
		f: f, unlock: func() {}, groups: make(map[uint32]*allocGroup), undo: make(map[uint64][]byte),
		writers: make(map[*FileWriter]bool), locked: make(map[uint32]bool),
	}
	if o != nil {
		t.o = *o
	}
	if t.o.Now == nil {
		t.o.Now = time.Now
	}
	if t.o.Generation == nil {
		t.o.Generation = rand.Uint32
	}
	unlock, err := lockFile(f)
	if err != nil {
		return nil, err
	}
	t.unlock = unlock
	if err := t.open(size); err != nil {
		unlock()
		var f *FeatureError
		if errors.As(err, &f) {
			f.Op = "edit"
		}
		return nil, public(err)
	}
	return t, nil
}

// Close gives up what was not committed, and the lock. The image is as before the
// session, but for a journal that was replayed. After Commit it does nothing.
func (t *Tx) Close() error {
	if !t.done {
		t.end()
	}
	return nil
}

// Rollback is Close.
func (t *Tx) Rollback() error { return t.Close() }

// end ends the session.
func (t *Tx) end() {
	t.done = true
	t.v.dirty = nil
	t.groups, t.pool = nil, nil
	if t.buf != nil {
		buffers.Put(t.buf)
		t.buf = nil
	}
	t.unlock()
}

// do is an operation: all that f changes stays, or, if it fails, nothing.
func (t *Tx) do(op, path string, f func() error) error {
	return pathError(op, path, t.atomically(f))
}

func (t *Tx) atomically(f func() error) error {
	if t.done {
		return ErrClosed
	}
	if t.inOp {
		return errors.New("an operation of the transaction is not finished")
	}
	t.inOp, t.before = true, *t.v.sb
	ok := false
	defer func() {
		// Also where a caller's Reader panics in the midst of f.
		if !ok {
			t.undoAll()
		}
		clear(t.undo)
		t.unused = t.unused[:0]
		t.inOp = false
	}()
	err := f()
	if ok = err == nil; ok {
		t.reuse()
		for _, b := range t.undo {
			// Nobody has these any more: what readers return shares no memory with blocks.
			if b != nil && len(t.pool) < 64 {
				t.pool = append(t.pool, b)
			}
		}
	}
	return err
}

func (t *Tx) undoAll() {
	for n, b := range t.undo {
		if b == nil {
			delete(t.v.dirty, n)
		} else {
			t.v.dirty[n] = b
		}
	}
	*t.v.sb = t.before
}

// touch returns a block of metadata to change in place, in the current operation.
func (t *Tx) touch(n uint64) ([]byte, error) {
	if _, ok := t.undo[n]; ok {
		if b := t.v.dirty[n]; b != nil {
			return b, nil
		}
	}
	b, err := t.v.block(n)
	if err != nil {
		return nil, err
	}
	old := b
	if k := len(t.pool) - 1; k >= 0 {
		b, t.pool = t.pool[k], t.pool[:k]
		copy(b, old)
	} else {
		b = bytes.Clone(old)
	}
	t.setBlock(n, b)
	return b, nil
}

// setBlock replaces a block of metadata, and keeps b.
func (t *Tx) setBlock(n uint64, b []byte) {
	if _, ok := t.undo[n]; !ok {
		t.undo[n] = t.v.dirty[n]
	}
	t.v.dirty[n] = b
}

// forget takes a block that was freed out of the transaction.
func (t *Tx) forget(n uint64) {
	if b, ok := t.v.dirty[n]; ok {
		if _, ok := t.undo[n]; !ok {
			t.undo[n] = b
		}
		delete(t.v.dirty, n)
	}
}

// now is the time of a change.
func (t *Tx) now() disk.Time { return diskTime(t.o.Now()) }

// txDevice is the image below the journal.
type txDevice struct{ t *Tx }

func (d txDevice) ReadBlocks(n uint64, b []byte) error {
	return d.t.v.readRaw(b, int64(n)*int64(d.t.v.bs))
}

func (d txDevice) WriteBlocks(n uint64, b []byte) error {
	_, err := d.t.f.WriteAt(b, int64(n)*int64(d.t.v.bs))
	return err
}

func (d txDevice) Sync() error {
	if d.t.o.NoSync {
		return nil
	}
	return d.t.f.Sync()
}

// openWriters is the error of a session that has some.
func (t *Tx) openWriters() error {
	for w := range maps.Keys(t.writers) {
		return fmt.Errorf("%d files are still being written, one of them %q", len(t.writers), w.path)
	}
	return nil
}
