// Package fetch gets files over HTTP, or from a folder, for callers who know what
// the bytes must be: it cares for liveness, and the digest for trust.
//
// A failure that may pass is tried again from the start, a fixed number of times;
// a server that falls silent is given up.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"banger/internal/base/errs"
	"banger/internal/base/version"
)

// Patience with a server.
const (
	// DefaultStall is how long no byte may come.
	DefaultStall  = 60 * time.Second
	headerTimeout = 30 * time.Second
	// Attempts is how often a file is asked for.
	Attempts   = 3
	firstPause = 200 * time.Millisecond // doubled for each further attempt
)

// Options say how to reach servers.
type Options struct {
	// Proxy chooses the proxy of a request; nil means those of the environment.
	Proxy func(*http.Request) (*url.URL, error)
	// Stall is how long no byte may come; 0 means DefaultStall.
	Stall time.Duration
	// Hint goes with an error of the network or the server.
	Hint string
}

// Client gets files. It may be used by many goroutines.
type Client struct {
	http  *http.Client
	stall time.Duration
	hint  string
}

// New returns a client. It sends nothing.
func New(o Options) *Client {
	if o.Proxy == nil {
		o.Proxy = http.ProxyFromEnvironment
	}
	if o.Stall == 0 {
		o.Stall = DefaultStall
	}
	t := &http.Transport{
		Proxy:                 o.Proxy,
		DialContext:           (&net.Dialer{Timeout: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:   15 * time.Second,
		ResponseHeaderTimeout: headerTimeout,
		IdleConnTimeout:       30 * time.Second,
		ForceAttemptHTTP2:     true,
		// What is compressed is a file; unasked decoding would change it.
		DisableCompression: true,
	}
	t.RegisterProtocol("file", http.NewFileTransport(http.Dir("/")))
	return &Client{stall: o.Stall, hint: o.Hint, http: &http.Client{Transport: t, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		from, to := via[0].URL.Scheme, req.URL.Scheme
		if len(via) > 5 || to != "https" && (to != "http" || from != "http") {
			return fmt.Errorf("refused the redirection to %q", req.URL.Redacted())
		}
		return nil
	}}}
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// CheckURL refuses what no Client can fetch.
func CheckURL(raw string) error {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return errs.New(errs.Invalid, "cannot read the URL %q: %w", raw, errors.Unwrap(err)).WithHint("write it as https://HOST/PATH")
	case u.Scheme == "file" && u.Host == "" && u.Path != "":
	case (u.Scheme == "http" || u.Scheme == "https") && u.Host != "":
	default:
		return errs.New(errs.Invalid, "cannot fetch %q: it is neither http, https nor file", u.Redacted()).WithHint("write it as https://HOST/PATH")
	}
	return nil
}

// Redacted returns a URL without the password in it, for people.
func Redacted(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return raw
	}
	return u.Redacted()
}

// serverError is a failure to get bytes, as against wrong bytes.
type serverError struct {
	err   error
	final bool // trying again is of no use
}

func (e *serverError) Error() string { return e.err.Error() }
func (e *serverError) Unwrap() error { return e.err }

// Get calls consume with the body at uri, again from the start after a failure
// that may pass. A file that is not there is a NotFound error; an error of consume
// itself is returned as it is.
func (c *Client) Get(ctx context.Context, uri string, consume func(io.Reader) error) error {
	pause := firstPause
	for i := 1; ; i++ {
		err := c.getOnce(ctx, uri, consume)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		m, ok := errors.AsType[*serverError](err)
		if !ok {
			return err // nil, or not the server's doing
		}
		if m.final || i == Attempts {
			return errs.New(errs.Unavailable, "cannot fetch %q: %w", Redacted(uri), m.err).WithHint("%s", c.hint)
		}
		select {
		case <-time.After(pause):
			pause *= 2
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (c *Client) getOnce(ctx context.Context, uri string, consume func(io.Reader) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return errs.New(errs.Invalid, "cannot fetch %q: %w", Redacted(uri), err)
	}
	req.Header.Set("User-Agent", "banger/"+version.String())
	resp, err := c.http.Do(req)
	if err != nil {
		return &serverError{err: err}
	}
	defer resp.Body.Close() //nolint:errcheck // it was only read
	switch code := resp.StatusCode; {
	case code == http.StatusOK:
	case code == http.StatusNotFound || code == http.StatusGone:
		return errs.New(errs.NotFound, "there is no %q", Redacted(uri))
	default:
		return &serverError{err: errors.New("the server says " + resp.Status), final: code < 500 && code != http.StatusTooManyRequests && code != http.StatusRequestTimeout}
	}
	stall := time.AfterFunc(c.stall, func() { cancel(fmt.Errorf("no byte came for %s", c.stall)) })
	defer stall.Stop()
	return consume(&watchedBody{r: resp.Body, ctx: ctx, alive: func() { stall.Reset(c.stall) }})
}

// watchedBody is a body whose reads keep the stall timer away.
type watchedBody struct {
	r     io.Reader
	ctx   context.Context //nolint:containedctx // it ends with the request
	alive func()
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if n > 0 {
		b.alive()
	}
	if err != nil && !errors.Is(err, io.EOF) {
		if cause := context.Cause(b.ctx); cause != nil {
			err = cause
		}
		err = &serverError{err: err}
	}
	return n, err
}
