//go:build !unix

package ext4

import "time"

var started = time.Now()

// cpuTime stands in for the time that the process has used.
func cpuTime() time.Duration { return time.Since(started) }
