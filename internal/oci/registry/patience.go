package registry

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"syscall"
	"time"
)

// patience is how often and after which pauses a request is made again.
type patience struct {
	attempts int
	// first is the first pause, doubled for each further one. most is the longest that a
	// registry may ask for; what takes longer is not waited for.
	first, most time.Duration
	// document is the time for one document, tries and redirections included.
	document time.Duration
	wait     func(context.Context, time.Duration) error
}

var defaultPatience = patience{
	attempts: 4, first: 250 * time.Millisecond, most: 30 * time.Second,
	document: 2 * time.Minute, wait: wait,
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pause is the i-th pause, from 1 on, between half and all of its length, so that
// many who were turned away together do not come back together.
func (p patience) pause(i int) time.Duration {
	d := p.first << (i - 1)
	return d/2 + rand.N(d/2+1) //nolint:gosec // no secret
}

// roundTrip makes the request, again if it failed in a way that may pass: the
// registry is overloaded, or hung up before it answered. Only a GET is made again.
func (p patience) roundTrip(t http.RoundTripper, req *http.Request) (*http.Response, error) {
	for i := 1; ; i++ {
		resp, err := t.RoundTrip(req)
		if i >= p.attempts || req.Method != http.MethodGet || req.Context().Err() != nil {
			return resp, err
		}
		pause := p.pause(i)
		switch {
		case err != nil && !hungUp(err):
			return nil, err
		case err == nil && !overloaded(resp.StatusCode):
			return resp, nil
		case err == nil:
			asked := retryAfter(resp.Header, time.Now())
			if asked > p.most {
				return resp, nil
			}
			pause = max(pause, asked)
			drop(resp)
		}
		if err := p.wait(req.Context(), pause); err != nil {
			return nil, err
		}
	}
}

func overloaded(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// hungUp says whether a connection was closed that had been made.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// retryAfter returns what the header of that name asks for (RFC 9110 section 10.2.3),
// or 0.
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := h.Get("Retry-After")
	if seconds, err := strconv.ParseUint(v, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}
