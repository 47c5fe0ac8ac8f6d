package agent

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	guestv1 "banger/api/guest/v1"
	"banger/api/guest/v1/guestv1connect"
	"banger/internal/base/errs"
	"banger/internal/guestabi"
	"banger/internal/rpc"
)

func TestStreamsStayApart(t *testing.T) {
	r := serveAgent(t).shell(t, "echo out; echo err >&2; exit 42")
	if r.stdout.String() != "out\n" || r.stderr.String() != "err\n" || r.exit.GetCode() != 42 || r.exit.GetSignal() != 0 {
		t.Errorf("stdout %q, stderr %q, exit %v", &r.stdout, &r.stderr, r.exit)
	}
}

func TestArgumentsArriveIntact(t *testing.T) {
	g := serveAgent(t)
	args := []string{"two words", `"double" 'single'`, "new\nline", "$HOME `id` ; *", "", "\xff\xfe", "-n", strings.Repeat("x", 100_000)}
	script := `for a in "$@"; do printf '%s\0' "$a"; done`
	r := g.run(t, &guestv1.ExecStart{Argv: argv(append([]string{"sh", "-c", script, "sh"}, args...)...)})
	if want := strings.Join(args, "\x00") + "\x00"; r.stdout.String() != want {
		t.Errorf("arguments arrived as %.300q", &r.stdout)
	}
	many := []string{"sh", "-c", `echo $# ${#1000}`, "sh"}
	for range 1000 {
		many = append(many, strings.Repeat("y", 1000))
	}
	if r := g.run(t, &guestv1.ExecStart{Argv: argv(many...)}); r.stdout.String() != "1000 1000\n" {
		t.Errorf("a megabyte of arguments: stdout %q, exit %v", &r.stdout, r.exit)
	}
	r = g.run(t, &guestv1.ExecStart{Argv: argv("echo", strings.Repeat("z", 1<<20))})
	if r.exit.GetCode() != 126 || !strings.Contains(r.exit.GetError(), "longer than") {
		t.Errorf("one argument beyond the kernel's bound: exit %v", r.exit)
	}
}

func TestEnvironmentAndDirectory(t *testing.T) {
	g := serveAgent(t)
	dir := t.TempDir()
	r := g.run(t, &guestv1.ExecStart{
		Argv: argv("sh", "-c", `pwd; echo "$GREETING|$LANG|$PATH|${TERM-none}"`), Dir: dir,
		Env: argv("GREETING=hello\nthere", "LANG=C", "GREETING=last=wins"),
	})
	if want := dir + "\nlast=wins|C|" + defaultPath + "|none\n"; r.stdout.String() != want {
		t.Errorf("got %q, want %q", &r.stdout, want)
	}
}

// TestPlainEnvironment is that of a container: what the image says, and the few
// variables without which nothing runs.
func TestPlainEnvironment(t *testing.T) {
	g := serveAgent(t)
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	me, err := findUser(self)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		env  [][]byte
		tty  *guestv1.WindowSize
		want []string
	}{
		{nil, nil, []string{"HOME=" + me.home, "PATH=" + defaultPath, "HOSTNAME=" + name}},
		{argv("A=1", "HOME=/h", "A=2"), nil, []string{"HOME=/h", "PATH=" + defaultPath, "HOSTNAME=" + name, "A=2"}},
		{argv("HOSTNAME=x"), &guestv1.WindowSize{Rows: 1, Cols: 1}, []string{"HOME=" + me.home, "PATH=" + defaultPath, "HOSTNAME=x", "TERM=" + defaultTerm}},
	} {
		r := g.run(t, &guestv1.ExecStart{Argv: argv("/usr/bin/env"), Env: c.env, Tty: c.tty, Plain: true})
		if got := strings.Fields(r.stdout.String()); !slices.Equal(got, c.want) {
			t.Errorf("env %q: %q, want %q", c.env, got, c.want)
		}
	}
	// The program is sought where the command's own PATH says.
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "tool"), []byte("#!/bin/sh\necho found\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if r := g.run(t, &guestv1.ExecStart{Argv: argv("tool"), Env: argv("PATH=" + dir), Plain: true}); r.stdout.String() != "found\n" {
		t.Errorf("%q, exit %v", &r.stdout, r.exit)
	}
	if r := g.run(t, &guestv1.ExecStart{Argv: argv("env"), Env: argv("PATH=" + dir), Plain: true}); r.exit.GetCode() != 127 {
		t.Errorf("a program that is not in PATH: exit %v", r.exit)
	}
}

