// Package testneed is what tests do about things that a host may not have: they
// skip with the reason, or fail where BANGER_TEST_REQUIRE, a list of words with
// commas between, says that the thing is to be there. "make test" and CI set it.
//
// Of images of file systems it knows how to run e2fsprogs on them and to mount them.
package testneed

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The words.
const (
	// Guest: QEMU and a built banger.
	Guest = "guest"
	// Tools: programs whose answers ours are compared with, or that tests run.
	Tools = "tools"
	// Host: abilities of the host's kernel, such as terminals and namespaces.
	Host = "host"
	// Mirror: minutes and a Debian mirror, for real kernels and images built alone.
	Mirror = "mirror"
)

// Required says whether a word is in BANGER_TEST_REQUIRE.
func Required(word string) bool {
	return slices.Contains(strings.Split(os.Getenv("BANGER_TEST_REQUIRE"), ","), word)
}

// Missing ends a test for which something is missing: with a failure if its word
// is required, else with a skip.
func Missing(t testing.TB, word, format string, args ...any) {
	t.Helper()
	if Required(word) {
		t.Fatalf(format+" (BANGER_TEST_REQUIRE has %q)", append(args, word)...)
	}
	t.Skipf(format, args...)
}

// Asked skips a test that runs only where its word is required.
func Asked(t testing.TB, word string) {
	t.Helper()
	if !Required(word) {
		t.Skipf("runs only if BANGER_TEST_REQUIRE has %q", word)
	}
}

// Tool returns the path of a program of a Debian package, also from the folders
// that an ordinary user's PATH lacks.
func Tool(t testing.TB, name, pkg string) string {
	t.Helper()
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin") {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path
		}
	}
	Missing(t, Tools, "there is no %s: apt-get install %s", name, pkg)
	return ""
}
