package cli

import (
	"bytes"
	"crypto/rand"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	bangerv1 "banger/api/banger/v1"

	"banger/internal/base/testneed"
)

func TestRunGivesTheCommandsStatusAndStreams(t *testing.T) {
	d := startFake(t)
	d.add("vm", bangerv1.State_STATE_RUNNING)
	for _, c := range []struct {
		args     []string
		code     int
		out, err string
	}{
		{[]string{"exit", "0"}, 0, "", ""},
		{[]string{"exit", "42"}, 42, "", ""},
		{[]string{"exit", "137"}, 137, "", ""},
		{[]string{"exit", "-1"}, 255, "", ""},
		{[]string{"exit", "256"}, 255, "", ""},
		{[]string{"both"}, 0, "out\n", "err\n"},
		{[]string{"no-such\x1bprogram"}, 127, "", "banger: cannot run \"no-such\\x1bprogram\": not found\n"},
		{[]string{"args", "two words", "new\nline", "", "\xff", "-x", "--"}, 0, "args\x00two words\x00new\nline\x00\x00\xff\x00-x\x00--", ""},
	} {
		r := banger(t, append([]string{"vm", "exec", "vm", "--"}, c.args...)...)
		if r.code != c.code || r.out != c.out || r.errOut != c.err {
			t.Errorf("%q: %+v, want %+v", c.args, r, c)
		}
		if r := banger(t, append([]string{"vm", "exec", "vm"}, c.args...)...); r.code != c.code {
			t.Errorf("%q without --: %+v", c.args, r)
		}
	}
}

