package jbd2

import (
	"errors"
	"fmt"
)

var (
	// ErrCorrupt is wrapped by every error about a journal that no writer leaves
	// behind, not even one that was interrupted.
	ErrCorrupt = errors.New("jbd2: corrupt journal")

	// ErrDirty says that the log holds transactions, which must be replayed first.
	ErrDirty = errors.New("jbd2: the log is not empty")

	// ErrTooLarge says that the blocks do not fit into the log as one transaction.
	ErrTooLarge = errors.New("jbd2: the transaction is larger than the log")
)

// UnsupportedError says that a journal has a feature that this package does not
// know, or must not touch. It is an errors.ErrUnsupported.
type UnsupportedError struct {
	// Feature is the kernel's name of the feature in lower case, such as
	// "fast_commit", or the field and the bits if the feature has no name.
	Feature string
}

func (e *UnsupportedError) Error() string {
	return "jbd2: unsupported journal feature " + e.Feature
}

// Is makes errors.Is(err, errors.ErrUnsupported) true.
func (e *UnsupportedError) Is(target error) bool { return target == errors.ErrUnsupported }

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrCorrupt, fmt.Errorf(format, args...))
}
