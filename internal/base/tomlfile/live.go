package tomlfile

import (
	"os"
	"sync"
	"syscall"
	"time"
)

// Live is what a file says, read again when the file has changed. It may be used by
// many goroutines.
type Live[T any] struct {
	path string
	read func(path string) (T, error)

	mu   sync.Mutex
	seen *version // nil before the first Get
	last T
	err  error
}

// version tells one state of a file from another. The zero value is that of a file that
// is not there.
type version struct {
	inode   uint64
	bytes   int64
	changed time.Time
}

// NewLive returns what read makes of the file at path. Until the file was good once,
// it says fallback.
func NewLive[T any](path string, fallback T, read func(path string) (T, error)) *Live[T] {
	return &Live[T]{path: path, read: read, last: fallback}
}

// Get returns what the file says now. Where that is broken, it returns what the file
// said last, and an error that says what is wrong: what goes on by itself goes on with
// the former, and who acts for a user tells of the latter.
func (l *Live[T]) Get() (T, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := versionOf(l.path)
	if l.seen != nil && *l.seen == now {
		return l.last, l.err
	}
	v, err := l.read(l.path)
	if l.err = err; err == nil {
		l.last = v
	}
	// It may have changed while it was read: then it is read again.
	if versionOf(l.path) == now {
		l.seen = &now
	}
	return l.last, l.err
}

func versionOf(path string) version {
	info, err := os.Stat(path)
	if err != nil {
		return version{}
	}
	v := version{bytes: info.Size(), changed: info.ModTime()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		v.inode = st.Ino
	}
	return v
}
