package initramfs_test

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"github.com/pierrec/lz4/v4"

	"banger/internal/base/testneed"
	"banger/internal/initramfs"
)

func build(t *testing.T) []byte {
	t.Helper()
	var buf bytes.Buffer
	err := initramfs.Build(&buf, []byte("#!init"), []initramfs.Module{{Name: "virtio_mmio", Data: []byte("one")}, {Name: "overlay", Data: []byte("three")}})
	if err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestArchiveIsReproducible(t *testing.T) {
	if !bytes.Equal(build(t), build(t)) {
		t.Error("two builds of the same input differ")
	}
}

func TestCpioReadsTheArchive(t *testing.T) {
	cmd := exec.Command(testneed.Tool(t, "cpio", "cpio"), "-tv", "--quiet")
	cmd.Stdin = lz4.NewReader(bytes.NewReader(build(t)))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"5,   1", "dev/console", "-rwxr-xr-x", "modules/000-virtio_mmio.ko", "modules/001-overlay.ko"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("cpio does not show %q:\n%s", want, out)
		}
	}
}
