package layers_test

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// A test that needs a process of its own runs this binary again, with the work and its
// arguments in these variables.
const (
	workVar = "LAYERS_TEST_WORK"
	argVar  = "LAYERS_TEST_ARG"
	dirVar  = "LAYERS_TEST_DIR"
	refVar  = "LAYERS_TEST_REF"
)

func TestMain(m *testing.M) {
	works := map[string]func() error{"kill": killWork, "full": fullWork, "peak": peakWork}
	work := works[os.Getenv(workVar)]
	if work == nil {
		os.Exit(m.Run())
	}
	if err := work(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func child(t testing.TB, work, dir, ref string, arg any) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	cmd := exec.CommandContext(t.Context(), self)
	// The race detector waits a second at exit for reports of what still runs.
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", workVar+"="+work, dirVar+"="+dir, refVar+"="+ref, argVar+"="+fmt.Sprint(arg))
	return cmd
}
