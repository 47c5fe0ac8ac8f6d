package agent

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	guestv1 "banger/api/guest/v1"
	"banger/internal/guestabi"
)

// serveWithConsole is serveAgent with a file in the console's place.
func serveWithConsole(t *testing.T) (g guest, s *service, console func() string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "console")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s = newService(guestabi.PowerOffACPI, slog.New(slog.DiscardHandler))
	s.console = path
	return serveAs(t, s), s, func() string {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
}

func TestDetachedCommandOutlivesItsCaller(t *testing.T) {
	g, s, console := serveWithConsole(t)
	gate := filepath.Join(t.TempDir(), "gate")
	script := fmt.Sprintf("echo out; echo err >&2; until [ -e %s ]; do sleep 0.01; done; echo late; exit 3", gate)
	r := g.run(t, &guestv1.ExecStart{Argv: argv("sh", "-c", script), Detach: true, StopSignal: 15})
	if r.exit.GetCode() != 0 || r.stdout.Len() != 0 {
		t.Errorf("exit %v, stdout %q", r.exit, &r.stdout)
	}
	eventually(t, "its output is on the console", func() bool { return strings.Contains(console(), "out\n") && strings.Contains(console(), "err\n") })
	if len(s.slots) != 1 {
		t.Errorf("%d commands run, want 1", len(s.slots))
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its end is on the console", func() bool {
		return strings.HasSuffix(console(), "late\nbanger: the command \"sh\" ended with the exit status 3\n")
	})
	eventually(t, "nothing of it is left", func() bool { return len(s.slots) == 0 && enlisted(s) == 0 })
}

func enlisted(s *service) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.enlisted)
}

func TestDetachedCommandThatCannotRun(t *testing.T) {
	g, s, _ := serveWithConsole(t)
	r := g.run(t, &guestv1.ExecStart{Argv: argv("no-such-program"), Detach: true})
	if r.exit.GetCode() != 127 || len(s.slots) != 0 {
		t.Errorf("exit %v, %d commands", r.exit, len(s.slots))
	}
}

func TestDetachedCommandEndsWithTheAgent(t *testing.T) {
	var pid int
	t.Run("agent", func(t *testing.T) {
		g, _, console := serveWithConsole(t)
		g.run(t, &guestv1.ExecStart{Argv: argv("sh", "-c", "echo pid=$$.; exec sleep 100"), Detach: true})
		eventually(t, "it runs", func() bool {
			_, err := fmt.Sscanf(console(), "pid=%d.", &pid)
			return err == nil
		})
	})
	if alive(pid) {
		t.Errorf("the process %d lives on", pid)
	}
}

func TestEnlistedCommandsEndBeforeTheMachine(t *testing.T) {
	g, s, console := serveWithConsole(t)
	// One that needs its own signal, and one that any signal ends.
	g.run(t, &guestv1.ExecStart{Argv: argv("sh", "-c", "trap '' TERM; trap 'echo saved; exit 0' INT; echo ready; while :; do sleep 0.01; done"), Detach: true, StopSignal: 2})
	stream := g.begin(t.Context(), t, &guestv1.ExecStart{Argv: argv("sh", "-c", "echo pid=$$.; exec sleep 100"), StopSignal: 15})
	defer stream.Close()
	pid := readPID(t, stream)
	eventually(t, "it listens", func() bool { return strings.Contains(console(), "ready") })
	began := time.Now()
	s.stopEnlisted()
	if alive(pid) || !strings.Contains(console(), "saved\n") {
		t.Errorf("the other command lives: %v; the console shows %q", alive(pid), console())
	}
	if took := time.Since(began); took >= stopGrace {
		t.Errorf("it took %s", took)
	}
	if r := finish(t, stream); r.exit.GetCode() != 143 {
		t.Errorf("exit %v", r.exit)
	}
	s.stopEnlisted() // with none left
}
