package xattr

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// missing skips a test, or fails it where BANGER_TEST_REQUIRE has the word. It
// repeats internal/base/testneed, which the ext4 tree may not import.
func missing(t testing.TB, word, reason string) {
	t.Helper()
	if slices.Contains(strings.Split(os.Getenv("BANGER_TEST_REQUIRE"), ","), word) {
		t.Fatalf("%s (BANGER_TEST_REQUIRE has %q)", reason, word)
	}
	t.Skip(reason)
}

// tool finds a program, also where an ordinary user's PATH does not look.
func tool(t testing.TB, name string) string {
	t.Helper()
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin") {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path
		}
	}
	missing(t, "tools", "there is no "+name)
	return ""
}

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(tool(t, name), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func runCommand(path string, args ...string) (string, error) {
	out, err := exec.Command(path, args...).CombinedOutput()
	return string(out), err
}
