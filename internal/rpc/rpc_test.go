package rpc_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	guestv1 "banger/api/guest/v1"
	"banger/api/guest/v1/guestv1connect"
	"banger/internal/base/errs"
	"banger/internal/rpc"
)

type failing struct {
	guestv1connect.UnimplementedAgentServiceHandler
	err error
}

func (f failing) Health(context.Context, *guestv1.HealthRequest) (*guestv1.HealthResponse, error) {
	return &guestv1.HealthResponse{BootId: "x"}, f.err
}

// serve answers Health with err on a socket of its own.
func serve(t *testing.T, err error, maxMessage int) guestv1connect.AgentServiceClient {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, listenErr := rpc.ListenUnix(path)
	if listenErr != nil {
		t.Fatal(listenErr)
	}
	info, statErr := os.Stat(path)
	if statErr != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the socket's mode is %v, %v; want 0600", info.Mode(), statErr)
	}
	s := rpc.NewServer(maxMessage, slog.New(slog.DiscardHandler))
	guestv1connect.RegisterAgentServiceHandler(s.Methods, failing{err: err})
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	c := rpc.NewClient(rpc.Unix(path), maxMessage)
	t.Cleanup(func() {
		c.Close()
		_ = s.Close()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return guestv1connect.NewAgentServiceClient(c.Client)
}

func TestErrorsKeepTheirKindAndHint(t *testing.T) {
	for _, kind := range []errs.Kind{errs.Internal, errs.Invalid, errs.NotFound, errs.Exists, errs.Conflict, errs.Unavailable, errs.Timeout, errs.Canceled} {
		client := serve(t, errs.New(kind, "cannot do %q", "it").WithHint("banger help"), 1<<10)
		_, err := client.Health(t.Context(), &guestv1.HealthRequest{})
		if errs.KindOf(err) != kind || errs.HintOf(err) != "banger help" || err.Error() != `cannot do "it"` {
			t.Errorf("kind %s came back as %s, %q, hint %q", kind, errs.KindOf(err), err, errs.HintOf(err))
		}
	}
	if _, err := serve(t, nil, 1<<10).Health(t.Context(), &guestv1.HealthRequest{}); err != nil {
		t.Errorf("a good call: %v", err)
	}
	_, err := serve(t, errors.New("plain"), 1<<10).Health(t.Context(), &guestv1.HealthRequest{})
	if errs.KindOf(err) != errs.Internal || err.Error() != "plain" {
		t.Errorf("a plain error came back as %s, %q", errs.KindOf(err), err)
	}
}

func TestMissingServerIsUnavailable(t *testing.T) {
	c := rpc.NewClient(rpc.Unix(filepath.Join(t.TempDir(), "none")), 1<<10)
	defer c.Close()
	_, err := guestv1connect.NewAgentServiceClient(c.Client).Health(t.Context(), &guestv1.HealthRequest{})
	if errs.KindOf(err) != errs.Unavailable {
		t.Errorf("kind %s, %v; want unavailable", errs.KindOf(err), err)
	}
}

func TestLargeMessageIsRefused(t *testing.T) {
	if _, err := serve(t, nil, 1).Health(t.Context(), &guestv1.HealthRequest{}); err == nil {
		t.Error("a message beyond the bound was accepted")
	}
}

// TestLostConnectionIsUnavailable: a server that dies in the middle of a call is
// not a caller's own cancellation.
func TestLostConnectionIsUnavailable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := rpc.ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		buf := make([]byte, 16)
		_, _ = c.Read(buf)
		_ = c.Close()
	}()
	c := rpc.NewClient(rpc.Unix(path), 1<<10)
	defer c.Close()
	if _, err := guestv1connect.NewAgentServiceClient(c.Client).Health(t.Context(), &guestv1.HealthRequest{}); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("kind %s, %v; want unavailable", errs.KindOf(err), err)
	}
}

func TestFullDiskIsForTheUserToMend(t *testing.T) {
	_, err := serve(t, &os.PathError{Op: "write", Path: "/x", Err: syscall.ENOSPC}, 1<<10).Health(t.Context(), &guestv1.HealthRequest{})
	if errs.KindOf(err) != errs.Unavailable || errs.HintOf(err) == "" {
		t.Errorf("kind %s, hint %q", errs.KindOf(err), errs.HintOf(err))
	}
}
