package registry

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"banger/internal/base/errs"
	"banger/internal/oci"
)

var errTooLong = errors.New("it is too long")

// readAtMost reads all of r, which announces length bytes (negative if unknown), or
// returns errTooLong.
func readAtMost(r io.Reader, length, limit int64) ([]byte, error) {
	if length > limit {
		return nil, errTooLong
	}
	var b bytes.Buffer
	switch n, err := io.Copy(&b, io.LimitReader(r, limit+1)); {
	case err != nil:
		return nil, err
	case n > limit:
		return nil, errTooLong
	}
	return b.Bytes(), nil
}

// refused returns the error that an answer is, which is not what we asked for. Its
// body is read, and not closed.
func (s *session) refused(resp *http.Response) error {
	resp.Body = io.NopCloser(io.LimitReader(resp.Body, maxAnswer))
	err := transport.CheckError(resp)
	answer, ok := errors.AsType[*transport.Error](err)
	if !ok { // the answer breaks off
		answer = &transport.Error{StatusCode: resp.StatusCode}
	}
	who := s.place.String()
	if resp.Request != nil && !s.reach.isOwn(resp.Request.URL) {
		who += ", or rather " + oci.Printable(resp.Request.URL.Host) + ","
	}
	return s.judge(who, answer, resp.Header)
}

// judge returns an answer's error, with a kind.
func (s *session) judge(who string, answer *transport.Error, h http.Header) error {
	said := http.StatusText(answer.StatusCode)
	if len(answer.Errors) > 0 {
		said = string(answer.Errors[0].Code)
		if m := answer.Errors[0].Message; m != "" {
			said += ": " + m
		}
	}
	said = oci.Printable(said)
	switch code := answer.StatusCode; {
	case code == http.StatusNotFound || code == http.StatusGone:
		return errs.New(errs.NotFound, "%s does not have it: %s", who, said).WithHint("check the image's name and tag")
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		because := ""
		if without := s.without.Load(); without != nil {
			because = "; there are no credentials: " + (*without).Error()
		}
		return errs.New(errs.Unavailable, "%s does not let us have it, or does not have it: %w%s", who, denied(said), because).
			WithHint("check the image's name, or get access: %s", s.place.login())
	case code == http.StatusTooManyRequests:
		if after := retryAfter(h, time.Now()); after > 0 {
			said += ", for " + after.Round(time.Second).String()
		}
		return errs.New(errs.Unavailable, "%s has had too many requests of us: %s", who, said).
			WithHint("try again later, or log in for a higher limit: %s", s.place.login())
	case code >= 500:
		return errs.New(errs.Unavailable, "%s fails with status %d: %s", who, code, said).WithHint("try again later")
	default:
		return s.noRegistry(who, code, said)
	}
}

// denied is a registry's refusal: to ask again is no use.
type denied string

func (d denied) Error() string { return string(d) }

// Permanent says so to whoever keeps what the registry sends.
func (denied) Permanent() bool { return true }

func (s *session) noRegistry(who string, code int, said string) error {
	return errs.New(errs.Unavailable, "%s answers with status %d: %s", who, code, said).WithHint("check that a registry answers at %s", s.place)
}

// explain returns an error of the transport with a kind and a hint. who is whom we
// spoke to, if not the registry.
func (s *session) explain(err error, who string) error {
	name := s.place.String()
	if who != "" {
		name += ", or rather " + who + ","
	}
	if _, known := errors.AsType[*errs.Error](err); known || errors.Is(err, context.Canceled) {
		return err
	}
	if answer, ok := errors.AsType[*transport.Error](err); ok {
		if code := answer.StatusCode; code == http.StatusNotFound || code == http.StatusGone {
			return s.noRegistry(name, code, http.StatusText(code)) // it is not the image that is not there
		}
		return s.judge(name, answer, nil)
	}
	refused, isRefused := errors.AsType[*refusal](err)
	itself := isRefused && refused.where == s.place.registry.RegistryStr()
	if isRefused && !itself {
		return errs.New(errs.Invalid, "%s sends us astray: %w", name, refused)
	}
	text := oci.Printable(err.Error())
	cannot := func() *errs.Error { return errs.New(errs.Unavailable, "cannot reach %s: %w", name, &told{text, err}) }
	dns, isDNS := errors.AsType[*net.DNSError](err)
	cert, isCert := errors.AsType[*tls.CertificateVerificationError](err)
	timeout, isTimeout := errors.AsType[net.Error](err)
	switch {
	case isCert:
		return errs.New(errs.Unavailable, "the certificate of %s proves nothing to us: %w", name, cert.Err).
			WithHint("add its authority's certificate to the CA file of the configuration, or list %s as insecure there", s.place.registry)
	case errors.Is(err, http.ErrSchemeMismatch), strings.Contains(text, "first record does not look like a TLS handshake"):
		return errs.New(errs.Unavailable, "%s speaks http without TLS", name).
			WithHint("if that is meant to be, list %s as insecure in the configuration", s.place.registry)
	case itself: // a private address, which may answer without TLS
		return cannot().WithHint("if it is meant to be without TLS, list %s as insecure in the configuration", s.place.registry)
	case isDNS && dns.IsNotFound:
		return cannot().WithHint("check the registry's name and the network")
	case errors.Is(err, syscall.ECONNREFUSED):
		return cannot().WithHint("nothing listens there: check that %s is the registry's address and that it runs, and HTTPS_PROXY if there is a proxy", s.place)
	case isTimeout && timeout.Timeout():
		return errs.New(errs.Unavailable, "%s does not answer: %w", name, &told{text, err}).WithHint("check the network, and HTTPS_PROXY if there is a proxy")
	}
	return cannot().WithHint("check the network, and HTTPS_PROXY if there is a proxy")
}

// broken returns the error of an answer that breaks off, with a kind.
func (s *session) broken(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return errs.New(errs.Unavailable, "%s breaks off: %w", s.place, &told{oci.Printable(err.Error()), err}).WithHint("check the network")
}

// told is an error with another text.
type told struct {
	text string
	err  error
}

func (t *told) Error() string { return t.text }
func (t *told) Unwrap() error { return t.err }
