package agent

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	guestv1 "banger/api/guest/v1"
	"banger/api/guest/v1/guestv1connect"
	"banger/internal/base/errs"
	"banger/internal/guestabi"
)

const (
	// maxCommands bounds the commands that run at once.
	maxCommands = 256
	// inputQueue is how many chunks of input wait for a command that does not read.
	// When it is full, nothing more is taken from the caller, so that resizes and
	// signals behind that input wait too; a caller that hangs up is heard all the
	// same.
	inputQueue = 16
	// drainGrace is how long output is awaited from what a command leaves behind.
	drainGrace = 500 * time.Millisecond
	// hangUpGrace is how long a command may live after SIGHUP.
	hangUpGrace = 5 * time.Second
)

// Exec runs one command, as guest.v1.AgentService has it.
func (s *service) Exec(ctx context.Context, stream guestv1connect.AgentServiceExecServerStream) error {
	s.running.Add(1)
	defer s.running.Done()
	first, err := stream.Receive()
	if err != nil {
		return err
	}
	req := first.GetStart()
	if req == nil {
		return errs.New(errs.Invalid, "cannot run a command: the first message is not its start")
	}
	select {
	case s.slots <- struct{}{}:
	default:
		return errs.New(errs.Unavailable, "cannot run a command: %d are running in the VM", maxCommands).WithHint("wait for one to end")
	}
	release := func() { <-s.slots }
	call := &call{stream: stream}
	p, err := run(req)
	if failed, ok := errors.AsType[*runError](err); ok {
		release()
		return call.sendExit(&guestv1.ExecExit{Code: failed.code, Error: failed.text})
	}
	if err != nil {
		release()
		return err
	}
	dismiss := s.enlist(p, req.GetStopSignal())
	if req.GetDetach() {
		s.running.Go(func() {
			defer release()
			defer dismiss()
			s.background(p)
		})
		return errors.Join(call.sendStarted(p), call.sendExit(&guestv1.ExecExit{}))
	}
	defer release()
	defer dismiss()
	defer p.close()
	return call.sendExit(s.attend(ctx, p, call))
}

func run(req *guestv1.ExecStart) (*process, error) {
	c, err := prepare(req)
	if err != nil {
		return nil, err
	}
	return start(c, req)
}

// attend carries input, output and signals of p and returns how it ended.
func (s *service) attend(ctx context.Context, p *process, call *call) *guestv1.ExecExit {
	ended := make(chan struct{})
	input := make(chan []byte, inputQueue)
	var attending sync.WaitGroup
	// An error to send means that the caller is gone, which ctx says as well.
	_ = call.sendStarted(p)
	// The end of the call ends this one, and nothing else does, so it is not waited
	// for here.
	s.running.Go(func() { call.receive(p, input, ended) })
	attending.Go(func() { feed(p, input, ended) })
	attending.Go(func() { hangUp(ctx.Done(), p, ended) })
	exit := outlast(p, ended, call.sendStdout, call.sendStderr)
	attending.Wait()
	return exit
}

// outlast passes the output of p on until p has ended. It closes ended, and p.
func outlast(p *process, ended chan<- struct{}, sendOut, sendErr func([]byte) error) *guestv1.ExecExit {
	var draining sync.WaitGroup
	draining.Go(func() { pump(p.stdout, sendOut) })
	if p.stderr != nil {
		draining.Go(func() { pump(p.stderr, sendErr) })
	}
	exit := p.wait()
	close(ended)
	for _, f := range []*os.File{p.stdout, p.stderr} {
		if f != nil {
			_ = f.SetReadDeadline(time.Now().Add(drainGrace))
		}
	}
	draining.Wait()
	p.close() // ends a feed that is still writing
	return exit
}

// hangUp ends p when the caller goes away before it ends by itself.
func hangUp(gone <-chan struct{}, p *process, ended <-chan struct{}) {
	select {
	case <-ended:
		return
	case <-gone:
	}
	p.hangUp(unix.SIGHUP)
	timer := time.NewTimer(hangUpGrace)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
		p.hangUp(unix.SIGKILL)
	}
}

