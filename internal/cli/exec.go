package cli

import (
	"context"
	"errors"
	"io"
	"sync"
	"syscall"

	guestv1 "banger/api/guest/v1"
	"banger/api/guest/v1/guestv1connect"
	"banger/internal/base/errs"
	"banger/internal/cli/term"
	"banger/internal/guestabi"
)

// execution is one Exec call: the command's streams on one side, ours on the other.
type execution struct {
	agent    guestv1connect.AgentServiceClient
	start    *guestv1.ExecStart
	in       io.Reader // nil: none
	out, err io.Writer
	sizes    <-chan term.Size      // nil: none
	signals  <-chan syscall.Signal // nil: none
}

// outputError is a failure to write the command's output.
type outputError struct{ err error }

func (e outputError) Error() string { return "cannot write the command's output: " + e.err.Error() }
func (e outputError) Unwrap() error { return e.err }

// run runs the command to its end. When ctx ends first, the stream breaks and
// the command gets SIGHUP.
//
// A read of in that is under way at the end is not waited for: nothing can
// interrupt it, and the process ends soon after.
func (e execution) run(ctx context.Context) (*guestv1.ExecExit, error) {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := e.agent.Exec(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	defer stream.Close()
	var sender sync.WaitGroup
	defer sender.Wait()
	defer cancel()
	if err := stream.Send(&guestv1.ExecRequest{Message: &guestv1.ExecRequest_Start{Start: e.start}}); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	sender.Go(func() { e.send(ctx, stream.Send) })
	for {
		r, err := stream.Receive()
		switch {
		case ctx.Err() != nil && err != nil:
			return nil, ctx.Err()
		case errors.Is(err, io.EOF):
			return nil, errs.New(errs.Unavailable, "the guest ended the call without an exit status")
		case err != nil:
			return nil, err
		}
		switch m := r.GetMessage().(type) {
		case *guestv1.ExecResponse_Stdout:
			_, err = e.out.Write(m.Stdout)
		case *guestv1.ExecResponse_Stderr:
			_, err = e.err.Write(m.Stderr)
		case *guestv1.ExecResponse_Exit:
			return m.Exit, nil
		}
		if err != nil {
			return nil, outputError{err}
		}
	}
}

// send is the one sender of the stream, which does not allow two. It ends with
// ctx, or when the stream does not take messages any more: Receive knows why.
func (e execution) send(ctx context.Context, send func(*guestv1.ExecRequest) error) {
	input := make(chan *guestv1.ExecRequest)
	if e.in != nil {
		go readInput(ctx, e.in, input)
	}
	for {
		var r *guestv1.ExecRequest
		select {
		case <-ctx.Done():
			return
		case r = <-input:
		case size := <-e.sizes:
			r = &guestv1.ExecRequest{Message: &guestv1.ExecRequest_Resize{Resize: &guestv1.WindowSize{Rows: size.Rows, Cols: size.Cols}}}
		case s := <-e.signals:
			r = &guestv1.ExecRequest{Message: &guestv1.ExecRequest_Signal{Signal: int32(s)}}
		}
		if send(r) != nil {
			return
		}
	}
}

// readInput passes in on to its end or ctx's.
func readInput(ctx context.Context, in io.Reader, out chan<- *guestv1.ExecRequest) {
	for {
		// A fresh buffer each time: the sender may still have the last one.
		buf := make([]byte, guestabi.MaxChunk/2)
		n, err := in.Read(buf)
		if n > 0 && !put(ctx, out, &guestv1.ExecRequest{Message: &guestv1.ExecRequest_Stdin{Stdin: buf[:n]}}) {
			return
		}
		if err != nil {
			put(ctx, out, &guestv1.ExecRequest{Message: &guestv1.ExecRequest_CloseStdin{CloseStdin: true}})
			return
		}
	}
}

func put[T any](ctx context.Context, c chan<- T, v T) bool {
	select {
	case c <- v:
		return true
	case <-ctx.Done():
		return false
	}
}
