package qemu_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"banger/internal/vmm/qemu"
	"banger/internal/vmm/vmmtest"
)

func TestQEMUConforms(t *testing.T) {
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		if strings.Contains(os.Getenv("BANGER_TEST_REQUIRE"), "guest") {
			t.Fatal(err)
		}
		t.Skip("needs qemu-system-x86_64: apt-get install qemu-system-x86")
	}
	vmmtest.Run(t, &qemu.Driver{})
}
