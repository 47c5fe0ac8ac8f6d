package term

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"banger/internal/base/progress"
	"banger/internal/vm"
)

const (
	// repaint is the shortest time between two lines in place.
	repaint = 100 * time.Millisecond
	// repeat is the time after which a plain line that only counts bytes is
	// written again.
	repeat = 10 * time.Second
	// rateAfter is the time from which on a rate means something.
	rateAfter = time.Second
)

// Painter shows progress: on a terminal as one line that is written over again,
// elsewhere as a plain line for each new step. It may be used from any goroutine.
type Painter struct {
	w     io.Writer
	live  bool
	width func() int
	now   func() time.Time

	mu sync.Mutex
	// step is the step that is shown; it began at start with done bytes.
	step  string
	start time.Time
	done  int64
	// painted is when a line was last written; shown says that it is on the screen.
	painted time.Time
	shown   bool
}

// NewPainter returns a painter that writes to w.
func NewPainter(w io.Writer) *Painter {
	return &Painter{
		w:     w,
		live:  IsTerminal(w) && os.Getenv("TERM") != "dumb",
		width: func() int { return int(SizeOf(w).Cols) },
		now:   time.Now,
	}
}

// Report shows r; label, if not empty, says of what.
func (p *Painter) Report(label string, r progress.Report) {
	step := r.Phase
	if label != "" {
		step = label + ": " + step
	}
	if r.Detail != "" {
		step += ": " + r.Detail
	}
	step = CleanLine(step)

	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	fresh := step != p.step
	if fresh || r.Done < p.done {
		p.step, p.start, p.done = step, now, r.Done
	}
	since := now.Sub(p.painted)
	switch {
	case fresh && !p.live:
	case p.live && since < repaint && p.shown && !fresh, !p.live && since < repeat:
		return
	}
	p.painted = now
	line := step + p.bytes(r, now)
	if !p.live {
		_, _ = fmt.Fprintln(p.w, line)
		return
	}
	p.shown = true
	// A line that wraps could not be written over.
	if runes, room := []rune(line), p.width()-1; len(runes) > room {
		line = string(runes[:max(room, 0)])
	}
	_, _ = io.WriteString(p.w, "\r\x1b[K"+line)
}

func (p *Painter) bytes(r progress.Report, now time.Time) string {
	if r.Done <= 0 {
		return ""
	}
	text := ", " + vm.Size(r.Done).Approx()
	if r.Total > 0 {
		text += " of " + vm.Size(r.Total).Approx()
	}
	if took := now.Sub(p.start); took >= rateAfter && r.Done > p.done {
		text += ", " + vm.Size(float64(r.Done-p.done)/took.Seconds()).Approx() + "/s"
	}
	return text
}

// Clear takes the line away, so that something else can be written.
func (p *Painter) Clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shown {
		p.shown = false
		_, _ = io.WriteString(p.w, "\r\x1b[K")
	}
}
