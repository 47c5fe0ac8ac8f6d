// Package boot_test runs the real banger binary against real guests: every
// scenario that the README promises. "make test" builds the binary and names it
// in BANGER_TEST_BIN.
package boot_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"banger/internal/base/testneed"
)

// Bounds of single steps; generous, since a guest under emulation shares two
// busy cores with the other tests.
const (
	commandTimeout = 4 * time.Minute
	buildTimeout   = 15 * time.Minute
)

// host is one user of banger: a home of its own, with its own daemon.
type host struct {
	home string
	env  []string
}

// shared is the host that most tests use; its images are built once.
var shared *host

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	bin := os.Getenv("BANGER_TEST_BIN")
	if bin == "" { // the one test that is left says so
		flag.Parse()
		if err := flag.Set("test.run", "^TestThereIsABanger$"); err != nil {
			panic(err)
		}
		return m.Run()
	}
	// A short path: unix sockets lie below it.
	home, err := os.MkdirTemp("", "bt")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	shared = newHost(home)
	code := 1
	if err := shared.setUp(); err != nil {
		fmt.Fprintln(os.Stderr, "cannot set up the shared host:", err)
	} else {
		code = m.Run()
	}
	if err := shared.tearDown(); err != nil {
		fmt.Fprintln(os.Stderr, "cannot tear down the shared host:", err)
		code = 1
	}
	return code
}

func TestThereIsABanger(t *testing.T) {
	if os.Getenv("BANGER_TEST_BIN") == "" {
		testneed.Missing(t, testneed.Guest, "BANGER_TEST_BIN names no banger binary: no test with a guest runs; use \"make test\"")
	}
}

func newHost(home string) *host {
	h := &host{home: home}
	for _, kv := range os.Environ() {
		switch name, _, _ := strings.Cut(kv, "="); name {
		case "HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "NO_COLOR":
		default:
			h.env = append(h.env, kv)
		}
	}
	h.env = append(h.env, "HOME="+home, "XDG_RUNTIME_DIR="+filepath.Join(home, "r"))
	return h
}