func TestMissingFoldersAreMade(t *testing.T) {
	g := serveAgent(t)
	dir := filepath.Join(t.TempDir(), "a/b")
	r := g.run(t, &guestv1.ExecStart{Argv: argv("pwd"), Dir: dir, MakeDirs: []string{dir, dir + "/c", dir}})
	if r.stdout.String() != dir+"\n" {
		t.Errorf("%q, exit %v", &r.stdout, r.exit)
	}
	if info, err := os.Stat(dir + "/c"); err != nil || !info.IsDir() {
		t.Errorf("%v, %v", info, err)
	}
}

func TestCommandsThatCannotRun(t *testing.T) {
	g := serveAgent(t)
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	plain := file("plain", "echo hi", 0o644)
	noInterpreter := file("nointerp", "#!/no/such/interpreter\n", 0o755)
	garbage := file("garbage", "\x01\x02\x03", 0o755)
	for _, c := range []struct {
		name  string
		start *guestv1.ExecStart
		code  int32
		text  string
	}{
		{"unknown program", &guestv1.ExecStart{Argv: argv("no-such-program")}, 127, `"no-such-program": not found`},
		{"unknown path", &guestv1.ExecStart{Argv: argv(dir + "/none")}, 127, "not found"},
		{"empty name", &guestv1.ExecStart{Argv: argv("", "x")}, 127, "not found"},
		{"not executable", &guestv1.ExecStart{Argv: argv(plain)}, 126, "not an executable"},
		{"a directory", &guestv1.ExecStart{Argv: argv(dir)}, 126, "not an executable"},
		{"relative to the directory", &guestv1.ExecStart{Argv: argv("./plain"), Dir: dir}, 126, "not an executable"},
		{"no interpreter", &guestv1.ExecStart{Argv: argv(noInterpreter)}, 127, "interpreter"},
		{"no program", &guestv1.ExecStart{Argv: argv(garbage)}, 126, "not a program"},
		{"NUL in an argument", &guestv1.ExecStart{Argv: argv("echo", "a\x00b")}, 126, "NUL"},
		{"bad environment", &guestv1.ExecStart{Argv: argv("true"), Env: argv("novalue")}, 126, "novalue"},
		{"NUL in the environment", &guestv1.ExecStart{Argv: argv("true"), Env: argv("a=\x00")}, 126, "KEY=VALUE"},
		{"unknown directory", &guestv1.ExecStart{Argv: argv("true"), Dir: "/no/such/dir"}, 126, "/no/such/dir"},
		{"directory is a file", &guestv1.ExecStart{Argv: argv("true"), Dir: plain}, 126, "not a directory"},
		{"a folder that cannot be made", &guestv1.ExecStart{Argv: argv("true"), MakeDirs: []string{plain + "/x"}}, 126, "cannot make the folder"},
		{"a folder from nowhere", &guestv1.ExecStart{Argv: argv("true"), MakeDirs: []string{"x"}}, 126, "not a path from the root"},
		{"unknown user", &guestv1.ExecStart{Argv: argv("true"), User: "no-such-user"}, 126, "no-such-user"},
		{"unknown group", &guestv1.ExecStart{Argv: argv("true"), User: self + ":no-such-group"}, 126, "no-such-group"},
	} {
		r := g.run(t, c.start)
		if r.exit.GetCode() != c.code || !strings.Contains(r.exit.GetError(), c.text) {
			t.Errorf("%s: exit %v, want code %d and %q", c.name, r.exit, c.code, c.text)
		}
	}
	stream, err := g.agent.Exec(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	send(t, stream, &guestv1.ExecRequest{Message: &guestv1.ExecRequest_Stdin{Stdin: []byte("x")}})
	if _, err := stream.Receive(); errs.KindOf(err) != errs.Invalid {
		t.Errorf("a stream that does not begin with a start: %v", err)
	}
	_ = stream.Close()
}

func TestSignalsEndTheCommand(t *testing.T) {
	g := serveAgent(t)
	for _, c := range []struct {
		script       string
		code, signal int32
	}{{"kill -9 $$", 137, 9}, {"kill -TERM $$", 143, 15}} {
		if r := g.shell(t, c.script); r.exit.GetCode() != c.code || r.exit.GetSignal() != c.signal {
			t.Errorf("%q: exit %v", c.script, r.exit)
		}
	}
	// The whole group gets the signal: the shell's child, too.
	stream := g.begin(t.Context(), t, &guestv1.ExecStart{Argv: argv("sh", "-c", "trap 'exit 7' TERM; sh -c 'echo pid=$$.; exec sleep 100' & wait")})
	defer stream.Close()
	child := readPID(t, stream)
	send(t, stream, &guestv1.ExecRequest{Message: &guestv1.ExecRequest_Signal{Signal: 1000}}) // no signal at all
	send(t, stream, &guestv1.ExecRequest{Message: &guestv1.ExecRequest_Signal{Signal: 15}})
	if r := finish(t, stream); r.exit.GetCode() != 7 {
		t.Errorf("exit %v after SIGTERM, want 7", r.exit)
	}
	eventually(t, "the child ends", func() bool { return !alive(child) })
}

// alive says whether pid runs; a zombie does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

// readPID reads output until "pid=N." and returns N.
func readPID(t *testing.T, s stream) int {
	t.Helper()
	var pid int
	if seen := readUntil(t, s, "."); !strings.HasPrefix(seen, "pid=") {
		t.Fatalf("%q, want a pid", seen)
	} else if _, err := fmt.Sscanf(seen, "pid=%d.", &pid); err != nil {
		t.Fatal(err)
	}
	return pid
}

// stream is what readUntil needs of a call.
type stream interface {
	Receive() (*guestv1.ExecResponse, error)
}

// readUntil reads output until text has appeared, and returns all of it.
func readUntil(t *testing.T, s stream, text string) string {
	t.Helper()
	r := &result{}
	for !strings.Contains(r.stdout.String(), text) {
		resp, err := s.Receive()
		if err != nil {
			t.Fatalf("%v before %q; seen %q", err, text, &r.stdout)
		}
		r.take(t, resp)
	}
	return r.stdout.String()
}

func TestInputArrivesWhole(t *testing.T) {
	g := serveAgent(t)
	data := make([]byte, 10<<20)
	_, _ = rand.Read(data)
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	stream := g.begin(ctx, t, &guestv1.ExecStart{Argv: argv("sha256sum"), Stdin: true})
	defer stream.Close()
	for rest := data; len(rest) > 0; {
		n := min(len(rest), guestabi.MaxChunk)
		send(t, stream, &guestv1.ExecRequest{Message: &guestv1.ExecRequest_Stdin{Stdin: rest[:n]}})
		rest = rest[n:]
	}
	send(t, stream, &guestv1.ExecRequest{Message: &guestv1.ExecRequest_CloseStdin{CloseStdin: true}})
	sum := sha256.Sum256(data)
	if r := finish(t, stream); r.stdout.String() != hex.EncodeToString(sum[:])+"  -\n" {
		t.Errorf("sha256sum printed %q, exit %v", &r.stdout, r.exit)
	}
}

func TestOutputArrivesWhole(t *testing.T) {
	r := serveAgent(t).shell(t, "head -c 10000000 /dev/zero; head -c 3000000 /dev/zero >&2")
	if r.stdout.Len() != 10_000_000 || r.stderr.Len() != 3_000_000 || strings.Trim(r.stdout.String(), "\x00") != "" {
		t.Errorf("%d and %d bytes", r.stdout.Len(), r.stderr.Len())
	}
}

func TestInputThatNobodyWants(t *testing.T) {
	g := serveAgent(t)
	for _, withStdin := range []bool{false, true} {
		stream := g.begin(t.Context(), t, &guestv1.ExecStart{Argv: argv("sh", "-c", "exec <&-; echo ok"), Stdin: withStdin})
		for range 4 {
			send(t, stream, &guestv1.ExecRequest{Message: &guestv1.ExecRequest_Stdin{Stdin: make([]byte, guestabi.MaxChunk)}})
		}
		if r := finish(t, stream); r.stdout.String() != "ok\n" || r.exit.GetCode() != 0 {
			t.Errorf("with stdin %v: stdout %q, exit %v", withStdin, &r.stdout, r.exit)
		}
		_ = stream.Close()
	}
	if r := serveAgent(t).shell(t, "cat; echo end"); r.stdout.String() != "end\n" {
		t.Errorf("without stdin: %q", &r.stdout)
	}
}

func TestCallerThatLeavesHangsUp(t *testing.T) {
	g := serveAgent(t)
	for name, script := range map[string]string{
		"default": "echo pid=$$.; sleep 100",
		"trap":    "trap 'echo hup > hup; exit' HUP; echo pid=$$.; sleep 100 & wait",
		"flood":   "echo pid=$$.; yes",
		"stopped": "echo pid=$$.; kill -STOP $$",
	} {
		dir := t.TempDir()
		stream := g.begin(t.Context(), t, &guestv1.ExecStart{Argv: argv("sh", "-c", script), Dir: dir, Stdin: true})
		pid := readPID(t, stream)
		_ = stream.Close()
		eventually(t, name+": the command ends", func() bool { return !alive(pid) })
		if _, err := os.Stat(filepath.Join(dir, "hup")); name == "trap" && err != nil {
			t.Errorf("the command saw no SIGHUP: %v", err)
		}
	}
}

func TestCallerThatLeavesABlockedInput(t *testing.T) {
	g := serveAgent(t)
	stream := g.begin(t.Context(), t, &guestv1.ExecStart{Argv: argv("sh", "-c", "echo pid=$$.; exec sleep 100"), Stdin: true})
	pid := readPID(t, stream)
	// Input without end: it fills the command's pipe, the agent's queue and the
	// stream's window, and then blocks.
	var sent atomic.Int64
	var flooding sync.WaitGroup
	flooding.Go(func() {
		for stream.Send(&guestv1.ExecRequest{Message: &guestv1.ExecRequest_Stdin{Stdin: make([]byte, guestabi.MaxChunk)}}) == nil {
			sent.Add(guestabi.MaxChunk)
		}
	})
	eventually(t, "the input fills every buffer", func() bool { return sent.Load() > inputQueue*guestabi.MaxChunk })
	_ = stream.Close()
	flooding.Wait()
	eventually(t, "the command ends", func() bool { return !alive(pid) })
	if n := sent.Load(); n > 16<<20 {
		t.Errorf("%d bytes of input were taken from a caller whose command reads nothing", n)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(bound); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", bound, what)
		}
	}
}

