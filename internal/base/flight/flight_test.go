package flight

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"banger/internal/base/progress"
)

func TestCallersShareOneRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[int]
		var runs atomic.Int32
		land := make(chan struct{})
		fn := func(_ context.Context, p progress.Func) (int, error) {
			runs.Add(1)
			p.Send(progress.Report{Detail: "early"})
			<-land
			p.Send(progress.Report{Detail: "late"})
			return 7, nil
		}
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				var got []string
				v, err := g.Do(t.Context(), "k", func(r progress.Report) { got = append(got, r.Detail) }, fn)
				if v != 7 || err != nil {
					t.Errorf("Do = %d, %v", v, err)
				}
				if len(got) != 2 || got[0] != "early" || got[1] != "late" {
					t.Errorf("reports %q", got)
				}
			})
			synctest.Wait() // later callers board a flight that has reported already
		}
		close(land)
		wg.Wait()
		if n := runs.Load(); n != 1 {
			t.Errorf("%d runs", n)
		}
		if v, err := g.Do(t.Context(), "k", nil, fn); v != 7 || err != nil || runs.Load() != 2 {
			t.Errorf("a later call: %d, %v, %d runs", v, err, runs.Load())
		}
	})
}

func TestLastToLeaveCancels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[int]
		clearing := make(chan struct{})
		var ended atomic.Bool
		fn := func(ctx context.Context, _ progress.Func) (int, error) {
			<-ctx.Done()
			<-clearing
			ended.Store(true)
			return 0, ctx.Err()
		}
		first, leave1 := context.WithCancel(t.Context())
		second, leave2 := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		var left1 atomic.Bool
		wg.Go(func() {
			if _, err := g.Do(first, "k", nil, fn); !errors.Is(err, context.Canceled) {
				t.Errorf("the first caller got %v", err)
			}
			left1.Store(true)
		})
		wg.Go(func() {
			if _, err := g.Do(second, "k", nil, fn); !errors.Is(err, context.Canceled) {
				t.Errorf("the second caller got %v", err)
			}
			if !ended.Load() {
				t.Error("the last caller left before the action had ended")
			}
		})
		synctest.Wait()
		leave1()
		synctest.Wait()
		if !left1.Load() {
			t.Error("the first caller could not leave")
		}
		leave2()
		synctest.Wait()
		// A new caller waits for the old flight, then starts its own.
		wg.Go(func() {
			v, err := g.Do(t.Context(), "k", nil, func(context.Context, progress.Func) (int, error) {
				if !ended.Load() {
					t.Error("two flights of one key at once")
				}
				return 3, nil
			})
			if v != 3 || err != nil {
				t.Errorf("the next flight: %d, %v", v, err)
			}
		})
		synctest.Wait()
		close(clearing)
		wg.Wait()
	})
}

func TestCloseCancelsAndRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[int]
		var wg sync.WaitGroup
		var ended atomic.Int32
		for _, key := range []string{"a", "b"} {
			wg.Go(func() {
				_, err := g.Do(t.Context(), key, nil, func(ctx context.Context, _ progress.Func) (int, error) {
					<-ctx.Done()
					ended.Add(1)
					return 0, ctx.Err()
				})
				if !errors.Is(err, context.Canceled) {
					t.Errorf("a caller got %v", err)
				}
			})
		}
		synctest.Wait()
		g.Close()
		if n := ended.Load(); n != 2 {
			t.Errorf("Close returned with %d of 2 flights ended", n)
		}
		wg.Wait()
		if _, err := g.Do(t.Context(), "a", nil, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("Do after Close: %v", err)
		}
	})
}

func TestFirstCallerMissesNothing(t *testing.T) {
	var g Group[int]
	for range 1000 {
		n := 0
		_, err := g.Do(t.Context(), "k", func(progress.Report) { n++ }, func(_ context.Context, p progress.Func) (int, error) {
			p.Send(progress.Report{})
			p.Send(progress.Report{})
			return 0, nil
		})
		if n != 2 || err != nil {
			t.Fatalf("%d of 2 reports, %v", n, err)
		}
	}
}

func TestEndedContextStartsNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var g Group[int]
	_, err := g.Do(ctx, "k", nil, func(context.Context, progress.Func) (int, error) {
		t.Error("fn was called")
		return 0, nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
