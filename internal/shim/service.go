package shim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	guestv1 "banger/api/guest/v1"
	"banger/api/guest/v1/guestv1connect"
	shimv1 "banger/api/shim/v1"
	"banger/api/shim/v1/shimv1connect"
	"banger/internal/base/errs"
	"banger/internal/guestabi"
	"banger/internal/rpc"
)

// service is shim.v1.ShimService.
type service struct{ *shim }

var _ shimv1connect.ShimServiceHandler = (*service)(nil)

func (s *service) Watch(ctx context.Context, _ *shimv1.WatchRequest, stream shimv1connect.ShimServiceWatchServerStream) error {
	for {
		st, changed := s.status.get()
		if err := stream.Send(&shimv1.WatchResponse{Status: st}); err != nil {
			return err
		}
		if st.GetPhase() == shimv1.Phase_PHASE_EXITED {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *service) Shutdown(ctx context.Context, r *shimv1.ShutdownRequest) (*shimv1.ShutdownResponse, error) {
	timeout := time.Duration(r.GetTimeoutMs()) * time.Millisecond
	s.status.setReason(true, "stopped")
	err := s.askAgent(timeout)
	if err == nil {
		return &shimv1.ShutdownResponse{}, nil
	}
	s.Log.Warn("the guest did not stop", "err", err)
	s.status.replaceReason(fmt.Sprintf("killed: %s", err))
	if err := s.machine.Signal(os.Kill); err != nil {
		return nil, err
	}
	<-s.machine.Done()
	return &shimv1.ShutdownResponse{Killed: true}, nil
}

// askAgent asks the guest to power off and waits for the VMM's end. It does not
// depend on a caller who may go away.
func (s *service) askAgent(timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if st, _ := s.status.get(); !st.GetAnnounced() {
		return errors.New("the guest had not announced itself")
	}
	client := rpc.NewClient(s.link.Dial, guestabi.MaxMessage)
	defer client.Close()
	asked := make(chan error, 1)
	go func() {
		_, err := guestv1connect.NewAgentServiceClient(client.Client).Shutdown(ctx, &guestv1.ShutdownRequest{})
		asked <- err
	}()
	late := fmt.Errorf("it did not stop within %s", timeout)
	for {
		select {
		case <-s.machine.Done():
			cancel()
			return nil
		case err := <-asked:
			// An answer lost in the shutdown is no failure; wait for the end.
			if err != nil {
				s.Log.Info("the agent's answer to the shutdown", "err", err)
			}
			asked = nil
		case <-ctx.Done():
			return late
		}
	}
}

func (s *service) Kill(ctx context.Context, r *shimv1.KillRequest) (*shimv1.KillResponse, error) {
	sig := syscall.Signal(r.GetSignal())
	if sig == 0 {
		sig = syscall.SIGKILL
	}
	if sig == syscall.SIGKILL {
		s.status.setReason(true, "killed")
	}
	if err := s.machine.Signal(sig); err != nil {
		return nil, errs.New(errs.Invalid, "cannot send signal %d to the VMM: %w", sig, err)
	}
	if sig != syscall.SIGKILL {
		return &shimv1.KillResponse{}, nil
	}
	select {
	case <-s.machine.Done():
		return &shimv1.KillResponse{}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *service) Hold(ctx context.Context, _ *shimv1.HoldRequest, stream shimv1connect.ShimServiceHoldServerStream) error {
	s.holders.add()
	defer s.holders.remove()
	if err := stream.Send(&shimv1.HoldResponse{}); err != nil {
		return err
	}
	select {
	case <-s.machine.Done():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *service) Console(ctx context.Context, stream shimv1connect.ShimServiceConsoleServerStream) error {
	out, leave := s.console.attach()
	defer leave()
	// Writing must not wait for the guest forever once the client has gone, and
	// the reader cannot be interrupted but by the stream's end: so it is waited for
	// by the stream's own context, which ends when this handler returns.
	typed := make(chan error, 1)
	go func() {
		for {
			r, err := stream.Receive()
			if err == nil {
				_, err = s.machine.Console().Write(r.GetData())
			}
			if err != nil {
				typed <- err
				return
			}
		}
	}()
	for {
		select {
		case <-out.more:
			if err := stream.Send(&shimv1.ConsoleResponse{Data: out.take()}); err != nil {
				return err
			}
		case err := <-typed:
			if errors.Is(err, io.EOF) { // half-closed: output only, from now on
				typed = nil
				continue
			}
			return err
		case <-s.machine.Done():
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// hostService is what the guest may ask of the host.
type hostService struct{ *shim }

var _ guestv1connect.HostServiceHandler = (*hostService)(nil)

// Bounds of what a guest may say of itself.
const maxGuestWord = 128

func (h *hostService) Announce(_ context.Context, r *guestv1.AnnounceRequest) (*guestv1.AnnounceResponse, error) {
	for _, word := range []string{r.GetVersion(), r.GetBootId(), r.GetKernelRelease(), r.GetInit()} {
		if len(word) > maxGuestWord || !printable(word) {
			return nil, errs.New(errs.Invalid, "the announcement has an odd word in it: %.40q", word)
		}
	}
	h.Log.Info("the agent announced itself", "version", r.GetVersion(), "boot_id", r.GetBootId(), "init", r.GetInit())
	h.status.announce(func(st *shimv1.Status) {
		st.Phase, st.Announced = shimv1.Phase_PHASE_READY, true
		st.BootId, st.Init, st.KernelRelease = r.GetBootId(), r.GetInit(), r.GetKernelRelease()
	})
	return &guestv1.AnnounceResponse{UnixNanos: time.Now().UnixNano()}, nil
}

// printable keeps control sequences of a guest out of terminals and logs.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
