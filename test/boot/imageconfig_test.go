package boot_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// small is how the VMs of these tests are made.
var small = []string{"--memory", "256MiB"}

// importImages imports, once, an image of one static program, an image of nothing
// and one with users.
var importImages = sync.OnceValue(func() error {
	dir, err := os.MkdirTemp(shared.home, "probe")
	if err != nil {
		return err
	}
	program := filepath.Join(dir, "probe")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, "./testdata/probe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w: %s", err, out)
	}
	data, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	busybox, err := busyboxTar()
	if err != nil {
		return err
	}
	for name, image := range map[string]struct {
		tarball []byte
		changes []string
	}{
		"scratchy": {tarOf(file{"probe", 0o755, data}), []string{
			`ENTRYPOINT ["/probe"]`, `CMD ["one", "two words"]`, "ENV MODE=image PATH=/bin:/", "WORKDIR /made/here", "USER 1000:1001", "VOLUME /data", "STOPSIGNAL SIGQUIT",
		}},
		"nothing": {tarOf(), nil},
		"users":   {busybox, []string{"USER guest", "ENV PATH=/tools:/bin GREETING='hello you'"}},
	} {
		args := []string{"image", "import", "-", "--name", name}
		for _, change := range image.changes {
			args = append(args, "--change", change)
		}
		ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
		r := shared.run(ctx, bytes.NewReader(image.tarball), args...)
		cancel()
		if r.code != 0 {
			return fmt.Errorf("cannot import %s: exit %d: %s", name, r.code, r.stderr)
		}
	}
	return nil
})

// file is one file of a tar.
type file struct {
	name string
	mode int64
	data []byte
}

func tarOf(files ...file) []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		// A buffer takes everything.
		_ = w.WriteHeader(&tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.data)), Typeflag: tar.TypeReg})
		_, _ = w.Write(f.data)
	}
	_ = w.Close()
	return buf.Bytes()
}

// probed is what the probe says of itself.
type probed struct {
	Args, Env []string
	Dir       string
	UID, GID  int
	Groups    []int
	Modes     map[string]string
}

func probe(t *testing.T, args ...string) probed {
	t.Helper()
	var p probed
	out := shared.must(t, args...)
	if err := json.Unmarshal([]byte(out), &p); err != nil {
		t.Fatalf("banger %q: %v: %s", args, err, out)
	}
	slices.Sort(p.Env)
	return p
}

func needImages(t *testing.T) {
	t.Helper()
	if err := importImages(); err != nil {
		t.Fatal(err)
	}
}

// TestImageOfOneProgram: no init, no shell, no folder, no passwd.
func TestImageOfOneProgram(t *testing.T) {
	needImages(t)
	run := append([]string{"vm", "run", "--rm", "--image", "scratchy", "--name", "once"}, small...)
	got := probe(t, run...)
	want := probed{
		Args: []string{"/probe", "one", "two words"}, Env: []string{"HOME=/", "HOSTNAME=once", "MODE=image", "PATH=/bin:/"}, Dir: "/made/here",
		UID: 1000, GID: 1001, Groups: []int{1001},
		Modes: map[string]string{
			"/proc/self": "dr-xr-xr-x", "/sys/class": "drwxr-xr-x", "/dev/null": "Dcrw-rw-rw-", "/dev/pts": "drwxr-xr-x", "/etc/hosts": "-rw-r--r--",
			"/etc/hostname": "-rw-r--r--", "/run": "drwxr-xr-x", "/tmp": "dtrwxrwxrwx", "/root": "drwx------", "/data": "drwxr-xr-x",
		},
	}
	if d := cmp.Diff(got, want); d != "" {
		t.Errorf("by itself: %s", d)
	}
	got = probe(t, append(run, "--entrypoint", "probe", "-u", "7", "-w", "/else/where", "-e", "A=1", "-e", "MODE", "--", "x")...)
	if want := []string{"A=1", "HOME=/", "HOSTNAME=once", "PATH=/bin:/"}; !slices.Equal(got.Args, []string{"probe", "x"}) || !slices.Equal(got.Env, want) ||
		got.Dir != "/else/where" || got.UID != 7 || got.GID != 0 {
		t.Errorf("with flags: %+v", got)
	}
	if r := shared.banger(t, append(run, "--", "exit=42")...); r.code != 42 {
		t.Errorf("exit %d, stderr %q; want the program's 42", r.code, r.stderr)
	}
}

