package boot_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/base/testneed"
)

// kernelInfo is what "kernel show --json" says, as far as the tests need it.
type kernelInfo struct {
	Name        string   `json:"name"`
	Release     string   `json:"release"`
	Default     bool     `json:"default"`
	Path        string   `json:"path"`
	Digest      string   `json:"digest"`
	ModulesDisk string   `json:"modules_disk"`
	VMs         []string `json:"vms"`
}

func (h *host) kernels(t *testing.T) []kernelInfo {
	t.Helper()
	var all []kernelInfo
	if err := json.Unmarshal([]byte(h.must(t, "kernel", "list", "--json")), &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// defaultKernel is the one that the first run has fetched.
func (h *host) defaultKernel(t *testing.T) kernelInfo {
	t.Helper()
	for _, k := range h.kernels(t) {
		if k.Default {
			return k
		}
	}
	t.Fatal("there is no default kernel")
	return kernelInfo{}
}

// TestImportedKernelBoots imports the default kernel's own files under another name.
func TestImportedKernelBoots(t *testing.T) {
	k := shared.defaultKernel(t)
	dir := t.TempDir()
	modules := filepath.Join(dir, "modules.tar")
	if err := os.WriteFile(modules, []byte(shared.must(t, "disk", "export", k.ModulesDisk)), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := shared.banger(t, "kernel", "import", k.Path, "--name", "copy"); r.code != 121 || !strings.Contains(r.stderr, "nothing says whether it has") {
		t.Errorf("without its modules: exit %d, %s", r.code, r.stderr)
	}
	shared.must(t, "kernel", "import", k.Path, "--name", "copy", "--modules", modules)
	shared.atEnd(t, "kernel", "delete", "copy")
	shared.atEnd(t, "vm", "delete", "--force", "imported") // if it is left
	out := shared.must(t, "vm", "run", "--rm", "--name", "imported", "--image", "busybox", "--kernel", "copy", "--memory", "256MiB", "--", "sh", "-c",
		"uname -r; cat /lib/modules/$(uname -r)/modules.dep | busybox wc -l")
	if release, rest, _ := strings.Cut(out, "\n"); release != k.Release || len(strings.TrimSpace(rest)) < 3 {
		t.Errorf("it says %q", out)
	}
	if r := shared.banger(t, "vm", "run", "--rm", "--image", "busybox", "--kernel", "none", "--", "true"); r.code != 122 || !strings.Contains(r.stderr, `there is no kernel "none"`) {
		t.Errorf("a kernel that is not there: exit %d, %s", r.code, r.stderr)
	}
}

// atEnd runs a command at the end of the test that removes something, if it is there.
func (h *host) atEnd(t *testing.T, args ...string) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
		defer cancel()
		if r := h.run(ctx, nil, args...); r.code != 0 && r.code != 122 {
			t.Errorf("banger %s: exit %d: %s", strings.Join(args, " "), r.code, r.stderr)
		}
	})
}

// TestKernelIsSwitched between boots, from the one series of Debian's to the other.
func TestKernelIsSwitched(t *testing.T) {
	testneed.Asked(t, testneed.Mirror)
	first := shared.defaultKernel(t)
	other := strings.TrimSpace(shared.must(t, "kernel", "pull", "6.1"))
	if other == first.Name {
		t.Skipf("the mirror has no kernel but %s", first.Name)
	}
	if k := shared.defaultKernel(t); k.Name != first.Name {
		t.Errorf("the default kernel is %s now, and was %s", k.Name, first.Name)
	}
	shared.start(t, "switch", "busybox")
	runs := func(want string) {
		t.Helper()
		out := shared.must(t, "vm", "exec", "switch", "--", "sh", "-c", "uname -r; cat /root/kept; cat /lib/modules/$(uname -r)/modules.dep | busybox wc -l")
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if len(lines) != 3 || lines[0] != want || lines[1] != "kept" || len(lines[2]) < 3 {
			t.Errorf("the guest says %q, want the release %s", out, want)
		}
	}
	shared.must(t, "vm", "exec", "switch", "--", "sh", "-c", "echo kept > /root/kept")
	runs(first.Release)
	r := shared.banger(t, "vm", "set", "switch", "--kernel", "6.1", "--vcpu", "2")
	if r.code != 0 || r.stdout != "switch\n" || !strings.Contains(r.stderr, "from its next start") {
		t.Fatalf("set while it runs: %+v", r)
	}
	runs(first.Release)
	for _, name := range []string{first.Name, other} {
		if r := shared.banger(t, "kernel", "delete", name); r.code != 123 || !strings.Contains(r.stderr, `"switch"`) {
			t.Errorf("delete of %s, which is in use: exit %d, %s", name, r.code, r.stderr)
		}
	}
	shared.must(t, "vm", "restart", "switch")
	runs(other)
	if out := shared.must(t, "vm", "exec", "switch", "--", "busybox", "nproc"); out != "2\n" {
		t.Errorf("it has %q CPUs", out)
	}
	shared.must(t, "vm", "stop", "switch")
	if r := shared.banger(t, "vm", "set", "switch", "--kernel", first.Name); r.code != 0 || strings.Contains(r.stderr, "next start") {
		t.Errorf("set while it is stopped: %+v", r)
	}
	shared.must(t, "vm", "start", "switch")
	runs(first.Release)
	shared.must(t, "kernel", "delete", other)
	if r := shared.banger(t, "kernel", "show", other); r.code != 122 {
		t.Errorf("show of a deleted kernel: %+v", r)
	}
}
