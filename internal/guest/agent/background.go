package agent

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// background lets p live on without a caller until it ends by itself, or the agent
// does. Its output goes to the console, and so does how it ended.
func (s *service) background(p *process) {
	console, err := os.OpenFile(s.console, os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		s.log.Warn("the output of a detached command is lost", "error", err)
	} else {
		defer console.Close()
	}
	show := func(text []byte) error {
		_, _ = console.Write(text)
		return nil // a console that fails loses the output and not the command
	}
	ended := make(chan struct{})
	s.running.Go(func() { hangUp(s.closing, p, ended) })
	exit := outlast(p, ended, show, show)
	_ = show(fmt.Appendf(nil, "banger: the command %q ended with the exit status %d\n", p.cmd.Args[0], exit.GetCode()))
}

// enlistment is a command that is asked to end before the machine does.
type enlistment struct {
	signal syscall.Signal
	ended  chan struct{}
}

// enlist makes a shutdown send signal to p, and wait for it, before it ends the
// rest; 0 means that it need not. The caller calls dismiss when p has ended.
func (s *service) enlist(p *process, signal int32) (dismiss func()) {
	if signal <= 0 || signal > lastSignal {
		return func() {}
	}
	e := enlistment{syscall.Signal(signal), make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.enlisted[p] = e
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.enlisted, p)
		close(e.ended)
	}
}

// stopGrace is how long enlisted commands may take, all together, as with docker
// stop.
const stopGrace = 10 * time.Second

// stopEnlisted asks the enlisted commands to end and waits until they have, for
// stopGrace at most.
func (s *service) stopEnlisted() {
	s.mu.Lock()
	var waiting []chan struct{}
	for p, e := range s.enlisted {
		p.stop(e.signal)
		waiting = append(waiting, e.ended)
	}
	s.mu.Unlock()
	deadline := time.NewTimer(stopGrace)
	defer deadline.Stop()
	for _, ended := range waiting {
		select {
		case <-ended:
		case <-s.closing:
			return
		case <-deadline.C:
			s.log.Warn("a command did not end after its stop signal", "bound", stopGrace)
			return
		}
	}
}
