package boot_test

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestFilesSurviveStopAndKill(t *testing.T) {
	for _, image := range []string{"debian-bookworm", "busybox"} {
		t.Run(image, func(t *testing.T) {
			name := "keep-" + strings.Split(image, "-")[0]
			shared.start(t, name, image)
			first := shared.show(t, name)
			// No sync: an orderly stop loses nothing.
			shared.must(t, "vm", "exec", name, "--", "sh", "-c", "echo one > /root/work; echo two > /etc/system")
			shared.must(t, "vm", "stop", name)
			if v := shared.show(t, name); v.State != "stopped" || v.Reason == "" || v.PID != 0 {
				t.Errorf("after stop: %+v", v)
			}
			shared.must(t, "vm", "start", name)
			if out := shared.must(t, "vm", "exec", name, "--", "cat", "/root/work", "/etc/system"); out != "one\ntwo\n" {
				t.Errorf("after stop and start: %q", out)
			}
			if v := shared.show(t, name); v.BootID == first.BootID || v.BootID == "" {
				t.Errorf("boot id %q, before %q; want a fresh one", v.BootID, first.BootID)
			}
			shared.must(t, "vm", "exec", name, "--", "sh", "-c", "echo three > /root/work; echo four > /etc/system; sync")
			shared.must(t, "vm", "kill", name)
			shared.must(t, "vm", "start", name)
			if out := shared.must(t, "vm", "exec", name, "--", "cat", "/root/work", "/etc/system"); out != "three\nfour\n" {
				t.Errorf("after kill and start: %q", out)
			}
		})
	}
}

func TestVMsOutliveTheDaemon(t *testing.T) {
	names := []string{"d1", "d2", "d3"}
	for _, name := range names {
		shared.start(t, name, "busybox")
	}
	before := map[string]vmInfo{}
	for _, name := range names {
		before[name] = shared.show(t, name)
	}
	old := shared.daemonPID(t)
	// A command that runs across the daemon's death does not notice it.
	cmd := shared.command(t.Context(), "vm", "exec", "d1", "--", "sh", "-c", "echo ready; read line; echo got $line")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	if n, err := out.Read(buf); string(buf[:n]) != "ready\n" {
		t.Fatalf("read %q, %v", buf[:n], err)
	}
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(in, "through")
	if n, err := out.Read(buf); string(buf[:n]) != "got through\n" {
		t.Errorf("read %q, %v after the daemon's death", buf[:n], err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	for _, name := range names {
		v := shared.show(t, name)
		if v.State != "running" || v.PID != before[name].PID || v.BootID != before[name].BootID {
			t.Errorf("%s: %+v, before %+v; want it untouched", name, v, before[name])
		}
		if out := shared.must(t, "vm", "exec", name, "--", "hostname"); out != name+"\n" {
			t.Errorf("exec in %s after the daemon's death: %q", name, out)
		}
	}
	if pid := shared.daemonPID(t); pid == old {
		t.Error("the daemon's pid did not change")
	}
}

func TestDeathOfShimOrVMMIsReportedAndRecovered(t *testing.T) {
	shared.start(t, "dies", "busybox")
	for _, victim := range []string{"shim", "vmm"} {
		v := shared.show(t, "dies")
		pid := v.PID
		if victim == "shim" {
			pid = v.ShimPID
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, 2*time.Second, "the VM is reported stopped after the death of its "+victim, func() bool {
			v = shared.show(t, "dies")
			return v.State == "stopped"
		})
		if v.Reason == "" {
			t.Errorf("no reason after the death of the %s", victim)
		}
		t.Logf("after the death of the %s: %s", victim, v.Reason)
		if left := shared.processes(); len(left) != 0 {
			t.Errorf("processes left after the death of the %s: %v", victim, left)
		}
		shared.must(t, "vm", "start", "dies")
		if out := shared.must(t, "vm", "exec", "dies", "--", "echo", "back"); out != "back\n" {
			t.Errorf("exec after the restart: %q", out)
		}
	}
}

func TestTenCreatesAtOnce(t *testing.T) {
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			r := shared.banger(t, "vm", "create", "--no-start", "--image", "busybox", "--name", fmt.Sprintf("ten-%d", i))
			if r.code != 0 {
				t.Errorf("ten-%d: exit %d: %s", i, r.code, r.stderr)
			}
		})
	}
	wg.Wait()
	args := []string{"vm", "delete"}
	for i := range 10 {
		args = append(args, fmt.Sprintf("ten-%d", i))
	}
	if n := len(shared.list(t)); n != 10 {
		t.Errorf("%d VMs, want 10", n)
	}
	shared.must(t, args...)
	if files := shared.vmFiles(t); len(files) != 0 {
		t.Errorf("files left: %v", files)
	}
}

func TestNothingIsLeftAfterDelete(t *testing.T) {
	shared.start(t, "gone", "busybox")
	shared.must(t, "vm", "delete", "--force", "gone")
	if n := len(shared.list(t)); n != 0 {
		t.Errorf("%d VMs left", n)
	}
	if files := shared.vmFiles(t); len(files) != 0 {
		t.Errorf("files left: %v", files)
	}
	if left := shared.processes(); len(left) != 0 {
		t.Errorf("processes left: %v", left)
	}
}

// TestInterruptLeavesNothing presses Ctrl-C when each phase of a create shows
// itself on stderr.
func TestInterruptLeavesNothing(t *testing.T) {
	for _, phase := range []string{"spec", "disks", "boot"} {
		t.Run(phase, func(t *testing.T) {
			process, wait := shared.startRun(t, phase, "--image", "busybox", "--memory", "256MiB")
			if err := process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			if code, stderr := wait(); code != 130 {
				t.Errorf("exit %d, want 130\n%s", code, stderr)
			}
			eventually(t, 10*time.Second, "no VM, process or file is left", func() bool {
				return len(shared.list(t)) == 0 && len(shared.processes()) == 0 && len(shared.vmFiles(t)) == 0
			})
		})
	}
}
