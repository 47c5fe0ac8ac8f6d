package shim

import (
	"errors"
	"io"
	"os"
	"sync"

	"banger/internal/base/paths"
	"banger/internal/guestabi"
)

// Bounds of what a guest's console costs the host.
const (
	// maxLogPart bounds one of the two files of the console log.
	maxLogPart = 4 << 20
	// recent is how much an attaching client sees of what came before.
	recent = 8 << 10
	// maxBehind is how far a client may be behind before it misses the oldest output.
	maxBehind = 256 << 10
)

// console reads the guest's serial console for as long as the VMM lives, logs
// it, and shows it to the attached clients. A client that does not keep up misses
// output; the guest never waits for one.
type console struct {
	files paths.VM
	rw    io.ReadWriter
	done  chan struct{} // closed when the reader has ended; nil before start

	mu      sync.Mutex
	log     *os.File
	logged  int64
	ring    []byte
	clients map[*viewer]struct{}
}

func newConsole(files paths.VM, rw io.ReadWriter) *console {
	return &console{files: files, rw: rw, clients: map[*viewer]struct{}{}}
}

// start begins to read; the log of an earlier run becomes the old part.
func (c *console) start() {
	c.rotate()
	c.done = make(chan struct{})
	go c.read()
}

func (c *console) read() {
	defer close(c.done)
	buf := make([]byte, guestabi.MaxChunk)
	for {
		n, err := c.rw.Read(buf)
		if n > 0 {
			c.show(buf[:n])
		}
		if err != nil {
			return
		}
	}
}

func (c *console) show(data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// A full disk must not stop the guest: output that cannot be logged is lost.
	if c.log != nil {
		n, _ := c.log.Write(data)
		c.logged += int64(n)
	}
	if c.logged >= maxLogPart {
		c.rotate()
	}
	c.ring = append(c.ring, data...)
	if over := len(c.ring) - recent; over > 0 {
		c.ring = append(c.ring[:0], c.ring[over:]...)
	}
	for v := range c.clients {
		v.add(data)
	}
}

// rotate makes the log the old part and begins a new one.
func (c *console) rotate() {
	if c.log != nil {
		_ = c.log.Close()
	}
	_ = os.Rename(c.files.ConsoleLog(), c.files.OldConsoleLog())
	c.log, _ = os.OpenFile(c.files.ConsoleLog(), os.O_CREATE|os.O_WRONLY|os.O_APPEND|os.O_TRUNC, 0o600)
	c.logged = 0
}

// attach returns a viewer that has the recent output. The caller calls leave.
func (c *console) attach() (v *viewer, leave func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v = &viewer{more: make(chan struct{}, 1)}
	v.add(c.ring)
	c.clients[v] = struct{}{}
	return v, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.clients, v)
	}
}

// viewer is what one attached client has not seen yet.
type viewer struct {
	// more has a token whenever there is something to take.
	more chan struct{}

	mu  sync.Mutex
	buf []byte
}

func (v *viewer) add(data []byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.buf = append(v.buf, data...)
	if over := len(v.buf) - maxBehind; over > 0 {
		v.buf = append(v.buf[:0], v.buf[over:]...)
	}
	select {
	case v.more <- struct{}{}:
	default:
	}
}

// take returns at most guestabi.MaxChunk of it.
func (v *viewer) take() []byte {
	v.mu.Lock()
	defer v.mu.Unlock()
	n := min(len(v.buf), guestabi.MaxChunk)
	data := append([]byte(nil), v.buf[:n]...)
	if v.buf = v.buf[n:]; len(v.buf) > 0 {
		select {
		case v.more <- struct{}{}:
		default:
		}
	}
	return data
}

// drain waits until everything that a dead VMM wrote is in the log.
func (c *console) drain() {
	if c.done != nil {
		<-c.done
	}
}

// close ends the log; the machine has been closed before, or never started.
func (c *console) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.log == nil {
		return nil
	}
	err := c.log.Close()
	c.log = nil
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}
