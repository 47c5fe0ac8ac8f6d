// Package rpc is how banger's processes talk: Connect over HTTP/2 without TLS,
// on unix sockets and on streams of the guest link. It keeps the kinds and hints
// of package errs across the wire, so that handlers return plain errors and
// callers get them back.
package rpc

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
)

// headerTimeout bounds how long a peer may take over the head of a request.
const headerTimeout = 30 * time.Second

// Server serves the methods that are registered on Methods.
type Server struct {
	// Methods takes the generated Register functions, before Serve.
	Methods *connect.Server

	maxMessage int
	http       *http.Server
	calls      sync.WaitGroup
}

// NewServer returns a server that refuses messages of more than maxMessage
// bytes. HTTP's own complaints go to log.
func NewServer(maxMessage int, log *slog.Logger) *Server {
	s := &Server{
		maxMessage: maxMessage,
		http: &http.Server{
			Protocols:         h2c(),
			ReadHeaderTimeout: headerTimeout,
			ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		},
	}
	s.Methods = connect.NewServer(s.count, sendErrors)
	return s
}

// count knows the calls under way.
func (s *Server) count(next connect.ServerFunc) connect.ServerFunc {
	return func(ctx context.Context, spec connect.Spec, stream connect.ServerStream) error {
		s.calls.Add(1)
		defer s.calls.Done()
		return next(ctx, spec, stream)
	}
}

// Serve answers calls on l until Close; it then returns nil.
func (s *Server) Serve(l net.Listener) error {
	mux := http.NewServeMux()
	connecthttp.Mount(mux, s.Methods, connecthttp.WithReadMaxBytes(s.maxMessage), connecthttp.WithCompressors())
	s.http.Handler = mux
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// lastWords is the time that the last answers get to reach the socket.
const lastWords = 20 * time.Millisecond

// Shutdown waits for the calls under way, until ctx ends, and then closes the
// server. New calls are refused. It does not wait for clients to close their
// connections, as [http.Server.Shutdown] does.
func (s *Server) Shutdown(ctx context.Context) error {
	refusing, cancel := context.WithCancel(ctx)
	defer cancel()
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_ = s.http.Shutdown(refusing)
	}()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.calls.Wait()
	}()
	select {
	case <-done:
		select {
		case <-closed:
		case <-time.After(lastWords):
		}
	case <-ctx.Done():
	}
	cancel()
	<-closed
	err := s.Close()
	<-done
	return err
}

// Close ends everything at once, calls under way too.
func (s *Server) Close() error { return s.http.Close() }

// Dialer opens one connection to a server.
type Dialer func(ctx context.Context) (net.Conn, error)

// Unix dials the socket at path.
func Unix(path string) Dialer {
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
}

// Client calls the methods of one server.
type Client struct {
	*connect.Client
	transport *http.Transport
}

// NewClient returns a client whose connections dial makes, on demand. It refuses
// messages of more than maxMessage bytes. The caller closes it.
func NewClient(dial Dialer, maxMessage int) *Client {
	t := &http.Transport{
		Protocols:          h2c(),
		DisableCompression: true,
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
	}
	transport := connecthttp.NewTransport(&http.Client{Transport: t}, "http://banger", connecthttp.WithReadMaxBytes(maxMessage), connecthttp.WithCompressors())
	return &Client{Client: connect.NewClient(transport, receiveErrors), transport: t}
}

// Close closes the connections that no call uses.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// h2c is HTTP/2 without TLS and nothing else.
func h2c() *http.Protocols {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return p
}
