package cli

import (
	"context"
	"errors"
	"io"
)

// uploading is the client's end of a call that takes a file in pieces.
type uploading[Request any] interface {
	Send(*Request) error
	Close() error
}

// upload opens a call, sends its header, then what send gives, and meanwhile shows with
// follow what becomes of it. An error of send, which is one of the file's, counts before the
// one that the call ends with.
func upload[S uploading[Request], Request any](ctx context.Context, open func(context.Context) (S, error), header *Request, send, follow func(S) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s, err := open(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.Send(header); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	// Not waited for: standard input's read cannot be interrupted. It ends with it,
	// and a cancelled stream takes nothing more.
	go func() {
		if err := send(s); err != nil {
			cancel(err)
		}
	}()
	err = follow(s)
	if cause := context.Cause(ctx); cause != nil && err != nil {
		return cause
	}
	return err
}
