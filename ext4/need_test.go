package ext4

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// needMissing skips a test, or fails it where BANGER_TEST_REQUIRE, a list with
// commas, has the word. It repeats internal/base/testneed, which this tree may not
// import.
func needMissing(t testing.TB, word, reason string) {
	t.Helper()
	if slices.Contains(strings.Split(os.Getenv("BANGER_TEST_REQUIRE"), ","), word) {
		t.Fatalf("%s (BANGER_TEST_REQUIRE has %q)", reason, word)
	}
	t.Skip(reason)
}

// needTool returns the path of a program, also from the folders that an ordinary
// user's PATH lacks.
func needTool(t testing.TB, name string) string {
	t.Helper()
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin") {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path
		}
	}
	needMissing(t, "tools", "there is no "+name)
	return ""
}

// needLoop is for tests that mount images.
func needLoop(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		// A requirement of the host's abilities does not make one root.
		t.Skip("mounting images needs root")
	}
	needTool(t, "mount")
	needTool(t, "umount")
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		needMissing(t, "host", "there are no loop devices")
	}
	out, err := exec.Command(needTool(t, "losetup"), "-f").CombinedOutput()
	if err != nil {
		needMissing(t, "host", "no loop device can be had: "+string(out))
	}
}

// runTool runs a program to its end, which must be a success.
func runTool(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(needTool(t, name), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// mounted mounts an image on a new folder, calls f with it and unmounts.
func mounted(t testing.TB, image, options string, f func(root string)) {
	t.Helper()
	needLoop(t)
	root := t.TempDir()
	args := []string{"-t", "ext4", "-o", "loop"}
	if options != "" {
		args[3] += "," + options
	}
	runTool(t, "mount", append(args, image, root)...)
	done := false
	defer func() {
		if !done { // f ended the test
			exec.Command(needTool(t, "umount"), root).Run()
		}
	}()
	f(root)
	// Programs that other tests start may hold it for a moment.
	for range 50 {
		if exec.Command(needTool(t, "umount"), root).Run() == nil {
			done = true
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	runTool(t, "umount", root)
	done = true
}

// fsck runs e2fsck -fn, which must find nothing.
func fsck(t testing.TB, image string) {
	t.Helper()
	out, err := exec.Command(needTool(t, "e2fsck"), "-fn", image).CombinedOutput()
	if err != nil {
		t.Fatalf("e2fsck -fn: %v\n%s", err, out)
	}
}