// setUp builds the Debian image through the product's own main job and imports
// an image without an init.
func (h *host) setUp() error {
	ctx, cancel := context.WithTimeout(context.Background(), buildTimeout)
	defer cancel()
	start := time.Now()
	r := h.run(ctx, nil, "vm", "run", "--rm", "--memory", "512MiB", "--", "uname", "-r")
	if r.code != 0 {
		return fmt.Errorf("the first run failed: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	fmt.Fprintf(os.Stderr, "first run, with image and kernel: %.0f s, guest kernel %s", time.Since(start).Seconds(), r.stdout)
	tarball, err := busyboxTar()
	if err != nil {
		return err
	}
	if r := h.run(ctx, bytes.NewReader(tarball), "image", "import", "-", "--name", "busybox"); r.code != 0 {
		return fmt.Errorf("cannot import the busybox image: exit %d\n%s", r.code, r.stderr)
	}
	return nil
}

// tearDown stops everything and reports processes that should not be there.
func (h *host) tearDown() error {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	var vms []vmInfo
	if r := h.run(ctx, nil, "vm", "list", "--json"); r.code == 0 {
		_ = json.Unmarshal([]byte(r.stdout), &vms)
	}
	for _, v := range vms {
		h.run(ctx, nil, "vm", "delete", "--force", v.Name)
	}
	h.run(ctx, nil, "daemon", "stop")
	left := h.processes()
	for pid := range left {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	err := os.RemoveAll(h.home)
	if len(left) > 0 {
		err = errors.Join(err, fmt.Errorf("processes were left behind: %v", left))
	}
	return err
}

// result is what one banger command did.
type result struct {
	stdout, stderr string
	code           int
}

func (h *host) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Getenv("BANGER_TEST_BIN"), args...)
	cmd.Env = h.env
	cmd.Dir = h.home
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

func (h *host) run(ctx context.Context, stdin io.Reader, args ...string) result {
	cmd := h.command(ctx, args...)
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &errOut
	err := cmd.Run()
	r := result{stdout: out.String(), stderr: errOut.String(), code: cmd.ProcessState.ExitCode()}
	if err != nil && r.code <= 0 {
		r.code = -1
		r.stderr += err.Error()
	}
	return r
}

// banger runs one command to its end.
func (h *host) banger(t *testing.T, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	return h.run(ctx, nil, args...)
}

// must is like banger and fails the test unless the command succeeds.
func (h *host) must(t *testing.T, args ...string) string {
	t.Helper()
	r := h.banger(t, args...)
	if r.code != 0 {
		t.Fatalf("banger %s: exit %d\nstdout: %s\nstderr: %s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

// vmInfo is what "vm show --json" says of a VM, as far as the tests need it.
type vmInfo struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	State   string `json:"state"`
	Reason  string `json:"reason"`
	PID     int    `json:"pid"`
	ShimPID int    `json:"shim_pid"`
	BootID  string `json:"boot_id"`
	Init    string `json:"init"`
	Kernel  string `json:"kernel"`
}

func (h *host) show(t *testing.T, name string) vmInfo {
	t.Helper()
	var all []vmInfo
	if err := json.Unmarshal([]byte(h.must(t, "vm", "show", "--json", name)), &all); err != nil || len(all) != 1 {
		t.Fatalf("vm show --json %s: %d VMs, %v", name, len(all), err)
	}
	return all[0]
}

func (h *host) list(t *testing.T) []vmInfo {
	t.Helper()
	var all []vmInfo
	if err := json.Unmarshal([]byte(h.must(t, "vm", "list", "--json")), &all); err != nil {
		t.Fatal(err)
	}
	return all
}

func (h *host) daemonPID(t *testing.T) int {
	t.Helper()
	var status struct {
		PID int `json:"pid"`
	}
	if err := json.Unmarshal([]byte(h.must(t, "daemon", "status", "--json")), &status); err != nil || status.PID == 0 {
		t.Fatalf("daemon status: pid %d, %v", status.PID, err)
	}
	return status.PID
}

// start makes a small VM that runs, deleted at the end of the test.
func (h *host) start(t *testing.T, name, image string) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
		defer cancel()
		if r := h.run(ctx, nil, "vm", "delete", "--force", name); r.code != 0 && r.code != 122 {
			t.Errorf("cannot delete %s: exit %d: %s", name, r.code, r.stderr)
		}
	})
	memory := "512MiB"
	if image == "busybox" {
		memory = "256MiB"
	}
	h.must(t, "vm", "create", "--name", name, "--image", image, "--memory", memory)
}

// processes lists the processes that belong to this host's banger, except its
// daemon: those with the home in their arguments or environment.
func (h *host) processes() map[int]string {
	found := map[int]string{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		cmdline, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		environ, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if !bytes.Contains(cmdline, []byte(h.home)) && !bytes.Contains(environ, []byte(h.home)) {
			continue
		}
		args := strings.Split(strings.TrimRight(string(cmdline), "\x00"), "\x00")
		if len(args) > 1 && filepath.Base(args[0]) == "banger" && args[1] == "daemon" {
			continue
		}
		found[pid] = strings.Join(args, " ")
	}
	return found
}

// vmFiles lists what lies in the folders of VMs and sockets.
func (h *host) vmFiles(t *testing.T) []string {
	t.Helper()
	var all []string
	dirs, err := filepath.Glob(filepath.Join(h.home, "r/banger-*/vm"))
	if err != nil || len(dirs) > 1 {
		t.Fatalf("socket folders %v, %v", dirs, err)
	}
	for _, dir := range append(dirs, filepath.Join(h.home, ".local/state/banger/vms"), filepath.Join(h.home, ".local/state/banger/images/staging")) {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		for _, e := range entries {
			all = append(all, filepath.Join(dir, e.Name()))
		}
	}
	return all
}

// eventually fails the test unless ok becomes true within the bound.
func eventually(t *testing.T, bound time.Duration, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(bound); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", bound, what)
		}
	}
}
