package agent

import (
	"fmt"
	"strings"
	"testing"

	guestv1 "banger/api/guest/v1"
)

func onTerminal(args ...string) *guestv1.ExecStart {
	return &guestv1.ExecStart{Argv: argv(args...), Tty: &guestv1.WindowSize{Rows: 33, Cols: 111}, Term: "screen", Stdin: true}
}

func TestTerminal(t *testing.T) {
	g := serveAgent(t)
	r := g.run(t, onTerminal("sh", "-c", `stty size; echo "$TERM"; test -t 0 && test -t 1 && test -t 2 && : </dev/tty && echo tty; echo err >&2`))
	if want := "33 111\r\nscreen\r\ntty\r\nerr\r\n"; r.stdout.String() != want || r.stderr.Len() != 0 || r.exit.GetCode() != 0 {
		t.Errorf("stdout %q, stderr %q, exit %v; want %q", &r.stdout, &r.stderr, r.exit, want)
	}
}

func TestTerminalEndsWithItsInput(t *testing.T) {
	stream := serveAgent(t).begin(t.Context(), t, onTerminal("sh", "-c", "stty -echo; echo ready; cat; echo end"))
	defer stream.Close()
	readUntil(t, stream, "ready\r\n")
	send(t, stream, &guestv1.ExecRequest{Message: &guestv1.ExecRequest_Stdin{Stdin: []byte("line\n")}})
	send(t, stream, &guestv1.ExecRequest{Message: &guestv1.ExecRequest_CloseStdin{CloseStdin: true}})
	if r := finish(t, stream); r.stdout.String() != "line\r\nend\r\n" {
		t.Errorf("stdout %q", &r.stdout)
	}
}

func TestTerminalKeysAndSignalsReachTheForeground(t *testing.T) {
	g := serveAgent(t)
	for name, req := range map[string]*guestv1.ExecRequest{
		"key":    {Message: &guestv1.ExecRequest_Stdin{Stdin: []byte{3}}},
		"signal": {Message: &guestv1.ExecRequest_Signal{Signal: 2}},
	} {
		stream := g.begin(t.Context(), t, onTerminal("sh", "-c", "trap 'exit 9' INT; sleep 100 & echo ready; wait"))
		readUntil(t, stream, "ready")
		send(t, stream, req)
		if r := finish(t, stream); r.exit.GetCode() != 9 {
			t.Errorf("%s: exit %v, want 9", name, r.exit)
		}
		_ = stream.Close()
	}
}

func TestResizeStorm(t *testing.T) {
	stream := serveAgent(t).begin(t.Context(), t, onTerminal("sh", "-c", "stty -echo; echo ready; read line; stty size"))
	defer stream.Close()
	readUntil(t, stream, "ready")
	last := &guestv1.WindowSize{}
	for i := range uint32(2000) {
		last = &guestv1.WindowSize{Rows: 1 + i%200, Cols: 1 + i%300}
		send(t, stream, &guestv1.ExecRequest{Message: &guestv1.ExecRequest_Resize{Resize: last}})
	}
	send(t, stream, &guestv1.ExecRequest{Message: &guestv1.ExecRequest_Stdin{Stdin: []byte("go\n")}})
	want := fmt.Sprintf("%d %d\r\n", last.GetRows(), last.GetCols())
	if r := finish(t, stream); !strings.HasSuffix(r.stdout.String(), want) {
		t.Errorf("stdout %q, want %q at its end", &r.stdout, want)
	}
}

func TestTerminalOutputIsWhole(t *testing.T) {
	r := serveAgent(t).run(t, onTerminal("sh", "-c", "stty -opost; head -c 1000000 /dev/zero; printf end"))
	if r.stdout.Len() != 1_000_003 || !strings.HasSuffix(r.stdout.String(), "end") {
		t.Errorf("%d bytes", r.stdout.Len())
	}
}

func TestTerminalWithABackgroundChild(t *testing.T) {
	r := serveAgent(t).run(t, onTerminal("sh", "-c", "trap '' HUP; sleep 2 & echo done"))
	if r.stdout.String() != "done\r\n" || r.exit.GetCode() != 0 {
		t.Errorf("stdout %q, exit %v", &r.stdout, r.exit)
	}
}
