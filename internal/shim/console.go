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
	// backlog is how many pieces a client may be behind before it misses some.
	backlog = 256
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
	clients map[chan []byte]struct{}
}

func newConsole(files paths.VM, rw io.ReadWriter) *console {
	return &console{files: files, rw: rw, clients: map[chan []byte]struct{}{}}
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
	if len(c.clients) == 0 {
		return
	}
	piece := append([]byte(nil), data...)
	for client := range c.clients {
		select {
		case client <- piece:
		default:
		}
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

// attach returns a channel of output, recent output first. The caller calls leave.
func (c *console) attach() (out <-chan []byte, leave func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch := make(chan []byte, backlog)
	if len(c.ring) > 0 {
		ch <- append([]byte(nil), c.ring...)
	}
	c.clients[ch] = struct{}{}
	return ch, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.clients, ch)
	}
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
