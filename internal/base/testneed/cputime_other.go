//go:build !unix

package testneed

import "time"

var started = time.Now()

// CPUTime stands in for the time that the process has used.
func CPUTime() time.Duration { return time.Since(started) }
