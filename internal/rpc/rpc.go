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
}

// NewServer returns a server that refuses messages of more than maxMessage
// bytes. HTTP's own complaints go to log.
func NewServer(maxMessage int, log *slog.Logger) *Server {
	return &Server{
		Methods:    connect.NewServer(sendErrors),
		maxMessage: maxMessage,
		http: &http.Server{
			Protocols:         h2c(),
			ReadHeaderTimeout: headerTimeout,
			ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		},
	}
}

// Serve answers calls on l until Close; it then returns nil.
func (s *Server) Serve(l net.Listener) error {
	mux := http.NewServeMux()
	connecthttp.Mount(mux, s.Methods, connecthttp.WithReadMaxBytes(s.maxMessage))
	s.http.Handler = mux
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Shutdown refuses new calls and waits for those under way, until ctx ends.
func (s *Server) Shutdown(ctx context.Context) error { return s.http.Shutdown(ctx) }

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
	transport := connecthttp.NewTransport(&http.Client{Transport: t}, "http://banger", connecthttp.WithReadMaxBytes(maxMessage))
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