// feed writes the input to p until it ends or p does, then closes p's input. What
// p does not want is dropped.
func feed(p *process, input <-chan []byte, ended <-chan struct{}) {
	wanted := p.stdin != nil
	for {
		select {
		case <-ended:
			return
		case chunk, more := <-input:
			if more && wanted {
				_, err := p.stdin.Write(chunk)
				wanted = err == nil
			}
			if more {
				continue
			}
		}
		break
	}
	switch {
	case !wanted:
	case p.terminal != nil:
		_, _ = p.stdin.Write([]byte{endOfInput})
	default:
		_ = p.stdin.Close()
	}
}

// pump sends what f yields until its end. After f's deadline it takes what is
// there at that moment, which is all that a command that has ended can have
// written, and no more.
func pump(f *os.File, send func([]byte) error) {
	buf := make([]byte, guestabi.MaxChunk)
	for {
		n, err := f.Read(buf)
		if n > 0 && send(buf[:n]) != nil {
			return
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			drain(f, buf, send)
			return
		}
		if err != nil { // its end, which a terminal reports as EIO
			return
		}
	}
}

// drain sends the bytes that are in f now; f is a pipe or terminal that does not
// block.
func drain(f *os.File, buf []byte, send func([]byte) error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return
	}
	left, n := 0, 0
	if controlErr := raw.Control(func(fd uintptr) { left, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }); controlErr != nil || err != nil {
		return
	}
	for ; left > 0; left -= n {
		controlErr := raw.Control(func(fd uintptr) { n, err = unix.Read(int(fd), buf[:min(left, len(buf))]) })
		if controlErr != nil || err != nil || n <= 0 || send(buf[:n]) != nil {
			return
		}
	}
}

// call is the stream of one Exec.
type call struct {
	stream guestv1connect.AgentServiceExecServerStream
	// mu orders the senders.
	mu sync.Mutex
}

func (c *call) send(resp *guestv1.ExecResponse) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stream.Send(resp)
}

func (c *call) sendStarted(p *process) error {
	return c.send(&guestv1.ExecResponse{Message: &guestv1.ExecResponse_Started{Started: int32(p.cmd.Process.Pid)}})
}

func (c *call) sendExit(exit *guestv1.ExecExit) error {
	return c.send(&guestv1.ExecResponse{Message: &guestv1.ExecResponse_Exit{Exit: exit}})
}

func (c *call) sendStdout(data []byte) error {
	return c.send(&guestv1.ExecResponse{Message: &guestv1.ExecResponse_Stdout{Stdout: data}})
}

func (c *call) sendStderr(data []byte) error {
	return c.send(&guestv1.ExecResponse{Message: &guestv1.ExecResponse_Stderr{Stderr: data}})
}

// receive passes the caller's messages on until the call or its input ends; it
// closes input.
func (c *call) receive(p *process, input chan<- []byte, ended <-chan struct{}) {
	closeInput := sync.OnceFunc(func() { close(input) })
	defer closeInput()
	open := true
	for {
		req, err := c.stream.Receive()
		if err != nil {
			return
		}
		switch m := req.GetMessage().(type) {
		case *guestv1.ExecRequest_Stdin:
			for chunk := range slices.Chunk(m.Stdin, guestabi.MaxChunk) {
				if !open {
					break
				}
				select {
				case input <- chunk:
				case <-ended:
				}
			}
		case *guestv1.ExecRequest_CloseStdin:
			if m.CloseStdin {
				open = false
				closeInput()
			}
		case *guestv1.ExecRequest_Resize:
			if p.terminal != nil {
				_ = p.terminal.resize(m.Resize)
			}
		case *guestv1.ExecRequest_Signal:
			if m.Signal > 0 && m.Signal <= lastSignal {
				p.signal(syscall.Signal(m.Signal))
			}
		}
	}
}

// lastSignal is the highest signal number, SIGRTMAX (signal(7)).
const lastSignal = 64
