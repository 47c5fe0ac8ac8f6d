package vmmtest

import (
	"context"
	"fmt"
	"log/slog"

	guestv1 "banger/api/guest/v1"
	"banger/api/guest/v1/guestv1connect"
	"banger/internal/guestabi"
	"banger/internal/guestlink"
	"banger/internal/rpc"
)

// Agent is as much of a guest agent as the tests of the host's side need: it
// announces itself and powers off when asked. [Agent.Run] is a guest for [Fake].
type Agent struct {
	BootID string
	// Deaf: it answers a request to shut down, and does nothing.
	Deaf bool
}

// Run serves until the machine ends.
func (a Agent) Run(g *FakeGuest) {
	link, err := guestlink.GuestSerial(g.Link)
	if err != nil {
		return
	}
	defer func() { _ = link.Close() }()
	client := rpc.NewClient(link.Dial, guestabi.MaxMessage)
	defer client.Close()
	_, err = guestv1connect.NewHostServiceClient(client.Client).Announce(g.Context, &guestv1.AnnounceRequest{BootId: a.BootID, Init: "fake"})
	if err != nil {
		_, _ = fmt.Fprintln(g.Console, "announce:", err)
	}
	s := rpc.NewServer(guestabi.MaxMessage, slog.New(slog.DiscardHandler))
	guestv1connect.RegisterAgentServiceHandler(s.Methods, agentService{Agent: a, guest: g})
	_ = s.Serve(guestlink.Listener(link)) // ends with the machine
}

type agentService struct {
	guestv1connect.UnimplementedAgentServiceHandler
	Agent
	guest *FakeGuest
}

func (a agentService) Health(context.Context, *guestv1.HealthRequest) (*guestv1.HealthResponse, error) {
	return &guestv1.HealthResponse{BootId: a.BootID}, nil
}

func (a agentService) Shutdown(context.Context, *guestv1.ShutdownRequest) (*guestv1.ShutdownResponse, error) {
	if !a.Deaf {
		a.guest.PowerOff()
	}
	return &guestv1.ShutdownResponse{}, nil
}
