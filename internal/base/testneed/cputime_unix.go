//go:build unix

package testneed

import (
	"syscall"
	"time"
)

// CPUTime is what the process has used: others who use the processors do not make
// a test slow.
func CPUTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
