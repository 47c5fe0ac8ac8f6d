package shim

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"

	"banger/internal/guestlink"
)

// maxGuestStreams bounds the streams that a guest has open to the host at once.
const maxGuestStreams = 4

// bridge carries each connection of a unix socket over a stream of the guest
// link. It understands nothing of what passes.
type bridge struct {
	listener  net.Listener
	link      guestlink.Link
	announced <-chan struct{} // nothing is carried before the guest has spoken
	gone      <-chan struct{}

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	wg    sync.WaitGroup
}

// serve ends when close has been called.
func (b *bridge) serve() error {
	for {
		c, err := b.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		if b.track(c) {
			b.wg.Go(func() { b.carry(c) })
		}
	}
}

// track remembers a connection, so that close ends it; it refuses after close.
func (b *bridge) track(c net.Conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-b.gone:
		_ = c.Close()
		return false
	default:
	}
	if b.conns == nil {
		b.conns = map[net.Conn]struct{}{}
	}
	b.conns[c] = struct{}{}
	return true
}

// carry copies both ways until either side ends.
func (b *bridge) carry(c net.Conn) {
	defer func() {
		_ = c.Close()
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.conns, c)
	}()
	select {
	case <-b.announced:
	case <-b.gone:
		return
	}
	stream, err := b.link.Dial(context.Background())
	if err != nil {
		return
	}
	up := make(chan struct{})
	go func() {
		defer close(up)
		_, _ = io.Copy(stream, c)
		_ = stream.Close()
	}()
	_, _ = io.Copy(c, stream)
	_ = c.Close()
	_ = stream.Close()
	<-up
}

// close ends the listener and every connection, and waits. The link must be
// closed, or its VMM gone, for streams in mid-copy to end.
func (b *bridge) close() error {
	err := b.listener.Close()
	b.mu.Lock()
	for c := range b.conns {
		_ = c.Close()
	}
	b.mu.Unlock()
	_ = b.link.Close()
	b.wg.Wait()
	return err
}

// limitListener accepts at most n connections at once.
func limitListener(l net.Listener, n int) net.Listener {
	return &limited{Listener: l, slots: make(chan struct{}, n), done: make(chan struct{})}
}

type limited struct {
	net.Listener
	slots chan struct{}
	done  chan struct{}
	once  sync.Once
}

func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.done:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &slotConn{Conn: c, release: sync.OnceFunc(func() { <-l.slots })}, nil
}

func (l *limited) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}

type slotConn struct {
	net.Conn
	release func()
}

func (c *slotConn) Close() error {
	c.release()
	return c.Conn.Close()
}
