package boot_test

import (
	"strings"
	"testing"
	"time"
)

func TestDebianHandsOverToSystemd(t *testing.T) {
	shared.start(t, "sysd", "debian-bookworm")
	if v := shared.show(t, "sysd"); v.Init != "systemd" {
		t.Errorf("init %q, want systemd", v.Init)
	}
	out := shared.must(t, "vm", "exec", "sysd", "--", "sh", "-c",
		"until [ -S /run/systemd/private ]; do sleep 0.1; done; systemctl is-system-running --wait; umask; cat /proc/1/comm /etc/hostname; hostname; findmnt -no FSTYPE /; findmnt -no FSTYPE /root; modprobe dummy && echo modules")
	if want := "running\n0022\nsystemd\nsysd\nsysd\noverlay\next4\nmodules\n"; out != want {
		failed := shared.banger(t, "vm", "exec", "sysd", "--", "systemctl", "--no-pager", "--failed")
		t.Errorf("got %q, want %q\n%s", out, want, failed.stdout)
	}
	start := time.Now()
	shared.must(t, "vm", "stop", "sysd")
	if v := shared.show(t, "sysd"); v.Reason != "stopped" {
		t.Errorf("reason %q after %s, want an orderly stop", v.Reason, time.Since(start))
	}
}

func TestPackagesSurviveARestart(t *testing.T) {
	shared.start(t, "pkg", "debian-bookworm")
	// A package made in the guest: there is no network yet.
	shared.must(t, "vm", "exec", "pkg", "--", "sh", "-ec", `
		mkdir -p /tmp/hello/DEBIAN /tmp/hello/usr/bin
		printf '#!/bin/sh\necho hello from a package\n' > /tmp/hello/usr/bin/hello-banger
		chmod 755 /tmp/hello/usr/bin/hello-banger
		printf 'Package: hello-banger\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.com>\nDescription: test\n' > /tmp/hello/DEBIAN/control
		dpkg-deb -b /tmp/hello /tmp/hello.deb && dpkg -i /tmp/hello.deb`)
	shared.must(t, "vm", "restart", "pkg")
	if out := shared.must(t, "vm", "exec", "pkg", "--", "hello-banger"); out != "hello from a package\n" {
		t.Errorf("after the restart: %q", out)
	}
}

func TestInitlessImageKeepsBangerInit(t *testing.T) {
	shared.start(t, "bare", "busybox")
	if v := shared.show(t, "bare"); v.Init != "banger-init" {
		t.Errorf("init %q, want banger-init", v.Init)
	}
	// Orphans are reaped by PID 1, and a guest's own power-off is seen.
	out := shared.must(t, "vm", "exec", "bare", "--", "sh", "-c", "(sleep 0.2 &) ; sleep 1; cat /proc/[0-9]*/stat | grep -c ') [Z] '; umask; hostname; cut -d ' ' -f 19 /proc/self/stat")
	if out != "0\n0022\nbare\n0\n" {
		t.Errorf("zombies, umask, host name and nice value: %q", out)
	}
}

func TestConsoleFloodIsBounded(t *testing.T) {
	shared.start(t, "flood", "busybox")
	shared.must(t, "vm", "exec", "flood", "--", "sh", "-c", "head -c 3000000 /dev/zero | sha256sum; yes flood | head -c 1000000 > /dev/console; echo last-line > /dev/console")
	if out := shared.must(t, "vm", "logs", "--tail", "5", "flood"); !strings.Contains(out, "last-line") {
		t.Errorf("the log's tail is %q", out)
	}
}
