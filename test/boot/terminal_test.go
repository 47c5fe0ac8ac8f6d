package boot_test

import (
	"bytes"
	"context"
	"io"
	"testing"
	"time"

	"github.com/creack/pty"
)

// session is what a terminal showed, and how the command on it ended.
type session struct {
	text string
	code int
}

// runOnTerminal runs banger on a terminal of the given size and types input.
func runOnTerminal(t *testing.T, h *host, args []string, input string, rows, cols uint16) session {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	cmd := h.command(ctx, args...)
	cmd.Env = append(cmd.Env, "TERM=xterm")
	f, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: rows, Cols: cols})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.WriteString(f, input); err != nil {
		t.Fatal(err)
	}
	var shown bytes.Buffer
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(&shown, f) // ends with EIO when the last process has closed the terminal
	}()
	_ = cmd.Wait()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		f.Close()
		<-done
	}
	return session{text: shown.String(), code: cmd.ProcessState.ExitCode()}
}
