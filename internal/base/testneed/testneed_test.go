package testneed_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
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

func TestRunTellsWhatAProgramPrinted(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	var r recorder
	testneed.Run(&r, "cp", missing, missing+"2")
	if !strings.Contains(r.end, "fail: cp") || !strings.Contains(r.end, "exit status 1") || !strings.Contains(r.end, "No such file") {
		t.Errorf("%q", r.end)
	}
	if out, status := testneed.Status(t, "cp", missing, missing+"2"); status != 1 || !strings.Contains(out, missing) {
		t.Errorf("%d, %q", status, out)
	}
}

func TestMemoryGoesWithItsTest(t *testing.T) {
	var dir string
	t.Run("test", func(t *testing.T) {
		dir = testneed.Memory(t)
		if err := os.WriteFile(filepath.Join(dir, "image"), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(testneed.Copy(t, filepath.Join(dir, "image"))); err != nil || string(b) != "x" {
			t.Errorf("the copy has %q: %v", b, err)
		}
	})
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", dir, err)
	}
}
