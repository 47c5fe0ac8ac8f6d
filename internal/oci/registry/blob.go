package registry

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"banger/internal/base/errs"
	"banger/internal/oci"
)

// source returns the Source of a layer. An error of it that comes back at once
// however often one tries is errs.NotFound or errs.Invalid.
func (p *pull) source(l oci.Layer) oci.Source {
	return func(ctx context.Context, offset int64) (r io.ReadCloser, from int64, err error) {
		switch {
		case offset < 0 || offset > l.Size:
			return nil, 0, errs.New(errs.Invalid, "the layer %s has %d bytes, and none at %d", l.Digest, l.Size, offset)
		case offset == l.Size:
			return http.NoBody, offset, nil
		}
		err = p.try(ctx, func(s *session) error {
			var err error
			r, from, err = s.blob(ctx, l, offset)
			return err
		})
		if err != nil {
			return nil, 0, fmt.Errorf("cannot get the layer %s: %w", l.Digest, err)
		}
		return r, from, nil
	}
}

// blob opens a layer at offset, or at 0 if the registry does not know how
// (distribution specification, "Pulling blobs"; RFC 9110 section 14).
func (s *session) blob(ctx context.Context, l oci.Layer, offset int64) (io.ReadCloser, int64, error) {
	header := http.Header{"Accept": {"*/*"}}
	if offset > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	resp, err := s.get(ctx, "/blobs/"+l.Digest, header)
	if err == nil && resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && offset > 0 {
		// The offset is within the layer, so it is the range as such that is refused.
		drop(resp)
		header.Del("Range")
		resp, err = s.get(ctx, "/blobs/"+l.Digest, header)
	}
	if err != nil {
		return nil, 0, err
	}
	from := int64(0)
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusPartialContent:
		from, err = rangeStart(resp.Header.Get("Content-Range"), l.Size)
		if err == nil && from > offset {
			err = fmt.Errorf("it begins at %d", from)
		}
		if err != nil {
			err = errs.New(errs.Unavailable, "%s answers the request for bytes from %d on with a wrong range: %w", s.place, offset, err)
		}
	default:
		err = s.refused(resp)
	}
	if n := resp.ContentLength; err == nil && n >= 0 && n != l.Size-from {
		err = errs.New(errs.Invalid, "%s has %d bytes of the %d that it should have", s.place, n+from, l.Size)
	}
	if err != nil {
		_ = resp.Body.Close()
		return nil, 0, err
	}
	return &exactly{body: resp.Body, left: l.Size - from, s: s}, from, nil
}

// rangeStart reads a Content-Range of something that has size bytes, up to whose end it
// must go: "bytes 100-999/1000".
func rangeStart(h string, size int64) (int64, error) {
	bad := fmt.Errorf("%q", oci.Printable(h))
	span, total, ok := strings.Cut(strings.TrimPrefix(h, "bytes "), "/")
	first, last, ok2 := strings.Cut(span, "-")
	if !ok || !ok2 || !strings.HasPrefix(h, "bytes ") {
		return 0, bad
	}
	from, err := strconv.ParseInt(first, 10, 64)
	if err != nil || from < 0 {
		return 0, bad
	}
	if last != strconv.FormatInt(size-1, 10) || total != "*" && total != strconv.FormatInt(size, 10) {
		return 0, bad
	}
	return from, nil
}

// exactly is a body that has left bytes more: a shorter one ends with
// io.ErrUnexpectedEOF, and a longer one with an error after them.
type exactly struct {
	body io.ReadCloser
	left int64
	s    *session
}

func (e *exactly) Read(p []byte) (int, error) {
	if e.left == 0 { // is it the end?
		var more [1]byte
		n, err := io.ReadFull(e.body, more[:])
		if n > 0 {
			return 0, errs.New(errs.Invalid, "%s sends more than it should", e.s.place)
		}
		if err != io.EOF { //nolint:errorlint // readers return it bare
			err = e.s.broken(err)
		}
		return 0, err
	}
	if int64(len(p)) > e.left {
		p = p[:e.left]
	}
	n, err := e.body.Read(p)
	if e.left -= int64(n); err == io.EOF && e.left > 0 { //nolint:errorlint // readers return it bare
		err = io.ErrUnexpectedEOF
	} else if err == io.EOF { //nolint:errorlint // likewise
		err = nil // said by the next Read
	}
	if err != nil {
		err = e.s.broken(err)
	}
	return n, err
}

func (e *exactly) Close() error { return e.body.Close() }
