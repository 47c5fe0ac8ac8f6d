package rpc

import (
	"context"
	"errors"
	"io"
	"syscall"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connectproto"

	bangerv1 "banger/api/banger/v1"
	"banger/internal/base/errs"
)

// codes gives each kind its code on the wire. The kind itself travels in the
// detail; the code is for other clients.
var codes = map[errs.Kind]connect.Code{
	errs.Internal:    connect.CodeInternal,
	errs.Invalid:     connect.CodeInvalidArgument,
	errs.NotFound:    connect.CodeNotFound,
	errs.Exists:      connect.CodeAlreadyExists,
	errs.Conflict:    connect.CodeFailedPrecondition,
	errs.Unavailable: connect.CodeUnavailable,
	errs.Timeout:     connect.CodeDeadlineExceeded,
	errs.Canceled:    connect.CodeCanceled,
}

// sendErrors makes every error of a handler a Connect error with an ErrorDetail.
func sendErrors(next connect.ServerFunc) connect.ServerFunc {
	return func(ctx context.Context, spec connect.Spec, stream connect.ServerStream) error {
		return toWire(next(ctx, spec, stream))
	}
}

func toWire(err error) error {
	if err == nil {
		return nil
	}
	// An error of Connect's own, such as a message that is too large, stays as it is.
	if _, ok := errors.AsType[*connect.Error](err); ok {
		return err
	}
	kind, hint := errs.KindOf(err), errs.HintOf(err)
	if kind == errs.Internal && errors.Is(err, syscall.ENOSPC) {
		kind, hint = errs.Unavailable, "free some space on that file system"
	}
	wire := connect.NewError(codes[kind], err.Error()).WithCause(err)
	detail, detailErr := connectproto.NewErrorDetail(&bangerv1.ErrorDetail{Kind: string(kind), Hint: hint})
	if detailErr != nil {
		return wire
	}
	return wire.WithDetail(detail)
}

// receiveErrors gives every error of a call its kind and hint back.
func receiveErrors(next connect.ClientFunc) connect.ClientFunc {
	return func(ctx context.Context, spec connect.Spec) (connect.ClientStream, error) {
		s, err := next(ctx, spec)
		if err != nil {
			return nil, fromWire(err)
		}
		// net/http does not look at ctx while it waits for the next piece of a request's
		// body, so a call with an input side would outlive it.
		return clientStream{s, ctx, context.AfterFunc(ctx, func() { _ = s.Close() })}, nil
	}
}

type clientStream struct {
	connect.ClientStream
	ctx  context.Context //nolint:containedctx // the call's
	stop func() bool
}

func (s clientStream) SendHeaders() error { return fromWire(s.ClientStream.SendHeaders()) }
func (s clientStream) Send(msg any) error { return fromWire(s.ClientStream.Send(msg)) }

func (s clientStream) Receive(msg any) error {
	err := s.ClientStream.Receive(msg)
	if err != nil {
		s.stop()
	}
	err = fromWire(err)
	// A peer that dies resets its streams or cuts a message off, which reads as a
	// cancelled call or a broken protocol.
	if wire, ok := errors.AsType[*connect.Error](err); ok && !wire.IsRemote() && s.ctx.Err() == nil {
		switch wire.Code() {
		case connect.CodeCanceled, connect.CodeInternal, connect.CodeUnknown:
			return errs.New(errs.Unavailable, "the connection was lost: %w", wire)
		}
	}
	return err
}

func (s clientStream) Close() error {
	s.stop()
	return s.ClientStream.Close()
}

func fromWire(err error) error {
	wire, ok := errors.AsType[*connect.Error](err)
	if !ok || errors.Is(err, io.EOF) {
		return err
	}
	for _, d := range wire.Details() {
		msg, err := connectproto.UnmarshalErrorDetail(d)
		if err != nil {
			continue
		}
		if detail, ok := msg.(*bangerv1.ErrorDetail); ok && codes[errs.Kind(detail.GetKind())] != 0 {
			return &errs.Error{Kind: errs.Kind(detail.GetKind()), Err: errors.New(wire.Message()), Hint: detail.GetHint()}
		}
	}
	for kind, code := range codes {
		if code == wire.Code() {
			return &errs.Error{Kind: kind, Err: err}
		}
	}
	return &errs.Error{Kind: errs.Internal, Err: err}
}
