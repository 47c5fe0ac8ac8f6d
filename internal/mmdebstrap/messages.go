package mmdebstrap

import (
	"bytes"
	"strings"

	"banger/internal/base/progress"
)

const (
	// maxLine bounds what is kept of one line, maxTail how many lines are kept.
	maxLine = 400
	maxTail = 12
)

// messages takes what a build says, turns its steps into progress and keeps the
// last of the rest for an error. It belongs to one goroutine at a time.
type messages struct {
	progress progress.Func

	line []byte
	last []string
	full bool
	why  explained
}

// Write never fails.
func (m *messages) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		part, rest, ended := bytes.Cut(b, []byte("\n"))
		m.line = append(m.line, part[:min(len(part), maxLine-len(m.line))]...)
		if ended {
			m.take(strings.TrimSpace(string(m.line)))
			m.line = m.line[:0]
		}
		b = rest
	}
	return n, nil
}

func (m *messages) take(line string) {
	if strings.Contains(line, "No space left on device") {
		m.full = true
	}
	step, isInfo := strings.CutPrefix(line, "I: ")
	if isInfo {
		if step, ok := strings.CutSuffix(step, "..."); ok && !strings.Contains(step, "/") {
			m.progress.Send(progress.Report{Detail: step})
		}
		return
	}
	if line == "" {
		return
	}
	m.why.take(line)
	if len(m.last) == maxTail {
		m.last = m.last[1:]
	}
	m.last = append(m.last, line)
}

// tail is the end of what was said, in one line: only the errors, if any was
// marked as one.
func (m *messages) tail() string {
	if len(m.line) > 0 {
		m.take(strings.TrimSpace(string(m.line)))
		m.line = nil
	}
	var marked []string
	for _, l := range m.last {
		if e, ok := strings.CutPrefix(l, "E: "); ok {
			marked = append(marked, e)
		}
	}
	if marked != nil {
		return strings.Join(marked, "; ")
	}
	return strings.Join(m.last, "; ")
}

// diskFull says whether the build has met a full disk.
func (m *messages) diskFull() bool {
	_ = m.tail()
	return m.full
}

// reason is what apt has failed of, if it is known.
func (m *messages) reason() error {
	_ = m.tail()
	return m.why.err()
}
