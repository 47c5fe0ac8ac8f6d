package diskimage

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// writeout is a file whose data the kernel begins to write to the disk while more is
// still coming, and not when all of it is there: whoever syncs it at the end then waits
// for little. Only what follows on what was written before counts: far behind that, the
// builder keeps what it is going to move.
type writeout struct {
	*os.File

	mu         sync.Mutex
	start, end int64 // what is written, and not on its way yet
}

// Sizes in bytes: of what is sent on its way at once, and of the gaps that the builder
// leaves at most.
const (
	writeoutSize = 16 << 20
	writeoutGap  = 64 << 20
)

// WriteAt implements [io.WriterAt].
func (w *writeout) WriteAt(b []byte, off int64) (int, error) {
	n, err := w.File.WriteAt(b, off)
	if err != nil {
		return n, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if off < w.end || off > w.end+writeoutGap {
		return n, nil
	}
	w.end = off + int64(n)
	if w.end-w.start >= writeoutSize {
		w.begin(w.start, w.end-w.start)
		w.start = w.end
	}
	return n, nil
}

// begin starts to write, and does not wait for it (sync_file_range(2)). If it cannot, the
// sync at the end has more to do.
func (w *writeout) begin(off, n int64) {
	c, err := w.SyscallConn()
	if err != nil {
		return
	}
	_ = c.Control(func(fd uintptr) { _ = unix.SyncFileRange(int(fd), off, n, unix.SYNC_FILE_RANGE_WRITE) })
}
