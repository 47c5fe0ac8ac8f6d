package blobs

import "sync"

// shared is what the users of one digest have in common: how far its download
// has come.
type shared struct {
	users int // guarded by the store's mu

	mu sync.Mutex
	// have is how many bytes of the partial can be read.
	have int64
	// gen counts the files that the partial has been: the bytes of one are no part of
	// another.
	gen int
	// grown is closed at the next change; nil while nobody waits.
	grown chan struct{}
}

// result is what a download leaves behind.
type result struct {
	size int64
	gen  int
}

// look returns the state, and a channel that is closed when it has changed.
func (s *shared) look() (have int64, gen int, grown <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.grown == nil {
		s.grown = make(chan struct{})
	}
	return s.have, s.gen, s.grown
}

func (s *shared) generation() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gen
}

// grow says that the first have bytes can be read.
func (s *shared) grow(have int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.have = have
	s.wake()
}

// restart says that the bytes so far are no part of the blob, before they go.
func (s *shared) restart() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.have = 0
	s.gen++
	s.wake()
}

func (s *shared) wake() {
	if s.grown != nil {
		close(s.grown)
		s.grown = nil
	}
}
