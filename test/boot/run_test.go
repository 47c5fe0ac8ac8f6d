package boot_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

func TestRunPrintsTheGuestsOwnKernel(t *testing.T) {
	out := shared.must(t, "vm", "run", "--rm", "--", "uname", "-a")
	hostKernel, err := exec.Command("uname", "-r").Output()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(out, "Linux ") || strings.Contains(out, strings.TrimSpace(string(hostKernel))) || !strings.Contains(out, "cloud-amd64") {
		t.Errorf("uname -a printed %q; the host runs %s", out, hostKernel)
	}
}

func TestRunPassesTheExitCodeOn(t *testing.T) {
	for _, c := range []struct {
		script string
		want   int
	}{{"exit 42", 42}, {"kill -9 $$", 137}, {"kill -TERM $$", 143}} {
		if r := shared.banger(t, "vm", "run", "--rm", "--image", "busybox", "--memory", "256MiB", "--", "sh", "-c", c.script); r.code != c.want {
			t.Errorf("sh -c %q: exit %d, want %d; stderr: %s", c.script, r.code, c.want, r.stderr)
		}
	}
	if r := shared.banger(t, "vm", "run", "--rm", "--image", "busybox", "--memory", "256MiB", "--", "no-such-program"); r.code != 127 || !strings.Contains(r.stderr, "no-such-program") {
		t.Errorf("a missing program: exit %d, stderr %q; want 127 and its name", r.code, r.stderr)
	}
}

func TestRunForwardsStdinWhole(t *testing.T) {
	data := make([]byte, 10<<20)
	_, _ = rand.Read(data)
	sum := sha256.Sum256(data)
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	r := shared.run(ctx, bytes.NewReader(data), "vm", "run", "--rm", "--", "sha256sum")
	if want := hex.EncodeToString(sum[:]) + "  -\n"; r.stdout != want {
		t.Errorf("sha256sum printed %q (exit %d, stderr %q), want %q", r.stdout, r.code, r.stderr, want)
	}
}

func TestExecKeepsStreamsAndArgumentsApart(t *testing.T) {
	shared.start(t, "streams", "busybox")
	r := shared.banger(t, "vm", "exec", "streams", "--", "sh", "-c", "echo out; echo err >&2")
	if r.stdout != "out\n" || r.stderr != "err\n" {
		t.Errorf("stdout %q, stderr %q; want them apart", r.stdout, r.stderr)
	}
	args := []string{"plain", "two words", `"double" 'single'`, "new\nline", "$HOME `id` ; *", "", "\xff\xfe", "-n"}
	script := `for a in "$@"; do printf '%s\0' "$a"; done`
	// busybox has printf built into its shell.
	got := shared.must(t, append([]string{"vm", "exec", "streams", "--", "sh", "-c", script, "sh"}, args...)...)
	if want := strings.Join(args, "\x00") + "\x00"; got != want {
		t.Errorf("arguments arrived as %q, want %q", got, want)
	}
	if out := shared.must(t, "vm", "exec", "-w", "/tmp", "-e", "GREETING=hello there", "-u", "guest", "streams", "--", "sh", "-c", "pwd; echo $GREETING; id -u"); out != "/tmp\nhello there\n1000\n" {
		t.Errorf("directory, environment and user: %q", out)
	}
	// A single argument beyond the kernel's MAX_ARG_STRLEN is refused on this
	// side already; many that make a megabyte arrive.
	many := make([]string, 1000)
	for i := range many {
		many[i] = strings.Repeat("x", 1000)
	}
	if out := shared.must(t, append([]string{"vm", "exec", "streams", "--", "sh", "-c", `echo $# ${#1000}`, "sh"}, many...)...); out != "1000 1000\n" {
		t.Errorf("a megabyte of arguments: %q", out)
	}
}

func TestManyCommandsAtOnceDoNotBlockEachOther(t *testing.T) {
	shared.start(t, "many", "busybox")
	// One command's output is not read by anybody.
	ctx, cancel := context.WithCancel(t.Context())
	stuck := shared.command(ctx, "vm", "exec", "many", "--", "yes")
	pipe, err := stuck.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	if err := stuck.Start(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if out := shared.banger(t, "vm", "exec", "many", "--", "sh", "-c", "echo $((6*7))"); out.stdout != "42\n" {
				t.Errorf("exit %d, stdout %q, stderr %q", out.code, out.stdout, out.stderr)
			}
		})
	}
	wg.Wait()
	cancel()
	_ = stuck.Wait()
}

func TestTwoRunsAtOnce(t *testing.T) {
	var wg sync.WaitGroup
	for _, word := range []string{"one", "two"} {
		wg.Go(func() {
			r := shared.banger(t, "vm", "run", "--rm", "--image", "busybox", "--memory", "256MiB", "--", "echo", word)
			if r.code != 0 || r.stdout != word+"\n" {
				t.Errorf("exit %d, stdout %q, stderr %q", r.code, r.stdout, r.stderr)
			}
		})
	}
	wg.Wait()
}

func TestDetachedRunAndRefusals(t *testing.T) {
	t.Cleanup(func() { shared.run(context.Background(), nil, "vm", "delete", "-f", "detached") })
	out := shared.must(t, "vm", "run", "-d", "--name", "detached", "--image", "busybox", "--memory", "256MiB")
	if out != "detached\n" {
		t.Errorf("run -d printed %q, want the name", out)
	}
	for _, c := range []struct {
		args []string
		code int
		text string
	}{
		{[]string{"vm", "run", "--name", "detached"}, 123, "detached"},
		{[]string{"vm", "run", "--name", "Not_A_Label"}, 121, "Not_A_Label"},
		{[]string{"vm", "run", "--image", "0123456789ab", "--", "true"}, 122, "0123456789ab"},
		{[]string{"vm", "create", "--memory", "0"}, 121, "0"},
		{[]string{"vm", "create", "--vcpu", "-1"}, 121, "-1"},
		{[]string{"vm", "create", "--disk-size", "4X"}, 121, "4X"},
		{[]string{"vm", "start", "detached"}, 123, "running"},
		{[]string{"vm", "delete", "detached"}, 123, "running"},
		{[]string{"vm", "exec", "no-such-vm", "--", "true"}, 122, "no-such-vm"},
		{[]string{"vm", "frobnicate"}, 121, "frobnicate"},
	} {
		if r := shared.banger(t, c.args...); r.code != c.code || !strings.Contains(r.stderr, c.text) {
			t.Errorf("banger %s: exit %d, stderr %q; want %d and %q", strings.Join(c.args, " "), r.code, r.stderr, c.code, c.text)
		}
	}
	if n := len(shared.list(t)); n != 1 {
		t.Errorf("%d VMs after the refusals, want 1", n)
	}
}

func TestTerminalSession(t *testing.T) {
	shared.start(t, "term", "busybox")
	out := runOnTerminal(t, shared, []string{"vm", "exec", "-it", "term"}, "stty size; tty -s; echo status=$?; exit 7\n", 33, 111)
	if !strings.Contains(out.text, "33 111") || out.code != 7 {
		t.Errorf("exit %d, want 7; the session showed %q, want the size 33 111", out.code, out.text)
	}
	if _, err := os.Stat(shared.home); err != nil {
		t.Fatal(err)
	}
}
