package dir

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func required(word string) bool {
	return slices.Contains(strings.Split(os.Getenv("BANGER_TEST_REQUIRE"), ","), word)
}

// need skips a test the host cannot run, or fails it where the word is required.
func need(t testing.TB, word, reason string) {
	t.Helper()
	if required(word) {
		t.Fatalf("%s (BANGER_TEST_REQUIRE has %q)", reason, word)
	}
	t.Skip(reason)
}

func find(t testing.TB, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	for _, dir := range []string{"/usr/sbin/", "/sbin/"} {
		if _, err := os.Stat(dir + name); err == nil {
			return dir + name
		}
	}
	need(t, "tools", "there is no "+name+": install e2fsprogs")
	return ""
}

// tool runs a program that must succeed, and gives its output.
func tool(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, code := run(t, name, args...)
	if code != 0 {
		t.Fatalf("%s %q: exit status %d\n%s", name, args, code, out)
	}
	return out
}

func run(t testing.TB, name string, args ...string) (out string, code int) {
	t.Helper()
	c := exec.Command(find(t, name), args...)
	c.Env = append(os.Environ(), "LC_ALL=C")
	b, err := c.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(b), c.ProcessState.ExitCode()
}

// fsck requires an image e2fsck has nothing to say about.
func fsck(t testing.TB, img string) {
	t.Helper()
	out, code := run(t, "e2fsck", "-fn", img)
	if code != 0 {
		t.Fatalf("e2fsck: exit status %d\n%s", code, out)
	}
}

// mounted runs f with the image mounted, which needs root.
func mounted(t testing.TB, img string, f func(dir string)) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("loop mounts need root")
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-o", "loop", img, dir).CombinedOutput(); err != nil {
		need(t, "host", "cannot mount: "+string(out))
	}
	defer func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %s", out)
		}
	}()
	f(dir)
}
