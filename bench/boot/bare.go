package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"banger/internal/initramfs"
	"banger/internal/vmm/qemu"
)

// bareQEMU returns a run of QEMU with banger's kernel and hardware, but without
// disks, and an init that switches off at once.
func (b *bench) bareQEMU(ctx context.Context) (func(context.Context) error, error) {
	out, err := exec.CommandContext(ctx, b.banger, "kernel", "list", "--json").Output()
	if err != nil {
		return nil, err
	}
	var kernels []struct {
		Path string `json:"path"`
	}
	if err := json.Unmarshal(out, &kernels); err != nil || len(kernels) == 0 {
		return nil, fmt.Errorf("banger has no kernel: %w", err)
	}
	initPath := filepath.Join(b.work, "poweroff")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", initPath, "./bench/boot/poweroff")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("cannot build the init: %w\n%s", err, out)
	}
	program, err := os.ReadFile(initPath)
	if err != nil {
		return nil, err
	}
	initrd := filepath.Join(b.work, "poweroff.cpio.lz4")
	f, err := os.Create(initrd)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := initramfs.Build(f, program, nil); err != nil {
		return nil, err
	}
	host, err := (&qemu.Driver{}).Probe(ctx)
	if err != nil {
		return nil, err
	}
	accel := host.Accelerator
	if accel == "tcg" {
		accel += ",thread=multi"
	}
	khz, err := hostKHz()
	if err != nil {
		return nil, err
	}
	args := []string{
		"-M", "microvm,acpi=on,pit=on,pic=on,rtc=on,isa-serial=on", "-accel", accel, "-cpu", "max", "-m", "512", "-smp", "1",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "null",
		"-kernel", kernels[0].Path, "-initrd", initrd,
		"-append", "console=ttyS0 quiet panic=-1 reboot=t tsc_early_khz=" + khz + " no_timer_check",
	}
	return func(ctx context.Context) error { return command(ctx, "qemu-system-x86_64", args...) }, nil
}

// hostKHz is the first "cpu MHz" of /proc/cpuinfo in kilohertz.
func hostKHz() (string, error) {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(info)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "cpu MHz" {
			return strings.Replace(strings.TrimSpace(value), ".", "", 1), nil
		}
	}
	return "", fmt.Errorf("/proc/cpuinfo gives no cpu MHz")
}
