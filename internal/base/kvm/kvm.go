// Package kvm says whether guests can run on the host's CPU itself.
package kvm

import (
	"errors"
	"os"
	"slices"
	"strings"
)

// Device is the kernel's interface (kernel: Documentation/virt/kvm/api.rst).
const Device = "/dev/kvm"

// ErrNoHardware: the device is there, but the CPU has no hardware virtualization.
// Some nested hosts offer that (kvm-pvm), and an unmodified kernel does not boot
// on it.
var ErrNoHardware = errors.New("the CPU has neither vmx nor svm")

// Usable is nil if guests can use KVM. The error wraps os.ErrNotExist,
// os.ErrPermission or ErrNoHardware, or is what opening the device said.
func Usable() error { return usable(Device, "/proc/cpuinfo") }

func usable(device, cpuinfo string) error {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if info, err := os.ReadFile(cpuinfo); err == nil && !hardware(string(info)) {
		return ErrNoHardware
	}
	return nil
}

// hardware looks for Intel's or AMD's flag.
func hardware(cpuinfo string) bool {
	for line := range strings.Lines(cpuinfo) {
		if key, flags, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "flags" {
			return slices.ContainsFunc(strings.Fields(flags), func(f string) bool { return f == "vmx" || f == "svm" })
		}
	}
	return false
}
