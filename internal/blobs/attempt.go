package blobs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"banger/internal/base/errs"
)

// Patience with a source.
const (
	// attempts is how often in a row a source may fail without bringing anything.
	attempts   = 5
	firstPause = 200 * time.Millisecond // doubled for each further attempt
	// headway is how many bytes an attempt must bring for the count to begin again:
	// a source that is cut off after every few bytes is not worth its connections.
	headway = 64 << 10
)

// sourceError is a failure to get bytes, as against wrong bytes, and against a
// failure of our own disk.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

// passes says whether the source may do better when it is asked again.
func passes(err error) bool {
	_, ok := errors.AsType[*sourceError](err)
	return ok && !refusal(err)
}

// refusal says whether a source's error is one that stays.
func refusal(err error) bool {
	if e, ok := errors.AsType[interface {
		error
		Permanent() bool
	}](err); ok && e.Permanent() {
		return true
	}
	switch errs.KindOf(err) {
	case errs.NotFound, errs.Invalid, errs.Exists, errs.Conflict, errs.Canceled:
		return true
	case errs.Internal, errs.Unavailable, errs.Timeout: // a timeout may be the network's
	}
	return false
}

// fill brings the bytes that are missing, in as many attempts as it takes and is
// worth, and checks them all.
func (dl *download) fill(ctx context.Context) error {
	pause := firstPause
	for failures := 0; ; {
		if whole, err := dl.whole(); whole || err != nil {
			return err
		}
		before := dl.at
		err := dl.attempt(ctx)
		if err == nil {
			return dl.check()
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if dl.at-before >= headway {
			failures, pause = 0, firstPause
		}
		if failures++; failures == attempts || !passes(err) {
			return err
		}
		dl.s.o.Log.DebugContext(ctx, "a download is cut off", "blob", dl.dg.String(), "bytes", dl.at, "err", err)
		select {
		case <-time.After(pause):
			pause *= 2
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// whole says whether all bytes are there, so that no source is needed: the last run
// may have ended just before it could say so. A blob that is whole and shorter than
// announced never gets any longer.
func (dl *download) whole() (bool, error) {
	switch {
	case dl.at == 0 && dl.d.Size != 0:
		return false, nil
	case dl.at == dl.d.Size:
		return true, dl.check()
	case !dl.dg.matches(dl.sum):
		return false, nil
	case dl.d.Size >= 0:
		return false, wrongSize(dl.d, dl.at)
	}
	return true, nil
}

func (dl *download) check() error {
	if !dl.dg.matches(dl.sum) {
		return fmt.Errorf("%d other bytes came: %w", dl.at, ErrMismatch)
	}
	return nil
}

// attempt asks the source once for what is missing. It returns nil at the end of
// the bytes.
func (dl *download) attempt(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stall := time.AfterFunc(dl.s.o.Stall, func() {
		cancel(errs.New(errs.Timeout, "no byte came for %s", dl.s.o.Stall))
	})
	defer stall.Stop()

	body, from, err := dl.src(ctx, dl.at)
	if err != nil {
		return causeOf(ctx, err)
	}
	defer body.Close() //nolint:errcheck // it was only read
	if from < 0 || from > dl.at {
		return &sourceError{errs.New(errs.Invalid, "the source began at byte %d when asked for %d", from, dl.at)}
	}
	dl.mixed = dl.mixed || dl.at > 0
	for skip := dl.at - from; ; {
		n, err := body.Read(dl.buf[:dl.want(skip)])
		if n > 0 {
			stall.Reset(dl.s.o.Stall)
		}
		if int64(n) <= skip {
			skip -= int64(n)
		} else if err := dl.add(dl.buf[skip:n]); err != nil {
			return err
		} else {
			skip = 0
		}
		switch {
		case errors.Is(err, io.EOF):
			return dl.ended(skip)
		case err != nil && dl.at == dl.d.Size && !refusal(err):
			return nil // there is nothing left that could be missed
		case err != nil:
			return causeOf(ctx, err)
		case ctx.Err() != nil:
			return causeOf(ctx, nil)
		}
	}
}

// want is how many bytes the next read may bring: one more than there should be, to
// see that there are no more.
func (dl *download) want(skip int64) int64 {
	return min(int64(len(dl.buf)), skip+dl.limit()-dl.at+1)
}

// ended judges the end of a source's bytes, skip of which did not reach beyond what
// was there before.
func (dl *download) ended(skip int64) error {
	switch {
	case skip > 0 && dl.d.Size < 0:
		return fmt.Errorf("the source has fewer bytes than have come before: %w", ErrMismatch)
	case skip > 0, dl.d.Size >= 0 && dl.at < dl.d.Size:
		return &sourceError{fmt.Errorf("the source ended after %d of %d bytes: %w", dl.at-skip, dl.d.Size, io.ErrUnexpectedEOF)}
	}
	return nil
}

// causeOf returns the source's failure: that it took too long, where ctx has ended,
// and else err.
func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return &sourceError{err}
}