func TestMachineOfOneProgram(t *testing.T) {
	needImages(t)
	shared.start(t, "scratch", "scratchy")
	if v := shared.show(t, "scratch"); v.Init != "banger-init" {
		t.Errorf("init %q, want banger-init", v.Init)
	}
	if out := shared.must(t, "vm", "show", "scratch"); !strings.Contains(out, `["one","two words"]`) || !strings.Contains(out, "SIGQUIT") {
		t.Errorf("vm show: %s", out)
	}
	// The VM keeps what its image said, whatever becomes of the image's name.
	shared.must(t, "vm", "restart", "scratch")
	got := probe(t, "vm", "exec", "-e", "MODE=flag", "scratch", "--", "probe")
	if got.Dir != "/made/here" || got.UID != 1000 || got.GID != 1001 || !slices.Contains(got.Env, "MODE=flag") || !slices.Equal(got.Args, []string{"probe"}) {
		t.Errorf("exec: %+v", got)
	}
	if got = probe(t, "vm", "exec", "-u", "root", "scratch", "--", "/probe"); got.UID != 0 || got.GID != 0 || !slices.Contains(got.Env, "HOME=/root") {
		t.Errorf("exec as root: %+v", got)
	}
	for _, c := range []struct {
		args []string
		code int
		text string
	}{
		{nil, 127, `looked for "/bin/sh"`},
		{[]string{"--", "sh"}, 127, `"sh": not found`},
		{[]string{"--", "/data"}, 126, `"/data"`},
		{[]string{"-u", "nobody", "--", "probe"}, 126, `there is no user "nobody"`},
		{[]string{"-u", "7:staff", "--", "probe"}, 126, `there is no group "staff"`},
		{[]string{"-w", "/no/such/folder", "--", "probe"}, 126, "/no/such/folder"},
	} {
		args := append(append([]string{"vm", "exec"}, c.args...), "scratch")
		if i := slices.Index(c.args, "--"); i >= 0 {
			args = slices.Concat([]string{"vm", "exec"}, c.args[:i], []string{"scratch"}, c.args[i:])
		}
		if r := shared.banger(t, args...); r.code != c.code || !strings.Contains(r.stderr, c.text) {
			t.Errorf("banger %q: exit %d, stderr %q; want %d and %q", args, r.code, r.stderr, c.code, c.text)
		}
	}
}

// TestDetachedProgram lives without its caller and ends by the image's own signal.
func TestDetachedProgram(t *testing.T) {
	needImages(t)
	t.Cleanup(func() { shared.run(context.Background(), nil, "vm", "delete", "--force", "served") })
	if out := shared.must(t, slices.Concat([]string{"vm", "run", "-d", "--name", "served", "--image", "scratchy"}, small, []string{"--", "serve"})...); out != "served\n" {
		t.Errorf("run -d printed %q", out)
	}
	logged := func(text string) func() bool {
		return func() bool { return strings.Contains(shared.must(t, "vm", "logs", "served"), text) }
	}
	eventually(t, commandTimeout, "its output is in the console log", logged("probe: serving"))
	began := time.Now()
	shared.must(t, "vm", "stop", "served")
	if v := shared.show(t, "served"); v.Reason != "stopped" || !logged("probe: all is saved")() {
		t.Errorf("reason %q after %s; the log: %s", v.Reason, time.Since(began), shared.must(t, "vm", "logs", "served"))
	}
}

func TestImageOfNothing(t *testing.T) {
	needImages(t)
	t.Cleanup(func() { shared.run(context.Background(), nil, "vm", "delete", "--force", "void") })
	r := shared.banger(t, append([]string{"vm", "run", "--image", "nothing", "--name", "void"}, small...)...)
	if r.code != 127 || !strings.Contains(r.stderr, `looked for "/bin/sh"`) || !strings.Contains(r.stderr, "banger vm delete --force void") {
		t.Errorf("exit %d, stderr %q", r.code, r.stderr)
	}
	if v := shared.show(t, "void"); v.State != "running" || v.Init != "banger-init" {
		t.Errorf("the VM is %s, its init %q", v.State, v.Init)
	}
	shared.must(t, "vm", "stop", "void")
}

// TestUsersOfTheImage come from its own files, and so do the programs.
func TestUsersOfTheImage(t *testing.T) {
	needImages(t)
	shared.start(t, "users", "users")
	out := shared.must(t, "vm", "exec", "users", "--", "sh", "-c", "id; pwd; echo $HOME $PATH $GREETING ${LANG-none} ${USER-none}")
	if want := "uid=1000(guest) gid=1000 groups=1000\n/\n/ /tools:/bin hello you none none\n"; out != want {
		t.Errorf("got %q, want %q", out, want)
	}
	shared.must(t, "vm", "exec", "-u", "root", "users", "--", "sh", "-ec", `
		mkdir /tools; printf '#!/bin/sh\necho our own tool\n' > /tools/tool
		/bin/busybox chmod 755 /tools/tool
		printf 'staff:x:50:other,guest\nwheel:x:10:guest\n' > /etc/group
		printf 'svc:x:33:33::/srv:/sbin/nologin\n' >> /etc/passwd`)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"users", "--", "tool"}, "our own tool\n"},
		{[]string{"users", "--", "id", "-G"}, "1000 10 50\n"},
		{[]string{"-u", "guest:wheel", "users", "--", "id", "-G"}, "10\n"},
		{[]string{"-u", "1000:0", "users", "--", "id", "-G"}, "0\n"},
		{[]string{"-u", "4711", "users", "--", "sh", "-c", "id -u; id -g"}, "4711\n0\n"},
	} {
		if out := shared.must(t, append([]string{"vm", "exec"}, c.args...)...); out != c.want {
			t.Errorf("vm exec %q printed %q, want %q", c.args, out, c.want)
		}
	}
	// A shell for a user that has none, not of a login: it keeps the image's PATH.
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	r := shared.run(ctx, strings.NewReader("echo $0 $PATH; id -u\n"), "vm", "exec", "-u", "svc", "users")
	if want := "sh /tools:/bin\n33\n"; r.stdout != want {
		t.Errorf("a shell: exit %d, stdout %q, stderr %q; want %q", r.code, r.stdout, r.stderr, want)
	}
}
