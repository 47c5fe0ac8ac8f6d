// Package undo keeps what must be taken back when a multi-step action fails.
//
// Acquire something, then Add how to release it on the next line. At the end
// either Release the stack (the action succeeded) or Run it.
package undo

import "errors"

// Stack is a list of clean-ups; the zero value is empty and ready for use. It
// belongs to one goroutine.
type Stack struct {
	fns []func() error
}

// Add puts fn on top of the stack.
func (s *Stack) Add(fn func() error) { s.fns = append(s.fns, fn) }

// Run calls every clean-up, last first, whatever the others return, empties the
// stack and joins the errors.
func (s *Stack) Run() error {
	var all []error
	for i := len(s.fns) - 1; i >= 0; i-- {
		all = append(all, s.fns[i]())
	}
	s.fns = nil
	return errors.Join(all...)
}

// Release empties the stack without calling anything.
func (s *Stack) Release() { s.fns = nil }
