// Package flight lets many callers share one run of a long action.
//
// A flight is a run with a key. Callers who ask for the same key while it runs
// wait for it together, all see its progress, and get its one result. A caller
// may leave; when the last one has left, the flight is cancelled.
package flight

import (
	"context"
	"maps"
	"slices"
	"sync"

	"banger/internal/base/progress"
)

// Group runs flights, at most one for each key. The zero value is ready for use.
type Group[T any] struct {
	mu      sync.Mutex
	closed  bool
	flights map[string]*flight[T]
}

type flight[T any] struct {
	cancel context.CancelFunc
	// done is closed when value and err are set.
	done  chan struct{}
	value T
	err   error

	// waiters is how many callers wait; the group's mu guards it. At 0 the flight
	// is cancelled and nobody may board.
	waiters int

	// mu orders reports and guards the fields below.
	mu       sync.Mutex
	last     *progress.Report
	watchers map[*progress.Func]progress.Func
}

// Do returns the result of the flight of key, which it starts by calling fn if
// there is none. The context of fn has ctx's values, and ends when all callers
// have left or the group is closed. p receives the reports of fn, first the
// latest one so far, and none after Do has returned.
//
// When ctx ends, Do returns its error; the last caller to leave waits until fn
// has returned, so that nothing of the action is left behind it.
func (g *Group[T]) Do(ctx context.Context, key string, p progress.Func, fn func(context.Context, progress.Func) (T, error)) (T, error) {
	var zero T
	for {
		if err := ctx.Err(); err != nil {
			return zero, err
		}
		f, leave, err := g.board(ctx, key, p, fn)
		if err != nil {
			return zero, err
		}
		if leave != nil {
			defer leave()
			return g.ride(ctx, f)
		}
		// The flight was given up and is clearing away; the next one must not meet it.
		select {
		case <-f.done:
		case <-ctx.Done():
		}
	}
}

// Close cancels all flights, waits until they have ended and refuses new ones
// with [context.Canceled].
func (g *Group[T]) Close() {
	g.mu.Lock()
	g.closed = true
	flights := slices.Collect(maps.Values(g.flights))
	g.mu.Unlock()
	for _, f := range flights {
		f.cancel()
	}
	for _, f := range flights {
		<-f.done
	}
}

// board joins the flight of key or starts it, and sends its reports to p until
// leave is called. leave is nil for a flight that everybody has left.
func (g *Group[T]) board(ctx context.Context, key string, p progress.Func, fn func(context.Context, progress.Func) (T, error)) (f *flight[T], leave func(), err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, nil, context.Canceled
	}
	if f := g.flights[key]; f != nil {
		if f.waiters == 0 {
			return f, nil, nil
		}
		f.waiters++
		return f, f.watch(p), nil
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f = &flight[T]{cancel: cancel, done: make(chan struct{}), waiters: 1, watchers: map[*progress.Func]progress.Func{}}
	if g.flights == nil {
		g.flights = map[string]*flight[T]{}
	}
	g.flights[key] = f
	leave = f.watch(p) // before the first report
	go func() {
		defer cancel()
		f.value, f.err = fn(run, f.report)
		g.mu.Lock()
		delete(g.flights, key)
		g.mu.Unlock()
		close(f.done)
	}()
	return f, leave, nil
}

// ride waits for the end of a flight, or leaves it when ctx ends.
func (g *Group[T]) ride(ctx context.Context, f *flight[T]) (T, error) {
	select {
	case <-f.done:
		return f.value, f.err
	case <-ctx.Done():
	}
	g.mu.Lock()
	f.waiters--
	last := f.waiters == 0
	g.mu.Unlock()
	if last {
		f.cancel()
		<-f.done
	}
	var zero T
	return zero, ctx.Err()
}

// watch sends reports to p until the returned function is called.
func (f *flight[T]) watch(p progress.Func) (stop func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := &p
	f.watchers[key] = p
	if f.last != nil {
		p.Send(*f.last)
	}
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.watchers, key)
	}
}

func (f *flight[T]) report(r progress.Report) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = &r
	for _, p := range f.watchers {
		p.Send(r)
	}
}
