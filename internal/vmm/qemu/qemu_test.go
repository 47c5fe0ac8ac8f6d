package qemu_test

import (
	"os/exec"
	"testing"

	"banger/internal/base/testneed"
	"banger/internal/vmm/qemu"
	"banger/internal/vmm/vmmtest"
)

func TestQEMUConforms(t *testing.T) {
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		testneed.Missing(t, testneed.Guest, "there is no qemu-system-x86_64: apt-get install qemu-system-x86")
	}
	vmmtest.Run(t, &qemu.Driver{})
}
