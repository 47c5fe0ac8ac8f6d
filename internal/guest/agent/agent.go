// Package agent is the process in the guest that serves the host: it runs
// commands, tells the guest's health, sets its clock and shuts it down.
//
// Words: the link is the transport to the host (package guestlink); a command is
// a process that a caller on the host has asked for; its group is the process
// group, and session, that it leads. The hand-over is the moment at which the
// image's init takes the place of PID 1.
package agent

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	guestv1 "banger/api/guest/v1"
	"banger/api/guest/v1/guestv1connect"
	"banger/internal/base/version"
	"banger/internal/guestabi"
	"banger/internal/guestlink"
	"banger/internal/rpc"
)

// Options are what the agent is told when it is started.
type Options struct {
	// Link is the kind of guest link, guestabi.LinkSerial or guestabi.LinkVsock.
	Link string
	// PowerOff is how the machine is switched off, guestabi.PowerOffACPI or
	// guestabi.PowerOffReset.
	PowerOff string
	// Handover reaches its end at the hand-over, or when it is clear that there will
	// be none. The agent closes it. Nil: that moment has passed.
	Handover *os.File
}

const (
	// retryFirst and retryMax bound the time between two tries to open the link or
	// to announce the guest: the device shows up a little after its driver.
	retryFirst = 5 * time.Millisecond
	retryMax   = 2 * time.Second
	// announceTimeout bounds one announcement.
	announceTimeout = time.Minute
)

// Run serves the host until ctx ends. A link that goes down is opened again.
// Errors go to stderr, which is the kernel's log.
func Run(ctx context.Context, opts Options) {
	log := slog.New(slog.NewTextHandler(kernelLog{os.Stderr}, &slog.HandlerOptions{ReplaceAttr: withoutTime}))
	if err := protectFromOOM(os.Getpid(), agentOOMScore); err != nil {
		log.Warn("cannot protect the agent from the out-of-memory killer", "error", err)
	}
	// Without a name of its own the process would be called "exe".
	if err := os.WriteFile("/proc/self/comm", []byte("banger-agent"), 0); err != nil {
		log.Warn("cannot name the agent's process", "error", err)
	}
	s := newService(opts.PowerOff, log)
	defer s.close()
	delay := retryFirst
	for ctx.Err() == nil {
		link, err := guestlink.Open(opts.Link)
		if err != nil {
			if delay < retryMax && 2*delay >= retryMax { // once
				log.Error("cannot open the guest link", "error", err)
			}
			delay = pause(ctx, delay)
			continue
		}
		// Nobody is served before PID 1 is known, for a shutdown asks it.
		awaitHandover(opts.Handover)
		opts.Handover = nil
		err = s.serve(ctx, link)
		log.Error("the guest link is down", "error", err)
		delay = pause(ctx, retryMax)
	}
}

// pause waits for delay and returns the next one.
func pause(ctx context.Context, delay time.Duration) time.Duration {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return min(2*delay, retryMax)
}

func awaitHandover(pipe *os.File) {
	if pipe == nil {
		return
	}
	_, _ = io.Copy(io.Discard, pipe)
	_ = pipe.Close()
}

// service is guest.v1.AgentService.
type service struct {
	powerOff string
	log      *slog.Logger
	// slots holds one element for each running command.
	slots chan struct{}
	// console is where the output of detached commands goes.
	console string
	// mu guards enlisted, the commands that a shutdown ends before anything else.
	mu       sync.Mutex
	enlisted map[*process]enlistment
	// stopOnce begins the one shutdown.
	stopOnce sync.Once
	// running counts goroutines that outlive the call that started them; closing ends
	// them.
	running sync.WaitGroup
	closing chan struct{}
}

func newService(powerOff string, log *slog.Logger) *service {
	return &service{
		powerOff: powerOff, log: log, console: "/dev/console", enlisted: map[*process]enlistment{},
		slots: make(chan struct{}, maxCommands), closing: make(chan struct{}),
	}
}

// close waits for what the service has started. No call may be under way.
func (s *service) close() {
	close(s.closing)
	s.running.Wait()
}

// serve owns link: it serves on it and announces the guest, and returns when the
// link is down or ctx ends.
func (s *service) serve(ctx context.Context, link guestlink.Link) error {
	server := rpc.NewServer(guestabi.MaxMessage, s.log)
	guestv1connect.RegisterAgentServiceHandler(server.Methods, s)
	ctx, cancel := context.WithCancel(ctx)
	var announcing sync.WaitGroup
	announcing.Go(func() { s.announce(ctx, link) })
	stop := context.AfterFunc(ctx, func() { _ = link.Close() })
	err := server.Serve(guestlink.Listener(link))
	cancel()
	stop()
	announcing.Wait()
	return errors.Join(err, server.Close(), link.Close())
}

// announce tells the host that the agent serves, until the host has heard it, and
// takes the host's clock.
func (s *service) announce(ctx context.Context, link guestlink.Link) {
	client := rpc.NewClient(link.Dial, guestabi.MaxMessage)
	defer client.Close()
	host := guestv1connect.NewHostServiceClient(client.Client)
	req := &guestv1.AnnounceRequest{Version: version.String(), BootId: bootID(), KernelRelease: kernelRelease(), Init: initName()}
	for delay := retryFirst; ctx.Err() == nil; delay = pause(ctx, delay) {
		call, cancel := context.WithTimeout(ctx, announceTimeout)
		sent := time.Now()
		resp, err := host.Announce(call, req)
		cancel()
		if err == nil {
			// Half of the round trip has passed since the host looked at its clock.
			if _, err := setClock(resp.GetUnixNanos() + int64(time.Since(sent)/2)); err != nil {
				s.log.Warn("cannot set the clock", "error", err)
			}
			return
		}
		s.log.Warn("cannot announce the guest to the host", "error", err)
	}
}

// kernelLog writes lines for /dev/kmsg, each with the priority of an error
// (3, syslog(2)) and the agent's name.
type kernelLog struct{ w io.Writer }

func (k kernelLog) Write(p []byte) (int, error) {
	if _, err := k.w.Write([]byte("<3>banger-agent: " + strings.TrimRight(string(p), "\n") + "\n")); err != nil {
		return 0, err
	}
	return len(p), nil
}

// withoutTime drops the time: the kernel's log has its own.
func withoutTime(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}
