// Package progress carries what a long action is doing to whoever watches.
package progress

// Report is one line of progress.
type Report struct {
	// Phase is a short noun: "image", "kernel", "disks", "boot".
	Phase string
	// Detail says what just happens.
	Detail string
	// Done of Total bytes are handled; Total is 0 when it is unknown, both are
	// 0 when bytes are not counted.
	Done, Total int64
}

// Func receives reports. It must not block for long and may be called from any
// goroutine. A nil Func is valid: call Send.
type Func func(Report)

// Send passes r on, if anybody listens.
func (f Func) Send(r Report) {
	if f != nil {
		f(r)
	}
}
