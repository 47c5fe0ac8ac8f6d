package debian

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

// Patience with a mirror.
const (
	stallTimeout  = 60 * time.Second
	headerTimeout = 30 * time.Second
	attempts      = 3
	firstPause    = 200 * time.Millisecond // doubled for each further attempt
)

// newClient returns a client for mirrors. Whatever it fetches is checked against
// a hash or a signature afterwards, so it cares for liveness only.
func newClient(proxy func(*http.Request) (*url.URL, error)) *http.Client {
	t := &http.Transport{
		Proxy:                 proxy,
		DialContext:           (&net.Dialer{Timeout: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:   15 * time.Second,
		ResponseHeaderTimeout: headerTimeout,
		IdleConnTimeout:       30 * time.Second,
		ForceAttemptHTTP2:     true,
		// A mirror's files are compressed as files; unasked decoding would change them.
		DisableCompression: true,
	}
	t.RegisterProtocol("file", http.NewFileTransport(http.Dir("/")))
	return &http.Client{Transport: t, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		from, to := via[0].URL.Scheme, req.URL.Scheme
		if len(via) > 5 || to != "https" && (to != "http" || from != "http") {
			return fmt.Errorf("refused the redirection to %q", req.URL.Redacted())
		}
		return nil
	}}
}

// mirrorError is a failure to get bytes, as against wrong bytes.
type mirrorError struct {
	err   error
	final bool // trying again is of no use
}

func (e *mirrorError) Error() string { return e.err.Error() }
func (e *mirrorError) Unwrap() error { return e.err }

// get calls consume with the body at uri, again from the start after a failure
// that may pass. A file that is not there is a NotFound error.
func (a *Archive) get(ctx context.Context, uri string, consume func(io.Reader) error) error {
	pause := firstPause
	for i := 1; ; i++ {
		err := a.getOnce(ctx, uri, consume)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		m, ok := errors.AsType[*mirrorError](err)
		if !ok {
			return err // nil, or not the mirror's doing
		}
		if m.final || i == attempts {
			return errs.New(errs.Unavailable, "cannot fetch %q: %w", uri, m.err).WithHint("check the network and the mirror: apt-get update")
		}
		select {
		case <-time.After(pause):
			pause *= 2
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (a *Archive) getOnce(ctx context.Context, uri string, consume func(io.Reader) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return errs.New(errs.Invalid, "cannot fetch %q: %w", uri, err)
	}
	req.Header.Set("User-Agent", "banger/"+version.String())
	resp, err := a.client.Do(req)
	if err != nil {
		return &mirrorError{err: err}
	}
	defer resp.Body.Close() //nolint:errcheck // it was only read
	switch code := resp.StatusCode; {
	case code == http.StatusOK:
	case code == http.StatusNotFound || code == http.StatusGone:
		return errs.New(errs.NotFound, "there is no %q", uri)
	default:
		return &mirrorError{err: errors.New("the mirror says " + resp.Status), final: code < 500 && code != http.StatusTooManyRequests && code != http.StatusRequestTimeout}
	}
	stall := time.AfterFunc(a.stall, func() { cancel(fmt.Errorf("no byte came for %s", a.stall)) })
	defer stall.Stop()
	return consume(&watchedBody{r: resp.Body, ctx: ctx, alive: func() { stall.Reset(a.stall) }})
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
		err = &mirrorError{err: err}
	}
	return n, err
}
