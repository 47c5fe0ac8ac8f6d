package blobs

import (
	"time"

	"banger/internal/base/progress"
)

// every is how often bytes are reported: as often as people can read.
const every = 200 * time.Millisecond

// meter reports how far a download has come.
type meter struct {
	p        progress.Func
	r        progress.Report
	reported time.Time
}

func newMeter(p progress.Func, d Descriptor, dg digest) meter {
	return meter{p: p, r: progress.Report{Phase: "download", Detail: dg.short(), Total: max(d.Size, 0)}}
}

// report sends done, unless the last report was a moment ago.
func (m *meter) report(done int64) {
	if now := time.Now(); now.Sub(m.reported) >= every {
		m.reported = now
		m.r.Done = done
		m.p.Send(m.r)
	}
}

// end sends that all is done.
func (m *meter) end(total int64) {
	m.r.Done, m.r.Total = total, total
	m.p.Send(m.r)
}
