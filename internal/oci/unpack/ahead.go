package unpack

import (
	"context"
	"errors"
	"io"
)

// Buffers between a decompressor and its reader: enough to keep both busy, and few
// enough to stay in a core's cache.
const (
	bufferSize = 256 << 10
	buffers    = 4
)

// ahead is a stream whose decompressor runs in a goroutine of its own.
type ahead struct {
	full, free chan []byte
	cancel     context.CancelFunc
	// err is how the stream ended: io.EOF or an error. It is set before full is closed.
	err error
	// now is what the reader has of the buffer that it holds, which is whole.
	now, whole []byte
	closed     bool
}

// readAhead returns the stream that open opens, which the goroutine closes. Errors
// are judged by src, whose context cancel ends.
func readAhead(src *source, cancel context.CancelFunc, open func() (io.ReadCloser, error), limit int64) *ahead {
	a := &ahead{full: make(chan []byte, buffers), free: make(chan []byte, buffers), cancel: cancel}
	for range buffers {
		a.free <- nil // allocated when first used: most streams are short
	}
	go func() {
		defer close(a.full)
		z, err := open()
		if err != nil {
			a.err = src.judge(unexpected(err))
			return
		}
		err = a.fill(src.ctx, z, limit)
		if closeErr := z.Close(); errors.Is(err, io.EOF) && closeErr != nil {
			err = closeErr
		}
		a.err = src.judge(err)
	}()
	return a
}

// unexpected is an end where there should be more.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

var errClosed = errors.New("the stream is closed")

// fill passes z on until it or ctx ends, and says how.
func (a *ahead) fill(ctx context.Context, z io.Reader, limit int64) error {
	var total int64
	for {
		var b []byte
		select {
		case b = <-a.free:
		case <-ctx.Done():
			return ctx.Err()
		}
		if b == nil {
			b = make([]byte, bufferSize)
		}
		b = b[:bufferSize]
		var n int
		var err error
		for n < len(b) && err == nil {
			var m int
			if m, err = z.Read(b[n:]); ctx.Err() != nil {
				return ctx.Err()
			}
			n += m
		}
		if total += int64(n); limit > 0 && total > limit {
			n, err = n-int(total-limit), tooLarge(limit)
		}
		if n > 0 {
			a.full <- b[:n] // never blocks: there are no more buffers than places
		}
		if err != nil {
			return err
		}
	}
}

// next gets the next buffer, or the error that ends the stream.
func (a *ahead) next() error {
	if a.closed {
		return errClosed
	}
	if a.whole != nil {
		a.free <- a.whole
		a.whole, a.now = nil, nil
	}
	b, ok := <-a.full
	if !ok {
		return a.err
	}
	a.whole, a.now = b, b
	return nil
}

func (a *ahead) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(a.now) == 0 {
		if err := a.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, a.now)
	a.now = a.now[n:]
	return n, nil
}

// WriteTo writes the rest of the stream, without a copy between.
func (a *ahead) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for {
		if len(a.now) == 0 {
			switch err := a.next(); {
			case errors.Is(err, io.EOF):
				return total, nil
			case err != nil:
				return total, err
			}
		}
		n, err := w.Write(a.now)
		total += int64(n)
		a.now = a.now[n:]
		if err != nil {
			return total, err
		}
	}
}

// Close ends the decompression and waits for it.
func (a *ahead) Close() error {
	if a.closed {
		return nil
	}
	a.closed, a.now, a.whole = true, nil, nil
	a.cancel()
	for range a.full { //nolint:revive // until it is closed
	}
	return nil
}
