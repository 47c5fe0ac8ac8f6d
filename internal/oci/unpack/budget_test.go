package unpack_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"banger/internal/base/errs"
	"banger/internal/oci/unpack"
)

// TestBudget spends one budget by streams that are read at the same time.
func TestBudget(t *testing.T) {
	const streams, each = 20, 10_000
	for name, c := range map[string]struct {
		floor, factor int64
		earn          bool
		most          int64 // of all streams together
	}{
		"the floor, just":     {streams * each, 1, false, streams * each},
		"the floor":           {streams*each - 1, 1, false, streams*each - 1},
		"the factor, just":    {1, 10, true, streams * each},
		"the factor":          {1, 9, true, streams * each / 10 * 9},
		"a floor of one part": {each, 1, false, each},
	} {
		t.Run(name, func(t *testing.T) {
			b := unpack.NewBudget(c.floor, c.factor)
			var got, refused atomic.Int64
			var wg sync.WaitGroup
			for range streams {
				wg.Go(func() {
					if c.earn {
						if _, err := io.Copy(io.Discard, b.Earn(bytes.NewReader(make([]byte, each/10)))); err != nil {
							t.Error(err)
						}
					}
					// In small pieces, so that the streams take turns.
					n, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{b.Spend(bytes.NewReader(make([]byte, each)))}, make([]byte, 10))
					got.Add(n)
					if err != nil {
						refused.Add(1)
						if errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error(), "times what has come of it") {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			whole := c.most == streams*each
			if whole != (refused.Load() == 0) || got.Load() > c.most || whole && got.Load() < c.most {
				t.Errorf("%d bytes were given out, and %d streams refused; the bound is %d", got.Load(), refused.Load(), c.most)
			}
		})
	}
}

// TestBudgetPassesErrorsOn: what a stream says itself is not hidden.
func TestBudgetPassesErrorsOn(t *testing.T) {
	broken := errors.New("broken")
	b := unpack.NewBudget(100, 1)
	for _, r := range []io.Reader{b.Earn(failing{broken}), b.Spend(failing{broken})} {
		if n, err := r.Read(make([]byte, 10)); n != 3 || !errors.Is(err, broken) {
			t.Errorf("%d, %v", n, err)
		}
	}
}

// failing gives three bytes together with its error.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 3, f.err }
