package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	bangerv1 "banger/api/banger/v1"
)

// bound is longer than any step of a test takes.
const bound = 60 * time.Second

type result struct {
	code        int
	out, errOut string
}

// syncBuffer is written by the command and read by the test.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// process is a command that runs.
type process struct {
	t        *testing.T
	out, err syncBuffer
	signals  chan os.Signal
	done     chan int
}

func start(t *testing.T, in io.Reader, args ...string) *process {
	t.Helper()
	p := &process{t: t, signals: make(chan os.Signal, 8), done: make(chan int, 1)}
	a := &app{in: in, out: &p.out, err: &p.err}
	go func() { p.done <- a.run(context.Background(), args, p.signals) }()
	return p
}

func (p *process) wait() result {
	p.t.Helper()
	select {
	case code := <-p.done:
		return result{code, p.out.String(), p.err.String()}
	case <-time.After(bound):
		p.t.Fatalf("the command does not end; stdout %q, stderr %q", p.out.String(), p.err.String())
		return result{}
	}
}

// until waits until the condition holds.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(bound); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", bound, what)
		}
	}
}

func banger(t *testing.T, args ...string) result {
	t.Helper()
	return start(t, nil, args...).wait()
}

func TestWrongUsageIsRefusedBeforeAnyWork(t *testing.T) {
	d := startFake(t)
	bad := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(bad, []byte("A=1\nB C=2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		text string
	}{
		{[]string{"frobnicate"}, `unknown command "frobnicate"`},
		{[]string{"vm", "frobnicate"}, `unknown command "frobnicate"`},
		{[]string{"vm", "strat", "x"}, "try: banger vm start"},
		{[]string{"vm", "list", "--frob"}, "--frob"},
		{[]string{"vm", "list", "extra"}, "extra"},
		{[]string{"vm", "start"}, "requires at least 1 arg"},
		{[]string{"vm", "start", "Not_A_Label"}, "Not_A_Label"},
		{[]string{"vm", "start", "good", "-bad"}, "-b"},
		{[]string{"vm", "run", "--name", "Not_A_Label"}, "Not_A_Label"},
		{[]string{"vm", "run", "--name", ""}, "cannot be empty"},
		{[]string{"vm", "run", "uname"}, "banger vm run -- uname"},
		{[]string{"vm", "run", "-d", "--rm"}, "--detach"},
		{[]string{"vm", "exec", "-d", "x"}, "--detach needs a command"},
		{[]string{"vm", "run", "--env-file", bad}, "line 2"},
		{[]string{"vm", "exec", "--env-file", "/dev/zero", "vm", "true"}, "more than 1048576 bytes"},
		{[]string{"vm", "run", "-e", "A=" + strings.Repeat("x", 4<<20)}, "bytes of arguments"},
		{[]string{"image", "import", "-", "--name", "x", "-c", "RUN make"}, `unknown instruction "RUN"`},
		{[]string{"vm", "create", "--memory", "0"}, `--memory: cannot read the size "0": it is zero`},
		{[]string{"vm", "create", "--memory", "1"}, "a VM cannot have 1 of memory"},
		{[]string{"vm", "create", "--vcpu", "-1"}, "-1"},
		{[]string{"vm", "create", "--vcpu", "0"}, "0 CPUs"},
		{[]string{"vm", "create", "--vcpu", "many"}, "many"},
		{[]string{"vm", "create", "--disk-size", "4X"}, "4X"},
		{[]string{"vm", "create", "--disk-size", "-4G"}, "-4G"},
		{[]string{"vm", "stop", "--timeout", "-1s", "x"}, "-1s"},
		{[]string{"vm", "kill", "--signal", "NONE", "x"}, "NONE"},
		{[]string{"vm", "kill", "--signal", "65", "x"}, "65"},
		{[]string{"vm", "logs", "--tail", "0", "x"}, "0 lines"},
		{[]string{"vm", "exec", "-e", "=x", "vm"}, `"=x"`},
		{[]string{"vm", "exec", "x", "--", strings.Repeat("x", 4<<20)}, "bytes of arguments"},
		{[]string{"image", "frob"}, "frob"},
		{[]string{"daemon", "frob"}, "frob"},
	} {
		r := banger(t, c.args...)
		if r.code != 121 || !strings.Contains(r.errOut, c.text) || !strings.HasPrefix(r.errOut, "banger: ") || !strings.Contains(r.errOut, "\n  try: ") || r.out != "" {
			t.Errorf("banger %.60q: exit %d, stdout %q, stderr %.300q; want 121, %q and a hint", c.args, r.code, r.out, r.errOut, c.text)
		}
	}
	if calls := d.log(); len(calls) != 0 {
		t.Errorf("the daemon was called: %q", calls)
	}
}

func TestErrorsOfTheDaemonHaveTheirStatus(t *testing.T) {
	d := startFake(t)
	d.add("taken", bangerv1.State_STATE_STOPPED)
	for _, c := range []struct {
		args []string
		code int
		text string
	}{
		{[]string{"vm", "run", "--name", "taken"}, 123, "banger: the name \"taken\" is taken\n"},
		{[]string{"vm", "run", "--image", "no-such-image", "--", "true"}, 122, "banger: there is no image \"no-such-image\"\n  try: banger image list\n"},
		{[]string{"vm", "show", "none"}, 122, `"none"`},
		{[]string{"vm", "exec", "none", "--", "true"}, 122, `"none"`},
		{[]string{"vm", "exec", "taken", "--", "true"}, 123, "is stopped\n  try: banger vm start taken"},
		{[]string{"vm", "console", "taken"}, 123, "is stopped"},
		{[]string{"vm", "logs", "none"}, 122, `"none"`},
		{[]string{"image", "show", "x"}, 120, "unimplemented"},
		{[]string{"image", "import", "/no/such/file", "--name", "x"}, 122, "/no/such/file"},
		{[]string{"vm", "run", "--env-file", "/no/such/file"}, 122, "/no/such/file"},
	} {
		if r := banger(t, c.args...); r.code != c.code || !strings.Contains(r.errOut, c.text) || r.out != "" {
			t.Errorf("banger %q: exit %d, stdout %q, stderr %q; want %d and %q", c.args, r.code, r.out, r.errOut, c.code, c.text)
		}
	}
}

func TestCreateAndRunDetached(t *testing.T) {
	d := startFake(t)
	r := banger(t, "vm", "create", "--name", "devbox", "--no-start")
	if r.code != 0 || r.out != "devbox\n" || r.errOut != "spec\ndisks\nboot\n" {
		t.Errorf("create: %+v", r)
	}
	r = banger(t, "vm", "run", "-d")
	vms := d.all()
	if r.code != 0 || len(vms) != 2 || r.out != vms[1].GetName()+"\n" {
		t.Fatalf("run -d: %+v, VMs %v", r, vms)
	}
	if vms[0].GetState() != bangerv1.State_STATE_STOPPED || vms[1].GetState() != bangerv1.State_STATE_RUNNING {
		t.Errorf("VMs: %v", vms)
	}
}

func TestSeveralVMsAtOnce(t *testing.T) {
	d := startFake(t)
	for _, name := range []string{"a", "b", "stuck"} {
		d.add(name, bangerv1.State_STATE_RUNNING)
	}
	if r := banger(t, "vm", "stop", "--timeout", "1500ms", "b", "a", "b"); r.code != 0 || r.out != "b\na\n" {
		t.Errorf("stop: %+v", r)
	}
	r := banger(t, "vm", "kill", "-s", "sigterm", "a", "none", "stuck", "b")
	if r.code != 122 || r.out != "a\nb\n" || !strings.Contains(r.errOut, `banger: there is no VM "none"`) || !strings.Contains(r.errOut, `banger: the VM "stuck" is deleting`) {
		t.Errorf("kill: %+v", r)
	}
	if r := banger(t, "vm", "delete", "-f", "stuck", "none"); r.code != 123 {
		t.Errorf("delete: %+v", r)
	}
	want := []string{"delete force none", "delete force stuck", "kill 15 a", "kill 15 b", "kill 15 none", "kill 15 stuck", "stop 2 a", "stop 2 b"}
	if calls := d.log(); !slices.Equal(calls, want) {
		t.Errorf("calls %q\nwant  %q", calls, want)
	}
}

func TestListings(t *testing.T) {
	d := startFake(t)
	if r := banger(t, "vm", "list", "--json"); r.out != "[]\n" {
		t.Errorf("no VMs: %+v", r)
	}
	d.add("up", bangerv1.State_STATE_RUNNING)
	d.add("down", bangerv1.State_STATE_STOPPED).Reason = "the guest\x1b[2J powered off"
	r := banger(t, "vm", "ls")
	lines := strings.Split(r.out, "\n")
	if len(lines) != 4 || strings.Join(strings.Fields(lines[0]), " ") != "NAME STATE IMAGE CPUS MEMORY DISK UPTIME/REASON" ||
		!strings.HasPrefix(lines[1], "up    running  debian-bookworm  2     1GiB    8GiB  ") || !strings.HasSuffix(lines[2], "the guest [2J powered off") {
		t.Errorf("vm ls:\n%s", r.out)
	}
	if r := banger(t, "ps", "-q"); r.out != "up\n" {
		t.Errorf("ps -q: %q", r.out)
	}
	var vms []map[string]any
	if err := json.Unmarshal([]byte(banger(t, "vm", "show", "--json", "up", "down").out), &vms); err != nil || len(vms) != 2 {
		t.Fatal(err, vms)
	}
	keys := []string{
		"accelerator", "boot", "boot_id", "console_log", "created_at", "disk_bytes", "disk_used_bytes", "guest_socket", "id", "image", "image_digest", "init", "kernel",
		"memory_bytes", "name", "pid", "reason", "remove_on_stop", "shim_pid", "shim_socket", "started_at", "state", "vcpus", "vmm",
	}
	var got []string
	for k := range vms[1] {
		got = append(got, k)
	}
	if slices.Sort(got); !slices.Equal(got, keys) {
		t.Errorf("keys %q", got)
	}
	if vms[0]["state"] != "running" || vms[0]["pid"] != 4711.0 || vms[1]["started_at"] != nil || vms[1]["memory_bytes"] != float64(1<<30) {
		t.Errorf("vm show --json: %v", vms)
	}
	if r := banger(t, "vm", "show", "up", "none"); r.code != 122 || !strings.Contains(r.out, "state:") || !strings.Contains(r.errOut, "none") {
		t.Errorf("vm show: %+v", r)
	}
	for _, c := range []struct{ args, want string }{
		{"image list", "debian-bookworm  abababababab  -     -    1"},
		{"image list", "other            not built"},
		{"image list --json", `"in_use": 1`},
		{"kernel list", "6.12.1-cloud-amd64  -        3MiB"},
		{"kernel list --json", `"release": "6.12.1-cloud-amd64"`},
		{"daemon status", "3, 2 running"},
		{"daemon status --json", `"running_vms": 2`},
		{"version --json", `"version": "`},
		{"doctor --json", `"name": "qemu"`},
		{"help exit-codes", "124  a time limit has passed"},
		{"vm", "exec"},
		{"vm logs --tail 3 up", "tail 3\x1b[0m\n"},
	} {
		if r := banger(t, strings.Fields(c.args)...); r.code != 0 && c.args != "doctor --json" || !strings.Contains(r.out, c.want) {
			t.Errorf("banger %s: exit %d, %q %s; want %q", c.args, r.code, r.out, r.errOut, c.want)
		}
	}
	if r := banger(t, "daemon", "status"); strings.Count(r.errOut, "0.0.1-other") != 1 {
		t.Errorf("no note of the other version: %q", r.errOut)
	}
}

func TestWhatNeedsNoDaemonStartsNone(t *testing.T) {
	dirs := newHome(t)
	for _, c := range []struct{ args, want string }{
		{"version", "banger "}, {"daemon status", "no"}, {"daemon status --json", `"running": false`}, {"daemon stop", "no daemon runs"},
		{"__complete vm start d", ":4"}, {"completion bash", "bash completion"},
	} {
		if r := banger(t, strings.Fields(c.args)...); r.code != 0 || !strings.Contains(r.out, c.want) {
			t.Errorf("banger %s: %+v", c.args, r)
		}
	}
	if _, err := os.Stat(dirs.DaemonLog()); err == nil {
		t.Error("a daemon was started")
	}
}

func TestCompletionKnowsTheLiveNames(t *testing.T) {
	d := startFake(t)
	d.add("up", bangerv1.State_STATE_RUNNING)
	d.add("down", bangerv1.State_STATE_STOPPED)
	for args, want := range map[string]string{
		"vm start":         "down\n",
		"vm stop":          "up\n",
		"vm delete":        "up\ndown\n",
		"vm delete up":     "down\n",
		"vm exec":          "up\n",
		"vm exec up":       "",
		"image delete":     "debian-bookworm\nother\n",
		"vm run --image":   "debian-bookworm\nother\n",
		"vm kill --signal": "KILL\nTERM\nINT\nQUIT\n",
	} {
		if r := banger(t, append(append([]string{"__complete"}, strings.Fields(args)...), "")...); r.out != want+":4\n" {
			t.Errorf("completion of %q: %q, want %q", args, r.out, want)
		}
	}
}

func TestImportSendsTheTarWhole(t *testing.T) {
	d := startFake(t)
	data := bytes.Repeat([]byte("0123456789abcdef"), 100_000)
	path := filepath.Join(t.TempDir(), "root.tar")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		from string
		in   io.Reader
	}{{path, nil}, {"-", bytes.NewReader(data)}} {
		r := start(t, c.in, "image", "import", c.from, "--name", "mine").wait()
		got := get(d, &d.imported)
		if r.code != 0 || r.out != "mine\n" || !bytes.Equal(got, data) || !strings.Contains(r.errOut, "image, 1.53MiB") {
			t.Errorf("import %s: %+v, %d bytes", c.from, r, len(got))
		}
	}
	if r := start(t, strings.NewReader("bad"), "image", "import", "-", "--name", "x").wait(); r.code != 121 {
		t.Errorf("a bad tar: %+v", r)
	}
	if r := start(t, io.MultiReader(strings.NewReader("x"), brokenReader{}), "image", "import", "-", "--name", "x").wait(); r.code != 120 || !strings.Contains(r.errOut, "cannot read the tar: multiple Read") {
		t.Errorf("a broken input: %+v", r)
	}
	if r := banger(t, "image", "delete", "other", "debian-bookworm"); r.code != 123 || r.out != "other\n" {
		t.Errorf("image delete: %+v", r)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrNoProgress }

func TestInterruptedCreateIsTakenBack(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		d := startFake(t)
		d.creating = make(chan struct{})
		p := start(t, nil, "vm", "run", "--", "true")
		<-d.creating
		p.signals <- s
		if r := p.wait(); r.code != 130 || !strings.HasSuffix(r.errOut, "banger: interrupted\n") || r.out != "" {
			t.Errorf("%v: %+v", s, r)
		}
		if !slices.Contains(d.log(), "removed") {
			t.Errorf("%v: banger ended before the daemon had taken the creation back", s)
		}
	}
}
