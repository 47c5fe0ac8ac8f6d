package ext4

import (
	"os"
	"testing"
)

// BenchmarkTenSteps is the session of the ten steps on an 8 GiB image, and another that
// removes it again.
func BenchmarkTenSteps(b *testing.B) {
	for _, sync := range []bool{false, true} {
		name := "nosync"
		if sync {
			name = "durable"
		}
		b.Run(name, func(b *testing.B) {
			path := mkfsImage(b, "-t ext4 -E lazy_itable_init=1,lazy_journal_init=1", 8192)
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			must(b, err)
			defer f.Close()
			run := func(steps func(x *Tx) error) {
				x, err := Edit(f, 8<<30, &EditOptions{NoSync: !sync})
				must(b, err)
				must(b, steps(x))
				must(b, x.Commit())
			}
			b.ReportAllocs()
			for b.Loop() {
				run(tenSteps)
				b.StopTimer()
				run(func(x *Tx) error { return x.RemoveAll("/new") })
				b.StartTimer()
			}
		})
	}
}
