package boot_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestBrokenBootstrap is the first run on a machine going wrong: interrupted while
// the image is built, its daemon killed in the middle, its database damaged.
func TestBrokenBootstrap(t *testing.T) {
	home, err := os.MkdirTemp("", "bt")
	if err != nil {
		t.Fatal(err)
	}
	h := newHost(home)
	t.Cleanup(func() {
		if err := h.tearDown(); err != nil {
			t.Error(err)
		}
	})
	clean := func(when string) {
		t.Helper()
		eventually(t, 20*time.Second, "nothing is left "+when, func() bool {
			return len(h.list(t)) == 0 && len(h.processes()) == 0 && len(h.vmFiles(t)) == 0
		})
	}

	for _, phase := range []string{"kernel:", "apt-get update", "extracting"} {
		cmd, wait := h.startRun(t, phase)
		if err := cmd.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		if code, stderr := wait(); code != 130 {
			t.Errorf("interrupted at %q: exit %d, want 130\n%s", phase, code, stderr)
		}
		clean("after an interrupt at " + phase)
	}

	_, wait := h.startRun(t, "extracting")
	if err := syscall.Kill(h.daemonPID(t), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if code, stderr := wait(); code != 125 {
		t.Errorf("its daemon killed: exit %d, want 125\n%s", code, stderr)
	}
	clean("after the daemon's death")

	h.must(t, "daemon", "stop")
	db := filepath.Join(home, ".local/state/banger/banger.db")
	good, err := os.ReadFile(db)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(db, []byte(strings.Repeat("garbage ", 1024)), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := h.banger(t, "vm", "list"); r.code == 0 || !strings.Contains(r.stderr, "damaged") || !strings.Contains(r.stderr, db) {
		t.Errorf("a damaged database: exit %d, stderr %q", r.code, r.stderr)
	}
	if err := os.WriteFile(db, good, 0o600); err != nil {
		t.Fatal(err)
	}
	h.must(t, "vm", "list")
}

// startRun begins "vm run" with flags and returns when its progress shows text. The wait
// function waits for its end and returns the exit code and all of stderr.
func (h *host) startRun(t *testing.T, text string, flags ...string) (*os.Process, func() (int, string)) {
	t.Helper()
	cmd := h.command(t.Context(), append(append([]string{"vm", "run"}, flags...), "--", "true")...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	seen, buf := "", make([]byte, 4096)
	for !strings.Contains(seen, text) {
		n, err := stderr.Read(buf)
		seen += string(buf[:n])
		if err != nil {
			t.Fatalf("stderr ended before %q: %q", text, seen)
		}
	}
	return cmd.Process, func() (int, string) {
		for err == nil {
			var n int
			n, err = stderr.Read(buf)
			seen += string(buf[:n])
		}
		_ = cmd.Wait()
		return cmd.ProcessState.ExitCode(), seen
	}
}
