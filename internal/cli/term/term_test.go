package term

import (
	"bytes"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"banger/internal/base/progress"
	"banger/internal/base/testneed"
)

// newPainter returns a painter with a clock that the test moves.
func newPainter(w io.Writer, live bool) (*Painter, func(time.Duration)) {
	now := time.Unix(1000, 0)
	p := &Painter{w: w, live: live, width: func() int { return 40 }, now: func() time.Time { return now }}
	return p, func(d time.Duration) { now = now.Add(d) }
}

func TestPlainPainterWritesALineForEachStep(t *testing.T) {
	var out bytes.Buffer
	p, pass := newPainter(&out, false)
	p.Report("", progress.Report{Phase: "spec"})
	p.Report("", progress.Report{Phase: "spec"})
	p.Report("", progress.Report{Phase: "image", Detail: "downloading"})
	for range 9 {
		pass(time.Second)
		p.Report("", progress.Report{Phase: "image", Detail: "downloading", Done: 5 << 20, Total: 50 << 20})
	}
	pass(time.Second) // ten in all: time to say that it goes on
	p.Report("", progress.Report{Phase: "image", Detail: "downloading", Done: 20 << 20, Total: 50 << 20})
	p.Report("devbox", progress.Report{Phase: "boot"})
	p.Clear()
	want := "spec\nimage: downloading\nimage: downloading, 20MiB of 50MiB, 2MiB/s\ndevbox: boot\n"
	if out.String() != want {
		t.Errorf("got %q\nwant %q", out.String(), want)
	}
}

func TestLivePainterWritesOverItsLine(t *testing.T) {
	var out bytes.Buffer
	p, pass := newPainter(&out, true)
	p.Report("", progress.Report{Phase: "disks"})
	p.Report("", progress.Report{Phase: "disks", Done: 1 << 20}) // too soon
	pass(2 * time.Second)
	p.Report("", progress.Report{Phase: "disks", Done: 3 << 20})
	p.Report("", progress.Report{Phase: "boot", Detail: strings.Repeat("x", 100)})
	p.Clear()
	p.Clear()
	const home = "\r\x1b[K"
	want := home + "disks" + home + "disks, 3MiB, 1.5MiB/s" + home + "boot: " + strings.Repeat("x", 33) + home
	if out.String() != want {
		t.Errorf("got %q\nwant %q", out.String(), want)
	}
}

func TestPainterLetsNoControlThrough(t *testing.T) {
	var out bytes.Buffer
	p, _ := newPainter(&out, false)
	p.Report("", progress.Report{Phase: "image", Detail: "a\x1b[2Jb\nc"})
	if out.String() != "image: a [2Jb c\n" {
		t.Errorf("got %q", out.String())
	}
}

func TestCleanerStripsWhatATerminalObeys(t *testing.T) {
	for in, want := range map[string]string{
		"plain\ttext\n":                     "plain\ttext\n",
		"\x1b[0;32m  OK  \x1b[0m ready\r\n": "  OK   ready\n",
		"\x1b]0;title\x07after":             "after",
		"\x1b]0;title\x1b\\after":           "after",
		"\x1bcreset\x1b(B":                  "reset",
		"a\x00\x08b\x7f":                    "ab",
		"\x1b[\nnext":                       "\nnext",
		"\x1bPdata\nnext":                   "\nnext",
		"größe":                             "größe",
		"\u009b2Jb":                         "\xc22Jb",
	} {
		var out bytes.Buffer
		c := NewCleaner(&out)
		for i := range len(in) { // in pieces, as a stream arrives
			if n, err := c.Write([]byte{in[i]}); n != 1 || err != nil {
				t.Fatal(n, err)
			}
		}
		if out.String() != want {
			t.Errorf("%q became %q, want %q", in, out.String(), want)
		}
	}
}

func FuzzCleaner(f *testing.F) {
	f.Add([]byte("\x1b[0;32m  OK  \x1b[0m\r\n"))
	f.Add([]byte("\x1b]0;x\x1b\\\x1bP\x07\x1b(B"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var out bytes.Buffer
		if n, err := NewCleaner(&out).Write(data); n != len(data) || err != nil {
			t.Fatal(n, err)
		}
		if i := bytes.IndexFunc(out.Bytes(), func(r rune) bool { return r < 0x20 && r != '\n' && r != '\t' || r == 0x7f }); i >= 0 {
			t.Fatalf("%q became %q", data, out.Bytes())
		}
		if bytes.Count(out.Bytes(), []byte("\n")) != bytes.Count(data, []byte("\n")) {
			t.Fatalf("%q lost a line end: %q", data, out.Bytes())
		}
		for _, r := range out.String() {
			if r >= 0x80 && r <= 0x9f {
				t.Fatalf("%q kept %U", data, r)
			}
		}
		line := CleanLine(string(data))
		if strings.ContainsFunc(line, unicode.IsControl) || !utf8.ValidString(line) {
			t.Fatalf("CleanLine: %q", line)
		}
	})
}

// openTerminal returns both ends of a terminal of 33 by 111.
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

func TestRawAndBack(t *testing.T) {
	_, f := openTerminal(t)
	local := func() uint32 {
		a, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		return a.Lflag & (unix.ECHO | unix.ICANON | unix.ISIG)
	}
	before := local()
	restore, err := Raw(f)
	if err != nil {
		t.Fatal(err)
	}
	if got := local(); got != 0 {
		t.Errorf("flags %x in raw mode", got)
	}
	restore()
	restore()
	if got := local(); got != before || got == 0 {
		t.Errorf("flags %x after raw mode, before %x", got, before)
	}
	if _, err := Raw(os.Stdin); err == nil && !IsTerminal(os.Stdin) {
		t.Error("raw mode on what is no terminal")
	}
}

func TestSizes(t *testing.T) {
	master, f := openTerminal(t)
	if !IsTerminal(f) || IsTerminal(new(bytes.Buffer)) || IsTerminal((*os.File)(nil)) {
		t.Error("IsTerminal is wrong")
	}
	if s := SizeOf(f); s != (Size{33, 111}) {
		t.Errorf("size %v", s)
	}
	if s := SizeOf(new(bytes.Buffer)); s != fallback {
		t.Errorf("size %v of a buffer", s)
	}
	sizes, stop := Resizes(f)
	defer stop()
	if err := pty.Setsize(master, &pty.Winsize{Rows: 50, Cols: 120}); err != nil {
		t.Fatal(err)
	}
	// The terminal is not our controlling one: the kernel does not tell us.
	if err := syscall.Kill(os.Getpid(), syscall.SIGWINCH); err != nil {
		t.Fatal(err)
	}
	select {
	case s := <-sizes:
		if s != (Size{50, 120}) {
			t.Errorf("new size %v", s)
		}
	case <-time.After(5 * time.Second):
		t.Error("no new size")
	}
}

func TestAStormOfSizesLeavesTheLast(t *testing.T) {
	c := make(chan Size, 1)
	for i := range uint32(1000) {
		offer(c, Size{i + 1, 80})
	}
	if s := <-c; s.Rows != 1000 || len(c) != 0 {
		t.Errorf("size %v waits, and %d more", s, len(c))
	}
}
