// Package errs is the closed set of error kinds that banger tells apart, and
// the hint that goes with an error which its user can fix.
//
// An error has a kind when somebody acts on it: the API maps the kind to a wire
// code and the command line maps it to an exit status, each in one place. All
// other errors are Internal. Messages read "cannot X: cause", in lower case,
// with the user's values quoted.
package errs

import (
	"context"
	"errors"
	"fmt"
)

// Kind says what sort of failure an error is.
type Kind string

// The kinds.
const (
	// Internal is a failure that nobody foresaw, or that only a developer can act on.
	Internal Kind = "internal"
	// Invalid is input that can never work: a bad name, size or flag.
	Invalid Kind = "invalid"
	// NotFound is a VM, image or kernel that does not exist.
	NotFound Kind = "not_found"
	// Exists is a name that is taken.
	Exists Kind = "exists"
	// Conflict is an action that the current state does not allow.
	Conflict Kind = "conflict"
	// Unavailable is something of the host that is missing or does not answer.
	Unavailable Kind = "unavailable"
	// Timeout is a bound that has passed.
	Timeout Kind = "timeout"
	// Canceled is an action that its caller gave up.
	Canceled Kind = "canceled"
)

// Error is a failure with a kind and, where the user can mend it, a hint.
type Error struct {
	// Kind is never empty.
	Kind Kind
	// Err is the failure itself; never nil.
	Err error
	// Hint is the command or step that fixes it, or empty.
	Hint string
}

// Error returns the failure's text, without the hint.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the failure.
func (e *Error) Unwrap() error { return e.Err }

// New returns an error of kind k; format and args are those of [fmt.Errorf].
func New(k Kind, format string, args ...any) *Error {
	return &Error{Kind: k, Err: fmt.Errorf(format, args...)}
}

// WithHint returns a copy of e with a hint.
func (e *Error) WithHint(format string, args ...any) *Error {
	return &Error{Kind: e.Kind, Err: e.Err, Hint: fmt.Sprintf(format, args...)}
}

// KindOf returns the kind of the outermost [Error] in err's chain. A bare
// context error is Canceled or Timeout; anything else is Internal.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	switch {
	case errors.Is(err, context.Canceled):
		return Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return Timeout
	}
	return Internal
}

// HintOf returns the first hint in err's chain, or "".
func HintOf(err error) string {
	for err != nil {
		e, ok := errors.AsType[*Error](err)
		if !ok {
			return ""
		}
		if e.Hint != "" {
			return e.Hint
		}
		err = e.Err
	}
	return ""
}
