package ext4

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"

	"banger/ext4/internal/disk"
)

const (
	// pieceBytes is how much of a stream is read and written at once.
	pieceBytes = 1 << 20
	// aheadBlocks is how many blocks at most are kept ready for a stream.
	aheadBlocks = 4096
)

// buffers has those of sessions that ended: a short session is over before a new
// one would be cleared.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// WriteFile makes the contents of r those of a file, which is created if it is not
// there. A link at the end of the path is followed, also to create what it leads
// to. A file that exists is replaced as open(2) with O_TRUNC does it: the inode stays, so
// all its hard links have the new contents, and so do its xattrs; owner and mode are set
// to those of a, unless a.Keep. Its times become those of a, or that of the operation.
//
// An error of r is returned, and the file is as before.
func (t *Tx) WriteFile(path string, r io.Reader, a Attr) error {
	return t.do("write", path, func() error {
		p, n, d, err := t.openFile(path, &a)
		if err != nil {
			return err
		}
		if d == nil {
			if err := t.replace(n); err != nil {
				return err
			}
		}
		c := t.newContents(n.ino)
		if err := t.copyIn(c, r); err != nil {
			return err
		}
		return t.finishFile(p, n, d, c, &a)
	})
}

// copyIn writes a stream.
func (t *Tx) copyIn(c *contents, r io.Reader) error {
	left := -1
	if l, ok := r.(interface{ Len() int }); ok { // of bytes, strings
		left = l.Len()
	}
	bs := t.v.bs
	piece := max(pieceBytes, bs)
	if left >= 0 {
		piece = min(piece, (left/bs+1)*bs)
	}
	if t.buf == nil {
		t.buf = buffers.Get().(*[]byte)
	}
	if len(*t.buf) < piece {
		*t.buf = make([]byte, piece)
	}
	buf := (*t.buf)[:piece]
	for {
		n, err := io.ReadFull(r, buf)
		if err == io.EOF {
			return nil
		}
		if err != nil && err != io.ErrUnexpectedEOF {
			return err
		}
		whole := (n + bs - 1) / bs * bs
		clear(buf[n:whole])
		size := c.size
		more := min(c.blocks, aheadBlocks)
		if err == io.ErrUnexpectedEOF {
			more = 0
		} else if left >= 0 {
			left = max(left-n, 0)
			more = uint64((left + bs - 1) / bs)
		}
		if err := c.write(buf[:whole], size, more); err != nil {
			return err
		}
		c.size = size + int64(n)
		if err == io.ErrUnexpectedEOF {
			return nil
		}
	}
}

// openFile finds the regular file that is to be written, or makes its inode; then d is
// its directory, else nil.
func (t *Tx) openFile(path string, a *Attr) (p place, n *editNode, d *editDir, err error) {
	if p, err = t.find(path, true); err != nil {
		return
	}
	if p.ino != 0 {
		n, err = t.load(p.ino)
		if err == nil {
			err = t.writable(n)
		}
		return
	}
	if d, err = t.openDir(p.parent); err == nil {
		n, err = t.newNode(d.n, disk.ModeRegular, a)
	}
	return
}

// finishFile gives a file its contents and stores all of it.
func (t *Tx) finishFile(p place, n *editNode, d *editDir, c *contents, a *Attr) error {
	if err := c.install(n); err != nil {
		return err
	}
	if d != nil {
		return t.enter(d, p.base, n)
	}
	t.changed(n)
	if !a.Keep {
		if err := t.setOwner(n, a); err != nil {
			return err
		}
	}
	n.setTimes(a)
	return t.put(n)
}

// Truncate sets the size of a file in bytes, following links. What it adds reads as zeros
// and takes no space.
func (t *Tx) Truncate(path string, size int64) error {
	return t.do("truncate", path, func() error {
		n, err := t.existing(path, true)
		if err != nil {
			return err
		}
		if err := t.writable(n); err != nil {
			return err
		}
		return t.truncate(n, size)
	})
}

func (t *Tx) truncate(n *editNode, size int64) error {
	c, err := t.oldContents(n)
	if err != nil {
		return err
	}
	if err := c.truncate(size); err != nil {
		return err
	}
	if err := c.install(n); err != nil {
		return err
	}
	t.changed(n)
	return t.put(n)
}

// FileWriter writes a file piece by piece, in any order; what is left out is a hole.
// The file changes when Close succeeds, and not at all if the writer is given
// up with Abort. A writer that is neither closed nor given up makes Commit fail.
//
// Each call goes to the image at once, so small pieces are better gathered before.
type FileWriter struct {
	t    *Tx
	path string
	a    Attr
	c    *contents
	old  uint32 // the inode whose contents are changed, 0 for new contents
	pos  int64
	err  error
}

var (
	_ io.WriteSeeker = (*FileWriter)(nil)
	_ io.WriterAt    = (*FileWriter)(nil)
)

