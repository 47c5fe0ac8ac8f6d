package paths_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/base/errs"
	"banger/internal/base/paths"
)

func setRoots(t *testing.T, runtimeDir string) {
	t.Helper()
	t.Setenv("HOME", t.TempDir())
	t.Setenv("XDG_STATE_HOME", "")
	t.Setenv("XDG_CACHE_HOME", "relative is ignored")
	t.Setenv("XDG_RUNTIME_DIR", runtimeDir)
}

func TestFromEnvMakesPrivateDirectories(t *testing.T) {
	run := t.TempDir()
	setRoots(t, run)
	d, err := paths.FromEnv()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(d.Runtime, 0o755); err != nil { // an old one, too open
		t.Fatal(err)
	}
	d, err = paths.FromEnv()
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{d.State, d.Cache, d.Runtime} {
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v; want mode 0700", dir, info.Mode(), err)
		}
	}
	if want := filepath.Join(os.Getenv("HOME"), ".cache", "banger"); d.Cache != want {
		t.Errorf("Cache = %q, want %q", d.Cache, want)
	}
}

func TestFromEnvRefusesALinkInItsPlace(t *testing.T) {
	run := t.TempDir()
	setRoots(t, run)
	d, err := paths.FromEnv()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove(d.Runtime), os.Symlink(t.TempDir(), d.Runtime)); err != nil {
		t.Fatal(err)
	}
	if _, err := paths.FromEnv(); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("err = %v, want a refusal", err)
	}
}

func TestTwoHomesShareNoSocket(t *testing.T) {
	run := t.TempDir()
	setRoots(t, run)
	one, err := paths.FromEnv()
	if err != nil {
		t.Fatal(err)
	}
	setRoots(t, run)
	two, err := paths.FromEnv()
	if err != nil {
		t.Fatal(err)
	}
	if one.DaemonSocket() == two.DaemonSocket() {
		t.Errorf("both homes have the socket %s", one.DaemonSocket())
	}
}

func TestFromEnvRefusesAPathTooLongForASocket(t *testing.T) {
	setRoots(t, "/"+strings.Repeat("x", 90))
	_, err := paths.FromEnv()
	if errs.KindOf(err) != errs.Invalid || errs.HintOf(err) == "" {
		t.Errorf("err = %v (hint %q), want Invalid with a hint", err, errs.HintOf(err))
	}
}