func TestCommandThatIgnoresSIGHUPIsKilled(t *testing.T) {
	g := serveAgent(t)
	stream := g.begin(t.Context(), t, &guestv1.ExecStart{Argv: argv("sh", "-c", "trap '' HUP; echo pid=$$.; while :; do sleep 1; done")})
	pid := readPID(t, stream)
	_ = stream.Close()
	eventually(t, "the command is killed", func() bool { return !alive(pid) })
}

func TestManyAtOnce(t *testing.T) {
	g := serveAgent(t)
	// Output that nobody takes: from its stream here, and from a whole connection.
	unread := g.begin(t.Context(), t, &guestv1.ExecStart{Argv: argv("yes")})
	defer unread.Close()
	release := make(chan struct{})
	client := rpc.NewClient(func(ctx context.Context) (net.Conn, error) {
		c, err := g.dial(ctx)
		return &stalling{Conn: c, left: 4096, release: release}, err
	}, guestabi.MaxMessage)
	defer client.Close()
	stalled := guest{agent: guestv1connect.NewAgentServiceClient(client.Client)}.
		begin(t.Context(), t, &guestv1.ExecStart{Argv: argv("yes")})
	defer stalled.Close()
	defer close(release)
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			if r := g.shell(t, fmt.Sprintf("echo %d", i)); r.stdout.String() != fmt.Sprintln(i) {
				t.Errorf("command %d: %q", i, &r.stdout)
			}
		})
	}
	wg.Wait()
}

