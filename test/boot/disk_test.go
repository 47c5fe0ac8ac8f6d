package boot_test

import (
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"
)

// input runs one command with that standard input.
func (h *host) input(t *testing.T, in string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	if r := h.run(ctx, strings.NewReader(in), args...); r.code != 0 {
		t.Fatalf("banger %q: exit %d\n%s", args, r.code, r.stderr)
	}
}

// TestDiskEditsBetweenBoots plays ping-pong with a guest over its /root: our edit, its
// write and its sudden end, our edit again.
func TestDiskEditsBetweenBoots(t *testing.T) {
	shared.start(t, "disk", "busybox")
	if r := shared.banger(t, "disk", "ls", "disk:work"); r.code != 123 || !strings.Contains(r.stderr, "banger vm stop disk") {
		t.Errorf("the disk of a running VM: exit %d, %s", r.code, r.stderr)
	}
	if out := shared.must(t, "disk", "cat", "disk:base:/etc/passwd"); !strings.HasPrefix(out, "root:x:0:0") {
		t.Errorf("the base of a running VM: %q", out)
	}
	shared.must(t, "vm", "stop", "disk")
	const odd = `it's a "quoted" name`
	shared.input(t, "from the host\n", "disk", "cp", "-", "disk:work:/"+odd, "--uid", "1000", "--gid", "70000", "--mode", "4640")
	shared.must(t, "disk", "mkdir", "disk:work", "/d/e", "--parents", "--uid", "7", "--mode", "1711")
	// What the guest sees of its system disk is its overlay's upper layer.
	shared.input(t, "configured\n", "disk", "cp", "-", "disk:system:/"+upperOf(t, "disk")+"/from-host")
	shared.must(t, "vm", "start", "disk")
	out := shared.must(t, "vm", "exec", "disk", "--", "sh", "-c", `
		cd /root && busybox stat -c '%u:%g %a %s' "$0" d/e && cat "$0" /from-host
		echo from the guest > guest && echo gone > d/gone && sync`, odd)
	if want := "1000:70000 4640 14\n7:0 1711 4096\nfrom the host\nconfigured\n"; out != want {
		t.Errorf("the guest sees %q, want %q", out, want)
	}
	shared.must(t, "vm", "kill", "disk")
	var volume struct {
		NeedsRecovery bool `json:"needs_recovery"`
	}
	if err := json.Unmarshal([]byte(shared.must(t, "disk", "stat", "--json", "disk:work")), &volume); err != nil || !volume.NeedsRecovery {
		t.Errorf("after a kill the journal is clean: %+v, %v", volume, err)
	}
	if out := shared.must(t, "disk", "cat", "disk:work", "guest"); out != "from the guest\n" {
		t.Errorf("what the guest synced before it was killed: %q", out)
	}
	shared.must(t, "disk", "rm", "disk:work:/d/gone")
	shared.input(t, "again\n", "disk", "cp", "-", "disk:work:/again")
	for _, disk := range []string{"disk:work", "disk:system", "disk:base"} {
		if out := shared.must(t, "disk", "check", disk); !strings.Contains(out, "no damage") {
			t.Errorf("%s: %s", disk, out)
		}
	}
	shared.must(t, "disk", "grow", "disk:work", "9GiB")
	shared.must(t, "vm", "start", "disk")
	out = shared.must(t, "vm", "exec", "disk", "--", "sh", "-c", `cd /root && cat guest again "$0" && busybox ls d && busybox df -P -k /root | busybox awk 'END {print ($2 > 8800000)}'`, odd)
	if want := "from the guest\nagain\nfrom the host\ne\n1\n"; out != want {
		t.Errorf("after the second edit the guest sees %q, want %q", out, want)
	}
	if log := shared.must(t, "vm", "exec", "disk", "--", "sh", "-c", "busybox dmesg | busybox grep -iE 'ext4.*(error|warn|corrupt)|jbd2.*error' || true"); log != "" {
		t.Errorf("the guest's kernel complains:\n%s", log)
	}
}

// upperOf is the folder of the overlay's upper layer on the system disk of a stopped VM.
func upperOf(t *testing.T, vm string) string {
	t.Helper()
	for _, name := range strings.Fields(shared.must(t, "disk", "ls", vm+":system")) {
		if strings.Contains(name, "upper") {
			return name
		}
	}
	t.Fatalf("the system disk has no upper layer:\n%s", shared.must(t, "disk", "ls", "-R", vm+":system"))
	return ""
}

// TestDiskEditKeepsTheVMOut: a VM does not start while its disk is edited, and the
// death of the command leaves nothing, neither in the disk nor in the way.
func TestDiskEditKeepsTheVMOut(t *testing.T) {
	shared.start(t, "edit", "busybox")
	shared.must(t, "vm", "stop", "edit")
	cmd := shared.command(t.Context(), "disk", "cp", "-", "edit:work:/never")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(in, strings.Repeat("x", 3<<20)); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "a start is refused", func() bool {
		r := shared.banger(t, "vm", "start", "edit")
		return r.code == 123 && strings.Contains(r.stderr, "banger disk cp (process ")
	})
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	if out := shared.must(t, "disk", "check", "edit:work"); !strings.Contains(out, "no damage") {
		t.Errorf("after the kill: %s", out)
	}
	if out := shared.must(t, "disk", "ls", "edit:work"); strings.Contains(out, "never") {
		t.Errorf("after the kill: %q", out)
	}
	shared.must(t, "vm", "start", "edit")
	if out := shared.must(t, "vm", "exec", "edit", "--", "echo", "up"); out != "up\n" {
		t.Errorf("after the kill: %q", out)
	}
}
