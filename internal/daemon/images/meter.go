package images

import (
	"sync"
	"time"

	"banger/internal/base/progress"
)

// every is how often a meter reports bytes: as often as people can read.
const every = 200 * time.Millisecond

// meter joins the steps of a builder and the bytes of its tar into reports. It is
// an [io.Writer] that counts.
type meter struct {
	progress progress.Func
	what     string

	mu       sync.Mutex
	detail   string
	done     int64
	reported time.Time
}

func newMeter(p progress.Func, what string) *meter { return &meter{progress: p, what: what} }

// step reports at once what is done now; "" stands for the whole.
func (m *meter) step(now string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.detail = m.what
	if now != "" {
		m.detail += ": " + now
	}
	m.report()
}

// Write counts and never fails.
func (m *meter) Write(b []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done += int64(len(b))
	if time.Since(m.reported) >= every {
		m.report()
	}
	return len(b), nil
}

func (m *meter) report() {
	m.reported = time.Now()
	m.progress.Send(progress.Report{Phase: "image", Detail: m.detail, Done: m.done})
}
