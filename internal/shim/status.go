package shim

import (
	"sync"

	"google.golang.org/protobuf/proto"

	shimv1 "banger/api/shim/v1"
)

// status is the VM's status and those who wait for its changes.
type status struct {
	// announced is closed when the agent has announced itself.
	announced chan struct{}

	mu      sync.Mutex
	current *shimv1.Status
	changed chan struct{} // closed and replaced at each change
}

func newStatus(st *shimv1.Status) *status {
	return &status{announced: make(chan struct{}), current: st, changed: make(chan struct{})}
}

// update changes the status and tells everybody.
func (s *status) update(change func(*shimv1.Status)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s.current)
	close(s.changed)
	s.changed = make(chan struct{})
}

// get returns a copy, and a channel that is closed at the next change.
func (s *status) get() (*shimv1.Status, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return proto.CloneOf(s.current), s.changed
}

// last returns a copy with a change that nobody has seen yet.
func (s *status) last(change func(*shimv1.Status)) *shimv1.Status {
	st, _ := s.get()
	change(st)
	return st
}

// setReason records why the VM is being ended; the first reason counts.
func (s *status) setReason(requested bool, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current.GetReason() == "" {
		s.current.Reason, s.current.Requested = reason, requested
	}
}

// replaceReason is setReason for one who knows better, such as a stop that had to kill.
func (s *status) replaceReason(reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current.Reason, s.current.Requested = reason, true
}

// holders counts the clients that hold the VM.
type holders struct {
	mu    sync.Mutex
	n     int
	ever  bool
	empty chan struct{}
}

// lost returns a channel that is closed when the last holder has gone.
func (h *holders) lost() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.empty == nil {
		h.empty = make(chan struct{})
	}
	return h.empty
}

// any says whether somebody holds the VM or has held it.
func (h *holders) any() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ever
}

func (h *holders) add() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.n++
	h.ever = true
}

func (h *holders) remove() {
	empty := h.lost()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.n--; h.n == 0 {
		select {
		case <-empty:
		default:
			close(h.empty)
		}
	}
}

// announce applies the agent's announcement; a repeated one changes the words,
// but not the phase of a VM that has exited.
func (s *status) announce(change func(*shimv1.Status)) {
	s.update(func(st *shimv1.Status) {
		if st.GetPhase() == shimv1.Phase_PHASE_EXITED {
			return
		}
		change(st)
		select {
		case <-s.announced:
		default:
			close(s.announced)
		}
	})
}
