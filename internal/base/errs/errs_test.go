package errs_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"banger/internal/base/errs"
)

func TestKindAndHintSurviveWrapping(t *testing.T) {
	base := errors.New("no such device")
	err := fmt.Errorf("cannot start %q: %w", "dev", errs.New(errs.Unavailable, "cannot open disk: %w", base).WithHint("run %s", "banger doctor"))
	if got := errs.KindOf(err); got != errs.Unavailable {
		t.Errorf("KindOf = %q, want %q", got, errs.Unavailable)
	}
	if got := errs.HintOf(err); got != "run banger doctor" {
		t.Errorf("HintOf = %q", got)
	}
	if !errors.Is(err, base) {
		t.Error("the cause is no longer reachable")
	}
	if got, want := err.Error(), `cannot start "dev": cannot open disk: no such device`; got != want {
		t.Errorf("Error() = %q, want %q", got, want)
	}
}

func TestInnerHintIsFoundBehindAnOuterError(t *testing.T) {
	inner := errs.New(errs.NotFound, "no kernel").WithHint("pull one")
	if got := errs.HintOf(errs.New(errs.Internal, "cannot boot: %w", inner)); got != "pull one" {
		t.Errorf("HintOf = %q, want the inner hint", got)
	}
}

func TestKindOfContextErrors(t *testing.T) {
	for err, want := range map[error]errs.Kind{
		context.Canceled:         errs.Canceled,
		context.DeadlineExceeded: errs.Timeout,
		errors.New("x"):          errs.Internal,
	} {
		if got := errs.KindOf(fmt.Errorf("y: %w", err)); got != want {
			t.Errorf("KindOf(%v) = %q, want %q", err, got, want)
		}
	}
}
