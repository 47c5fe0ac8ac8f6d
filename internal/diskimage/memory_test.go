package diskimage

import (
	"runtime/debug"
	"testing"
)

// TestHoldMemory moves the limit of the whole process, so nothing runs beside it.
func TestHoldMemory(t *testing.T) {
	first := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(first)
	for _, c := range []struct{ before, one, two int64 }{
		{1 << 40, buildMemory, 2 * buildMemory},
		{buildMemory + 1, buildMemory, buildMemory + 1},
		{64 << 20, 64 << 20, 64 << 20}, // a stricter one stays
	} {
		debug.SetMemoryLimit(c.before)
		a := holdMemory()
		one := debug.SetMemoryLimit(-1)
		b := holdMemory()
		two := debug.SetMemoryLimit(-1)
		a()
		again := debug.SetMemoryLimit(-1)
		b()
		if after := debug.SetMemoryLimit(-1); one != c.one || two != c.two || again != c.one || after != c.before {
			t.Errorf("of %d: %d, %d, %d, and then %d", c.before, one, two, again, after)
		}
	}
}
