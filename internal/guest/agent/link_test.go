package agent

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"testing"
	"time"

	guestv1 "banger/api/guest/v1"
	"banger/api/guest/v1/guestv1connect"
	"banger/internal/guestabi"
	"banger/internal/guestlink"
	"banger/internal/rpc"
)

// bound is how long anything may take before a test gives it up.
const bound = time.Minute

// self is the user that the tests run commands as.
var self = strconv.Itoa(os.Getuid())

type fakeHost struct {
	announced chan *guestv1.AnnounceRequest
}

func (h fakeHost) Announce(_ context.Context, req *guestv1.AnnounceRequest) (*guestv1.AnnounceResponse, error) {
	h.announced <- req
	return &guestv1.AnnounceResponse{UnixNanos: time.Now().UnixNano()}, nil
}

// guest is an agent in this process, and the host's end of the link to it.
type guest struct {
	agent     guestv1connect.AgentServiceClient
	announced chan *guestv1.AnnounceRequest
	dial      rpc.Dialer
}

func serveAgent(t *testing.T) guest {
	t.Helper()
	return serveAs(t, newService(guestabi.PowerOffACPI, slog.New(slog.DiscardHandler)))
}

// serveAs connects the agent s and a host in memory. When the test ends, the
// agent must have ended everything that it started.
func serveAs(t *testing.T, s *service) guest {
	t.Helper()
	guestEnd, hostEnd := net.Pipe()
	guestSide, err := guestlink.GuestSerial(guestEnd)
	if err != nil {
		t.Fatal(err)
	}
	hostSide, err := guestlink.HostSerial(hostEnd)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	announced := make(chan *guestv1.AnnounceRequest, 1)
	host := rpc.NewServer(guestabi.MaxMessage, log)
	guestv1connect.RegisterHostServiceHandler(host.Methods, fakeHost{announced})
	hostDone := make(chan error, 1)
	go func() { hostDone <- host.Serve(guestlink.Listener(hostSide)) }()
	s.log = log
	agentDone := make(chan struct{})
	go func() {
		defer close(agentDone)
		_ = s.serve(context.Background(), guestSide) // ends with the link
	}()
	client := rpc.NewClient(hostSide.Dial, guestabi.MaxMessage)
	t.Cleanup(func() {
		client.Close()
		_ = host.Close()
		_ = hostSide.Close()
		<-hostDone
		<-agentDone
		s.close()
		if n := len(s.slots); n != 0 {
			t.Errorf("%d commands are left", n)
		}
	})
	return guest{guestv1connect.NewAgentServiceClient(client.Client), announced, hostSide.Dial}
}

// result is what a command did.
type result struct {
	stdout, stderr bytes.Buffer
	exit           *guestv1.ExecExit
}

func argv(args ...string) [][]byte {
	var all [][]byte
	for _, a := range args {
		all = append(all, []byte(a))
	}
	return all
}

// begin starts a command; its first response has been read.
func (g guest) begin(ctx context.Context, t *testing.T, start *guestv1.ExecStart) guestv1connect.AgentServiceExecClientStream {
	t.Helper()
	if start.GetUser() == "" {
		start.User = self
	}
	stream, err := g.agent.Exec(ctx)
	if err != nil {
		t.Fatal(err)
	}
	send(t, stream, &guestv1.ExecRequest{Message: &guestv1.ExecRequest_Start{Start: start}})
	return stream
}

func send(t *testing.T, stream guestv1connect.AgentServiceExecClientStream, req *guestv1.ExecRequest) {
	t.Helper()
	if err := stream.Send(req); err != nil && !errors.Is(err, io.EOF) {
		t.Errorf("send: %v", err)
	}
}

// finish reads stream to its end.
func finish(t *testing.T, stream guestv1connect.AgentServiceExecClientStream) *result {
	t.Helper()
	r := &result{}
	for {
		resp, err := stream.Receive()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("receive: %v (stdout %.200q, stderr %.200q)", err, r.stdout.String(), r.stderr.String())
		}
		if r.exit != nil {
			t.Errorf("%v follows the exit", resp)
		}
		r.take(t, resp)
	}
	if r.exit == nil {
		t.Fatal("the stream ended without an exit")
	}
	return r
}

func (r *result) take(t *testing.T, resp *guestv1.ExecResponse) {
	t.Helper()
	if n := len(resp.GetStdout()) + len(resp.GetStderr()); n > guestabi.MaxChunk {
		t.Errorf("a chunk of %d bytes", n)
	}
	r.stdout.Write(resp.GetStdout())
	r.stderr.Write(resp.GetStderr())
	if resp.GetExit() != nil {
		r.exit = resp.GetExit()
	}
}

// run runs a command to its end.
func (g guest) run(t *testing.T, start *guestv1.ExecStart) *result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	stream := g.begin(ctx, t, start)
	defer stream.Close()
	return finish(t, stream)
}

func (g guest) shell(t *testing.T, script string) *result {
	t.Helper()
	return g.run(t, &guestv1.ExecStart{Argv: argv("/bin/sh", "-c", script)})
}

func TestAgentAnnouncesItself(t *testing.T) {
	g := serveAgent(t)
	req := <-g.announced
	if req.GetVersion() == "" || req.GetBootId() == "" || req.GetKernelRelease() == "" || req.GetInit() == "" {
		t.Errorf("announced %v, with something missing", req)
	}
	h, err := g.agent.Health(t.Context(), &guestv1.HealthRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if h.GetUptimeMs() <= 0 || h.GetBootId() != req.GetBootId() || time.Since(time.Unix(0, h.GetUnixNanos())).Abs() > bound {
		t.Errorf("health %v", h)
	}
}

func TestClockWithinASecondStays(t *testing.T) {
	g := serveAgent(t)
	resp, err := g.agent.SetTime(t.Context(), &guestv1.SetTimeRequest{UnixNanos: time.Now().Add(300 * time.Millisecond).UnixNano()})
	if err != nil || time.Duration(resp.GetOffsetNanos()).Abs() > time.Second {
		t.Errorf("offset %v, %v", resp, err)
	}
	if _, err := g.agent.SetTime(t.Context(), &guestv1.SetTimeRequest{UnixNanos: -1}); err == nil {
		t.Error("a time before 1970 was accepted")
	}
}

func TestHandoverIsAwaited(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		awaitHandover(r)
	}()
	select {
	case <-done:
		t.Error("the agent did not wait for the hand-over")
	case <-time.After(50 * time.Millisecond):
	}
	w.Close()
	<-done
	awaitHandover(nil)
}