// stalling is a connection whose reader stops after left bytes, until release.
type stalling struct {
	net.Conn
	left    int
	release chan struct{}
}

func (s *stalling) Read(p []byte) (int, error) {
	if s.left <= 0 {
		<-s.release
	}
	n, err := s.Conn.Read(p)
	s.left -= n
	return n, err
}

func TestCommandsBeyondTheBoundAreRefused(t *testing.T) {
	s := newService("", nil)
	for range maxCommands {
		s.slots <- struct{}{}
	}
	g := serveAs(t, s)
	stream := g.begin(t.Context(), t, &guestv1.ExecStart{Argv: argv("true")})
	if _, err := stream.Receive(); errs.KindOf(err) != errs.Unavailable || errs.HintOf(err) == "" {
		t.Errorf("%v, want a refusal", err)
	}
	_ = stream.Close()
	for range maxCommands {
		<-s.slots
	}
	if r := g.shell(t, "true"); r.exit.GetCode() != 0 {
		t.Errorf("exit %v", r.exit)
	}
}

func TestBackgroundChildDoesNotHoldTheCall(t *testing.T) {
	g := serveAgent(t)
	for name, c := range map[string]struct{ script, want string }{
		"silent": {"echo before; sleep 100 & echo pid=$! >&2", "before\n"},
		"late":   {"(sleep 0.1; echo late) & echo pid=$$ >&2", "late\n"},
	} {
		start := time.Now()
		r := g.shell(t, c.script)
		if r.stdout.String() != c.want || r.exit.GetCode() != 0 {
			t.Errorf("%s: stdout %q, exit %v", name, &r.stdout, r.exit)
		}
		if took := time.Since(start); took > 30*time.Second {
			t.Errorf("%s: took %s", name, took)
		}
		var pid int
		if _, err := fmt.Sscanf(r.stderr.String(), "pid=%d", &pid); err == nil && name == "silent" {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	// A child that floods the pipe does not hold it either, and what the command
	// itself wrote is there.
	r := g.shell(t, "(trap '' PIPE; yes flood & echo $! >&2); echo own")
	if !bytes.Contains(r.stdout.Bytes(), []byte("own\n")) {
		t.Errorf("the command's own line is missing from %d bytes", r.stdout.Len())
	}
	var pid int
	if _, err := fmt.Sscan(r.stderr.String(), &pid); err == nil {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}
