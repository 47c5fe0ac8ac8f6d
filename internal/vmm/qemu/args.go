package qemu

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"banger/internal/guestabi"
	"banger/internal/vm"
	"banger/internal/vmm"
)

// Descriptors in the VMM; inherited files follow.
const (
	fdConsole = 3 + iota
	fdLink
	fdQMP
	fdInherited
)

// arguments returns QEMU's command line for c.
func arguments(host vmm.Host, c vmm.Config) ([]string, error) {
	accel, cpu := "kvm", "host"
	if host.Accelerator == "tcg" {
		accel, cpu = "tcg,thread=multi", "max"
	}
	line, err := commandLine(host, c.CommandLine)
	if err != nil {
		return nil, err
	}
	args := []string{
		"-name", c.ID,
		"-M", "microvm,acpi=on,pit=on,pic=on,rtc=on,isa-serial=on", "-accel", accel, "-cpu", cpu,
		"-m", strconv.FormatInt(int64(c.Memory/vm.MiB), 10) + "M", "-smp", strconv.Itoa(c.VCPUs),
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-kernel", c.Kernel, "-initrd", c.Initramfs, "-append", line,
		"-chardev", fmt.Sprintf("socket,id=console,fd=%d", fdConsole), "-serial", "chardev:console",
		"-chardev", fmt.Sprintf("socket,id=qmp,fd=%d", fdQMP), "-mon", "chardev=qmp,mode=control",
	}
	for _, d := range c.Disks {
		mode := "read-only=on"
		if !d.ReadOnly {
			mode = "cache.direct=off,cache.no-flush=off,discard=unmap,read-only=off"
		}
		args = append(args,
			"-blockdev", fmt.Sprintf("driver=raw,node-name=%s,%s,file.driver=file,file.filename=%s", d.ID, mode, d.Path),
			"-device", "virtio-blk-device,drive="+d.ID)
	}
	return append(args,
		"-device", "virtio-serial-device",
		"-chardev", fmt.Sprintf("socket,id=link,fd=%d", fdLink),
		"-device", "virtserialport,chardev=link,name="+guestabi.SerialPort,
		"-device", "virtio-rng-device",
	), nil
}

// quickBoot saves half a second under emulation: it leaves out two self-tests of
// kernel crypto that a guest does not need (the jitter entropy source, for which it
// has virtio-rng, and the SP800-108 key derivation), and does not wait for lazy RCU
// grace periods when modules are loaded and file systems mounted (kernel:
// Documentation/admin-guide/kernel-parameters.txt).
const quickBoot = "cryptomgr.notests initcall_blacklist=jent_mod_init,crypto_kdf108_init rcupdate.rcu_expedited=1"

// commandLine adds what this hardware needs to the guest's part.
func commandLine(host vmm.Host, guest string) (string, error) {
	args := []string{
		guest, "console=ttyS0", "quiet", "panic=-1", "reboot=t", quickBoot,
		guestabi.ArgLink + "=" + guestabi.LinkSerial, guestabi.ArgPowerOff + "=" + guestabi.PowerOffACPI,
	}
	if host.Accelerator == "tcg" {
		// The emulated timers let the kernel's TSC calibration fail now and then,
		// and without a TSC the guest hangs; so it is told the frequency.
		khz, err := hostKHz()
		if err != nil {
			return "", err
		}
		args = append(args, "tsc_early_khz="+khz, "no_timer_check")
	}
	return strings.Join(args, " "), nil
}

// hostKHz is the first CPU's frequency in kHz; the emulator's TSC is the host's.
func hostKHz() (string, error) {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(info)) {
		key, value, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(key) != "cpu MHz" {
			continue
		}
		mhz, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil {
			return "", fmt.Errorf("cannot read the CPU's frequency: %w", err)
		}
		return strconv.FormatInt(int64(mhz*1000), 10), nil
	}
	// A host that tells no frequency: any plausible one keeps the guest from hanging.
	return "2000000", nil
}
