package tarfile

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"banger/internal/base/testneed"
)

// Names of attributes come back from GNU tar as they were.
func TestGNUTarXattrNames(t *testing.T) {
	t.Parallel()
	tar := testneed.Tool(t, "tar", "tar")
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	names := []string{"user.plain", "user.a=b", "user.50%", "user.%3D", "user.%25", "user.%41", "user.%3d=%", "user.ü x"}
	for _, n := range names {
		if err := syscall.Setxattr(file, n, []byte(n), 0); err != nil {
			t.Skip("the folder for tests takes no attributes: ", err)
		}
	}
	cmd := exec.Command(tar, "--xattrs", "--format=posix", "-cf", "-", "f")
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, x := range mustReadOne(t, out).Xattrs {
		got[x.Name] = string(x.Value)
	}
	for _, n := range names {
		if got[n] != n {
			t.Errorf("%q is not there: %q", n, got)
		}
	}
}
