package testneed_test

import (
	"fmt"
	"testing"

	"banger/internal/base/testneed"
)

// recorder is a test that notes how it would have ended: by the first call, since it
// does not stop as a real one does.
type recorder struct {
	testing.TB
	end string
}

func (*recorder) Helper()                             {}
func (r *recorder) Skipf(format string, args ...any)  { r.note("skip: "+format, args) }
func (r *recorder) Fatalf(format string, args ...any) { r.note("fail: "+format, args) }

func (r *recorder) note(format string, args []any) {
	if r.end == "" {
		r.end = fmt.Sprintf(format, args...)
	}
}

func TestMissingFailsOnlyWhereItsWordIsRequired(t *testing.T) {
	for require, want := range map[string]string{
		"":            "skip: there is no no-such-tool: apt-get install pkg",
		"guest,host":  "skip: there is no no-such-tool: apt-get install pkg",
		"toolsmith":   "skip: there is no no-such-tool: apt-get install pkg",
		"guest,tools": `fail: there is no no-such-tool: apt-get install pkg (BANGER_TEST_REQUIRE has "tools")`,
	} {
		t.Setenv("BANGER_TEST_REQUIRE", require)
		var r recorder
		if testneed.Tool(&r, "no-such-tool", "pkg"); r.end != want {
			t.Errorf("with %q: %q, want %q", require, r.end, want)
		}
	}
}