func TestExecFlagsReachTheAgent(t *testing.T) {
	d := startFake(t)
	d.add("vm", bangerv1.State_STATE_RUNNING)
	t.Setenv("FROM_HERE", "yes")
	r := banger(t, "vm", "exec", "-u", "guest:games", "-w", "/tmp", "-e", "A=b c", "-e", "FROM_HERE", "vm", "start")
	if want := "guest:games|/tmp|A=b c,FROM_HERE=yes|false|"; !strings.HasPrefix(r.out, want) {
		t.Errorf("%+v, want %q", r, want)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for _, c := range []struct {
		in    io.Reader
		flags string
		stdin string
	}{{null, "", "|false|"}, {null, "-i", "|true|"}, {strings.NewReader(""), "", "|true|"}, {null, "-t", "|true|rows:24"}} {
		r := start(t, c.in, append(append([]string{"vm", "exec"}, strings.Fields(c.flags)...), "vm", "start")...).wait()
		if !strings.Contains(strings.ReplaceAll(r.out, " ", ""), c.stdin) {
			t.Errorf("exec %s from %T: %q, want %q", c.flags, c.in, r.out, c.stdin)
		}
	}
}

func TestStdinArrivesWhole(t *testing.T) {
	startFake(t)
	data := make([]byte, 3<<20)
	_, _ = rand.Read(data)
	r := start(t, bytes.NewReader(data), "vm", "run", "--rm", "--", "cat").wait()
	if r.code != 0 || r.out != string(data) {
		t.Errorf("exit %d, %d bytes of %d, stderr %q", r.code, len(r.out), len(data), r.errOut)
	}
}

func TestRunWithRemovalHoldsAndDeletes(t *testing.T) {
	d := startFake(t)
	for range 2 {
		if r := banger(t, "vm", "run", "--rm", "--name", "once", "--", "exit", "42"); r.code != 42 || r.out != "" {
			t.Errorf("%+v", r)
		}
	}
	if held := get(d, &d.heldExec); held != 2 || len(d.all()) != 0 || !slices.Contains(d.log(), "delete force 0000000000000010") {
		t.Errorf("%d commands ran under a hold, VMs left %v, calls %q", held, d.all(), d.log())
	}
	until(t, "the hold ends", func() bool { return get(d, &d.holds) == 0 })
	// A VM that cannot be deleted: the command's own failure counts more.
	for code, want := range map[string]int{"0": 120, "7": 7} {
		if r := banger(t, "vm", "run", "--rm", "--name", "stuck-"+code, "--", "exit", code); r.code != want {
			t.Errorf("exit %s, and no removal: %+v, want %d", code, r, want)
		}
	}
}

func TestRunKeepsTheVM(t *testing.T) {
	d := startFake(t)
	if r := banger(t, "vm", "run", "--name", "kept", "--", "exit", "3"); r.code != 3 || len(d.all()) != 1 {
		t.Errorf("%+v, VMs %v", r, d.all())
	}
	// Without a terminal a shell reads its commands from standard input.
	if r := start(t, strings.NewReader("ls\n"), "vm", "run").wait(); r.code != 0 || r.out != "ls\n" {
		t.Errorf("%+v", r)
	}
}

func TestSignalsAreTheCommands(t *testing.T) {
	d := startFake(t)
	d.add("vm", bangerv1.State_STATE_RUNNING)
	for s, want := range map[syscall.Signal]int{syscall.SIGINT: 130, syscall.SIGTERM: 143} {
		p := start(t, nil, "vm", "exec", "vm", "trap")
		until(t, "the command listens", func() bool { return p.out.String() == "ready\n" })
		p.signals <- s
		if r := p.wait(); r.code != want || r.errOut != "" {
			t.Errorf("%v: %+v, want %d", s, r, want)
		}
	}
	for _, in := range []io.Reader{nil, neverEnding{}} {
		p := start(t, in, "vm", "exec", "vm", "deaf")
		until(t, "the command listens", func() bool { return p.out.String() == "ready\n" })
		for range patience {
			p.signals <- syscall.SIGINT
		}
		if r := p.wait(); r.code != 130 {
			t.Errorf("a deaf command after %d interrupts: %+v", patience, r)
		}
	}
	p := start(t, nil, "vm", "exec", "vm", "deaf")
	until(t, "the command listens", func() bool { return p.out.String() == "ready\n" })
	p.signals <- syscall.SIGHUP
	if r := p.wait(); r.code != 130 {
		t.Errorf("a lost terminal: %+v", r)
	}
}

// neverEnding fills every buffer: a sender that nobody reads from gets stuck.
type neverEnding struct{}

func (neverEnding) Read(p []byte) (int, error) { return len(p), nil }

func TestAVMThatStopsMeanwhileIsExplained(t *testing.T) {
	d := startFake(t)
	d.add("vm", bangerv1.State_STATE_RUNNING)
	r := banger(t, "vm", "exec", "vm", "die")
	if want := "banger: the VM stopped while the command ran: the VMM was killed\n  try: banger vm start vm\n"; r.code != 125 || r.errOut != want {
		t.Errorf("%+v, want 125 and %q", r, want)
	}
}

// closedPipe is standard output whose reader has gone.
type closedPipe struct{}

func (closedPipe) Write([]byte) (int, error) {
	return 0, &os.PathError{Op: "write", Path: "|1", Err: syscall.EPIPE}
}

func TestNobodyReadsTheOutput(t *testing.T) {
	d := startFake(t)
	d.add("vm", bangerv1.State_STATE_RUNNING)
	for _, args := range [][]string{{"vm", "exec", "vm", "yes"}, {"vm", "list"}, {"vm", "logs", "vm"}} {
		var errOut syncBuffer
		a := &app{out: closedPipe{}, err: &errOut}
		if code := a.run(t.Context(), args, nil); code != 141 || errOut.String() != "" {
			t.Errorf("%q: exit %d, stderr %q; want 141 and silence", args, code, errOut.String())
		}
	}
}

func TestConsole(t *testing.T) {
	d := startFake(t)
	d.add("vm", bangerv1.State_STATE_RUNNING)
	in, keyboard := io.Pipe()
	p := start(t, in, "vm", "console", "vm")
	until(t, "the console shows itself", func() bool { return p.out.String() == "login: " })
	if _, err := keyboard.Write([]byte("root")); err != nil {
		t.Fatal(err)
	}
	until(t, "the echo", func() bool { return p.out.String() == "login: root" })
	if _, err := keyboard.Write([]byte("\x1dnot this")); err != nil {
		t.Fatal(err)
	}
	if r := p.wait(); r.code != 0 || r.errOut != "" {
		t.Errorf("%+v", r)
	}
	// The reader of the keyboard is left alone; its end is ours to make here.
	_ = keyboard.Close()
}

// openTerminal returns both ends of a terminal. Each session needs its own: the
// last one's reader still waits for a key.
func openTerminal(t *testing.T) (master, terminal *os.File) {
	t.Helper()
	master, terminal, err := pty.Open()
	if err != nil {
		testneed.Missing(t, testneed.Host, "no terminal can be made: %v", err)
	}
	t.Cleanup(func() { master.Close(); terminal.Close() })
	if err := pty.Setsize(master, &pty.Winsize{Rows: 33, Cols: 111}); err != nil {
		t.Fatal(err)
	}
	return master, terminal
}

func TestTheGuestsTerminalIsLikeOurs(t *testing.T) {
	d := startFake(t)
	d.add("vm", bangerv1.State_STATE_RUNNING)
	_, terminal := openTerminal(t)
	r := start(t, terminal, "vm", "exec", "-t", "vm", "start").wait()
	if !strings.Contains(strings.ReplaceAll(r.out, " ", ""), "|true|rows:33cols:111") {
		t.Errorf("%+v", r)
	}
}

func TestTerminalIsRawMeanwhileAndRestored(t *testing.T) {
	d := startFake(t)
	master, terminal := openTerminal(t)
	before := flags(t, terminal)
	p := start(t, terminal, "vm", "run", "--name", "devbox")
	// The fake shell echoes; a cooked terminal would wait for a line's end.
	until(t, "raw mode", func() bool { return flags(t, terminal) == 0 })
	if _, err := master.Write([]byte("\x03x")); err != nil {
		t.Fatal(err)
	}
	until(t, "keys arrive one by one, Ctrl-C too", func() bool { return p.out.String() == "\x03x" })
	p.signals <- syscall.SIGHUP
	if r := p.wait(); r.code != 130 || !strings.Contains(r.errOut, "devbox still runs: banger vm exec -it devbox; stop it with: banger vm stop devbox\n") {
		t.Errorf("%+v", r)
	}
	if after := flags(t, terminal); after != before {
		t.Errorf("the terminal's flags are %x, before %x", after, before)
	}
	if len(d.log()) != 1 {
		t.Errorf("calls %q", d.log())
	}
}

func flags(t *testing.T, f *os.File) uint32 {
	t.Helper()
	a, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return a.Lflag & (unix.ECHO | unix.ICANON | unix.ISIG)
}