// Create begins to write a file as WriteFile does. Until Close, the path has what it
// had.
func (t *Tx) Create(path string, a Attr) (*FileWriter, error) {
	w := &FileWriter{t: t, path: path, a: a}
	if t.done {
		return nil, pathError("create", path, ErrClosed)
	}
	p, err := t.find(path, true)
	if err != nil {
		return nil, pathError("create", path, err)
	}
	near := p.parent
	if p.ino != 0 {
		near = p.ino
		n, err := t.load(p.ino)
		if err == nil {
			err = t.writable(n)
		}
		if err != nil {
			return nil, pathError("create", path, err)
		}
	}
	w.c = t.newContents(near)
	t.writers[w] = true
	return w, nil
}

// Modify begins to change a file that exists, following links. Parts that are not
// written stay. Blocks that are written in part are copied: an interrupted commit
// leaves the old file or the new one. Until Close, other changes of the file's contents,
// and its removal, are refused (EBUSY).
func (t *Tx) Modify(path string) (*FileWriter, error) {
	w := &FileWriter{t: t, path: path}
	err := t.do("modify", path, func() error {
		n, err := t.existing(path, true)
		if err != nil {
			return err
		}
		if err := t.writable(n); err != nil {
			return err
		}
		w.old = n.ino
		w.c, err = t.oldContents(n)
		return err
	})
	if err != nil {
		return nil, err
	}
	t.writers[w], t.locked[w.old] = true, true
	return w, nil
}

// fail makes every later call fail, and Close too: the contents are not those that
// were meant.
func (w *FileWriter) fail(err error) error {
	if err != nil && w.err == nil {
		w.err = pathError("write", w.path, err)
	}
	return w.err
}

func (w *FileWriter) usable() error {
	if w.err == nil && (w.t.done || !w.t.writers[w]) {
		return pathError("write", w.path, ErrClosed)
	}
	return w.err
}

// Size is the length of the contents in bytes.
func (w *FileWriter) Size() int64 { return w.c.size }

// WriteAt writes all of p at an offset.
func (w *FileWriter) WriteAt(p []byte, off int64) (int, error) {
	if err := w.usable(); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, pathError("write", w.path, fs.ErrInvalid)
	}
	more := uint64(0)
	if off == w.c.size {
		more = min(w.c.blocks, aheadBlocks)
	}
	if err := w.fail(w.c.write(p, off, more)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Write writes p where the last Write or Seek ended.
func (w *FileWriter) Write(p []byte) (int, error) {
	n, err := w.WriteAt(p, w.pos)
	w.pos += int64(n)
	return n, err
}

// Seek sets where Write writes.
func (w *FileWriter) Seek(offset int64, whence int) (int64, error) {
	if err := w.usable(); err != nil {
		return 0, err
	}
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += w.pos
	case io.SeekEnd:
		offset += w.c.size
	default:
		return 0, pathError("seek", w.path, fs.ErrInvalid)
	}
	if offset < 0 {
		return 0, pathError("seek", w.path, fs.ErrInvalid)
	}
	w.pos = offset
	return offset, nil
}

// Truncate sets the size in bytes. What it adds is a hole.
func (w *FileWriter) Truncate(size int64) error {
	if err := w.usable(); err != nil {
		return err
	}
	if size < 0 {
		return pathError("truncate", w.path, syscall.EINVAL)
	}
	return w.fail(w.c.truncate(size))
}

// Close makes the contents those of the file. After an error of any call, it gives them
// up and returns that error.
func (w *FileWriter) Close() error {
	if err := w.usable(); err != nil {
		if w.t.writers[w] {
			err = errors.Join(err, w.Abort())
		}
		return err
	}
	t := w.t
	delete(t.locked, w.old)
	err := t.do("close", w.path, func() error {
		if w.old != 0 {
			n, err := t.load(w.old)
			if err != nil {
				return err
			}
			if err := w.c.install(n); err != nil {
				return err
			}
			t.changed(n)
			return t.put(n)
		}
		p, n, d, err := t.openFile(w.path, &w.a)
		if err != nil {
			return err
		}
		if d == nil {
			if err := t.replace(n); err != nil {
				return err
			}
		}
		return t.finishFile(p, n, d, w.c, &w.a)
	})
	if err != nil {
		return errors.Join(err, w.Abort())
	}
	delete(t.writers, w)
	return nil
}

// Abort gives up what was written: the file is as before. After Close it does
// nothing.
func (w *FileWriter) Abort() error {
	t := w.t
	if t.done || !t.writers[w] {
		return nil
	}
	delete(t.writers, w)
	delete(t.locked, w.old)
	if w.err == nil {
		w.err = pathError("write", w.path, os.ErrClosed)
	}
	return t.do("abort", w.path, w.c.discard)
}
