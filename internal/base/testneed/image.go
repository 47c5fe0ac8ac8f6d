package testneed

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// packages has the Debian package of each program that is not from e2fsprogs.
var packages = map[string]string{
	"cp": "coreutils", "sync": "coreutils", "tar": "tar", "findmnt": "util-linux",
	"losetup": "mount", "mount": "mount", "umount": "mount",
}

// Run runs one of e2fsprogs' programs, or of those that go with them, to its end, which
// must be a success. It returns what the program printed.
func Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, status := Status(t, name, args...)
	if status != 0 {
		t.Fatalf("%s %q: exit status %d\n%s", name, args, status, out[:min(len(out), 4000)])
	}
	return out
}

// Status is Run for a program that may fail. Its exit status is -1 if a signal ended it.
func Status(t testing.TB, name string, args ...string) (out string, status int) {
	t.Helper()
	pkg := packages[name]
	if pkg == "" {
		pkg = "e2fsprogs"
	}
	c := exec.Command(Tool(t, name, pkg), args...)
	c.Env = append(os.Environ(), "LC_ALL=C")
	b, err := c.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(b), c.ProcessState.ExitCode()
}

// Debugfs runs commands of debugfs that change an image, and returns what it printed:
// it ends with success also where one of them fails.
func Debugfs(t testing.TB, image string, commands ...string) string {
	t.Helper()
	script := filepath.Join(t.TempDir(), "commands")
	if err := os.WriteFile(script, []byte(strings.Join(commands, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return Run(t, "debugfs", "-w", "-f", script, image)
}

// Fsck demands that e2fsck finds no fault in an image, which it does not change.
func Fsck(t testing.TB, image string) {
	t.Helper()
	Run(t, "e2fsck", "-fn", image)
}

// Copy copies an image, with its holes, and returns the new one's path.
func Copy(t testing.TB, image string) string {
	t.Helper()
	to := filepath.Join(Memory(t), "copy")
	Run(t, "cp", "--sparse=always", image, to)
	return to
}

// Memory returns a new folder for images, in memory where that can be had: there
// nothing waits for a disk, and files may be 8 EiB long.
func Memory(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "banger-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// Loop ends a test unless it can mount images, as root and on loop devices.
func Loop(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		// A requirement of the host's abilities does not make one root.
		t.Skip("mounting images needs root")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		Missing(t, Host, "there are no loop devices")
	}
}

// Mounted mounts an ext4 image on a new folder with the options of mount, calls f with
// the folder and unmounts it. It ends a test that cannot mount, as Loop does.
func Mounted(t testing.TB, image, options string, f func(root string)) {
	t.Helper()
	root, unmount := Mount(t, image, options)
	defer unmount()
	f(root)
}

// Mount is Mounted for a caller that unmounts by itself; the end of the test does it
// if the caller has not. With the option "ro" the device stays writable, so that the
// kernel can replay a journal.
func Mount(t testing.TB, image, options string) (root string, unmount func()) {
	t.Helper()
	Loop(t)
	out, status := Status(t, "losetup", "--find", "--show", image)
	if status != 0 {
		Missing(t, Host, "no loop device can be had: %s", out)
	}
	device := strings.TrimSpace(out)
	root = t.TempDir()
	out, status = Status(t, "mount", "-t", "ext4", "-o", strings.TrimSuffix("rw,"+options, ","), device, root)
	// The device lasts as long as the mount, also if this process is killed.
	Run(t, "losetup", "--detach", device)
	if status != 0 {
		if kernel, err := os.ReadFile("/proc/filesystems"); err == nil && !strings.Contains(string(kernel), "\text4\n") {
			Missing(t, Host, "the kernel has no ext4")
		}
		t.Fatalf("mount -o %q: %s", options, out)
	}
	mounted := true
	unmount = func() {
		t.Helper()
		if !mounted {
			return
		}
		mounted = false
		// Programs that other tests start may hold it for a moment.
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			out, status := Status(t, "umount", root)
			if status == 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Errorf("umount: %s", out)
				return
			}
		}
	}
	t.Cleanup(unmount)
	return root, unmount
}
