// Package term is what the command line knows of terminals: raw mode and its
// end, the window's size, and how progress is shown.
//
// Words: a terminal in raw mode hands every key on, Ctrl-C too; a painter shows
// one line of progress, in place where it can; clean text has no bytes that a
// terminal would obey.
package term

import (
	"os"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"
	xterm "golang.org/x/term"
)

// Size is a window's size in character cells. Both are 1 to 65535.
type Size struct{ Rows, Cols uint32 }

// fallback is the size of a window that has none, such as a serial line's.
var fallback = Size{Rows: 24, Cols: 80}

// IsTerminal says whether v is a file that is a terminal.
func IsTerminal(v any) bool {
	f, ok := v.(*os.File)
	return ok && f != nil && xterm.IsTerminal(int(f.Fd()))
}

// SizeOf returns the window's size of the terminal v, or 24 by 80.
func SizeOf(v any) Size {
	f, ok := v.(*os.File)
	if !ok {
		return fallback
	}
	cols, rows, err := xterm.GetSize(int(f.Fd()))
	if err != nil || cols < 1 || rows < 1 {
		return fallback
	}
	return Size{Rows: uint32(rows), Cols: uint32(cols)}
}

// Raw puts the terminal into raw mode. The returned function puts it back as it
// was; it may be called many times and from any goroutine.
func Raw(f *os.File) (restore func(), err error) {
	old, err := xterm.MakeRaw(int(f.Fd()))
	if err != nil {
		return nil, err
	}
	return sync.OnceFunc(func() { _ = xterm.Restore(int(f.Fd()), old) }), nil
}

// Resizes sends the terminal's new size whenever its window changes. Only the
// latest size waits: a storm of changes costs one message. The caller calls stop.
func Resizes(f *os.File) (sizes <-chan Size, stop func()) {
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, unix.SIGWINCH)
	out, quit, done := make(chan Size, 1), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-changed:
				offer(out, SizeOf(f))
			case <-quit:
				return
			}
		}
	}()
	return out, sync.OnceFunc(func() {
		signal.Stop(changed)
		close(quit)
		<-done
	})
}

// offer puts s into the channel of one place, in the place of what waits there.
func offer(c chan Size, s Size) {
	for {
		select {
		case c <- s:
			return
		default:
		}
		select {
		case <-c:
		default:
		}
	}
}
