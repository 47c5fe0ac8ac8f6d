// Package guestlink carries streams between the host and the guest agent,
// whatever the VMM offers for it.
//
// Words: the link is the transport of one VM; a stream on it is a net.Conn. A
// stream that the host opens reaches the agent, one that the guest opens reaches
// the host. Over a virtio-serial port the link is one byte pipe with a yamux
// session on it (the guest is yamux's client, since it speaks first); over vsock
// every stream is a vsock connection, to guestabi.AgentPort or guestabi.HostPort.
//
// Neither side believes the other: a peer that floods or sends garbage loses the
// link, and nothing else happens.
package guestlink

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"github.com/hashicorp/yamux"
)

// Bounds of a link over virtio-serial.
const (
	// acceptBacklog bounds the streams that a peer has opened and nobody has accepted.
	acceptBacklog = 64
	// streamWindow is what a peer may send on one stream before it is read.
	streamWindow = 256 << 10
	// writeTimeout bounds how long the peer may leave the pipe full; a guest that
	// is busy booting under emulation can be slow.
	writeTimeout = 60 * time.Second
)

// ErrDown says that the link has ended, for good.
var ErrDown = errors.New("the guest link is down")

// Link is one end of a guest link.
type Link interface {
	// Dial opens a stream to the other side. The caller closes it.
	Dial(ctx context.Context) (net.Conn, error)
	// Accept returns the next stream that the other side opened; ErrDown when
	// there will be none. The caller closes it.
	Accept() (net.Conn, error)
	// Close ends the link and every stream on it. It may be called more than once.
	Close() error
}

// Listener makes a link's Accept a net.Listener. Closing it closes the link.
func Listener(l Link) net.Listener { return listener{l} }

type listener struct{ link Link }

func (l listener) Accept() (net.Conn, error) { return l.link.Accept() }
func (l listener) Close() error              { return l.link.Close() }
func (l listener) Addr() net.Addr            { return addr{} }

type addr struct{}

func (addr) Network() string { return "guestlink" }
func (addr) String() string  { return "guest" }

// serial is a link over one byte pipe.
type serial struct {
	session *yamux.Session
}

// HostSerial is the host's end of a link over pipe, which it owns. It sends
// nothing before Dial is called; call that only when the guest has spoken, for a
// virtio-serial port keeps what is written before the guest has opened it.
func HostSerial(pipe io.ReadWriteCloser) (Link, error) {
	s, err := yamux.Server(pipe, config())
	if err != nil {
		return nil, err
	}
	return &serial{s}, nil
}

// GuestSerial is the guest's end of a link over pipe, which it owns.
func GuestSerial(pipe io.ReadWriteCloser) (Link, error) {
	s, err := yamux.Client(pipe, config())
	if err != nil {
		return nil, err
	}
	return &serial{s}, nil
}

func config() *yamux.Config {
	return &yamux.Config{
		AcceptBacklog: acceptBacklog,
		// A pipe has no half-open state, and a paused or busy guest is not a dead
		// one: the VMM's exit ends the link.
		EnableKeepAlive:        false,
		KeepAliveInterval:      time.Minute,
		ConnectionWriteTimeout: writeTimeout,
		MaxStreamWindowSize:    streamWindow,
		StreamCloseTimeout:     time.Minute,
		StreamOpenTimeout:      0, // a stream may wait for a slow guest
		LogOutput:              io.Discard,
	}
}

func (s *serial) Dial(ctx context.Context) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c, err := s.session.OpenStream()
	if err != nil {
		return nil, errors.Join(ErrDown, err)
	}
	return c, nil
}

func (s *serial) Accept() (net.Conn, error) {
	c, err := s.session.AcceptStream()
	if err != nil {
		return nil, errors.Join(ErrDown, err)
	}
	return c, nil
}

func (s *serial) Close() error { return s.session.Close() }
