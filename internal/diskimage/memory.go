package diskimage

import (
	"runtime/debug"
	"sync"
)

// buildMemory is how many bytes the process is to get along with for each disk that is being
// made of an archive: what maxMemory allows is live, and little garbage besides.
const buildMemory = 120 << 20

// builds are the disks that are being made of archives at this time.
var builds struct {
	mu     sync.Mutex
	n      int64
	before int64 // the process's limit while there is none
}

// holdMemory keeps the garbage of a build small until release is called: the heap would
// else grow to twice of what is live before any is collected. It moves the soft memory limit
// of the process ([debug.SetMemoryLimit]), which refuses nobody anything; a stricter one
// that the process has already stays.
func holdMemory() (release func()) {
	add := func(n int64) {
		builds.mu.Lock()
		defer builds.mu.Unlock()
		if builds.n == 0 {
			builds.before = debug.SetMemoryLimit(-1)
		}
		builds.n += n
		limit := builds.before
		if builds.n > 0 {
			limit = min(limit, builds.n*buildMemory)
		}
		debug.SetMemoryLimit(limit)
	}
	add(1)
	return func() { add(-1) }
}
