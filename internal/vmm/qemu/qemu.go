// Package qemu runs virtual machines with QEMU's microvm machine, with KVM where
// /dev/kvm can be used and with QEMU's emulator (TCG) elsewhere.
//
// The VMM gets every channel as an inherited descriptor (console, guest link,
// QMP), so there are no socket files. It is killed when the process that made it
// dies.
package qemu

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"

	"banger/internal/base/errs"
	"banger/internal/base/kvm"
	"banger/internal/vmm"
)

// program is QEMU's name; this driver knows amd64 guests only.
const program = "qemu-system-x86_64"

// Driver is the QEMU driver; the zero value is ready for use.
type Driver struct {
	mu sync.Mutex
	// versions remembers the version of a binary, by path, size and time.
	versions map[string]string
}

// Name returns "qemu".
func (*Driver) Name() string { return "qemu" }

// Guest lists the modules for virtio over MMIO, found through ACPI.
func (*Driver) Guest() vmm.Guest {
	return vmm.Guest{Modules: []string{"virtio_mmio", "virtio_blk", "virtio_console", "virtio_rng"}}
}

// Features declares pause and the exit's reason.
func (*Driver) Features() vmm.Features { return vmm.Features{Pause: true, ExitReason: true} }

// Probe finds QEMU on PATH and tries /dev/kvm.
func (d *Driver) Probe(ctx context.Context) (vmm.Host, error) {
	binary, err := exec.LookPath(program)
	if err != nil {
		return vmm.Host{}, errs.New(errs.Unavailable, "cannot find %s: %w", program, err).
			WithHint("apt-get install qemu-system-x86")
	}
	version, err := d.version(ctx, binary)
	if err != nil {
		return vmm.Host{}, err
	}
	h := vmm.Host{Binary: binary, Version: version, Accelerator: "kvm"}
	if err := kvm.Usable(); err != nil {
		h.Accelerator, h.Note = "tcg", "guests are emulated: "+err.Error()
	}
	return h, nil
}

var versionLine = regexp.MustCompile(`^QEMU emulator version ([0-9.]+)`)

// version asks a binary once for its version.
func (d *Driver) version(ctx context.Context, binary string) (string, error) {
	info, err := os.Stat(binary)
	if err != nil {
		return "", err
	}
	key := fmt.Sprint(binary, info.Size(), info.ModTime())
	d.mu.Lock()
	defer d.mu.Unlock()
	if v := d.versions[key]; v != "" {
		return v, nil
	}
	out, err := exec.CommandContext(ctx, binary, "--version").Output()
	if err != nil {
		return "", errs.New(errs.Unavailable, "cannot run %q: %w", binary, err).WithHint("apt-get install --reinstall qemu-system-x86")
	}
	m := versionLine.FindSubmatch(out)
	if m == nil {
		line, _, _ := bytes.Cut(out, []byte("\n"))
		return "", errs.New(errs.Unavailable, "%q is not QEMU: it says %q", binary, line)
	}
	if d.versions == nil {
		d.versions = map[string]string{}
	}
	d.versions[key] = string(m[1])
	return string(m[1]), nil
}

// Create prepares the channels of a machine.
func (d *Driver) Create(ctx context.Context, c vmm.Config) (vmm.Machine, error) {
	host, err := d.Probe(ctx)
	if err != nil {
		return nil, err
	}
	files := []string{c.Kernel, c.Initramfs}
	for _, disk := range c.Disks {
		files = append(files, disk.Path)
	}
	for _, path := range files {
		if strings.ContainsAny(path, ",\n") {
			return nil, errs.New(errs.Invalid, "the path %q has a comma, which QEMU's options cannot carry", path).
				WithHint("move banger's state directory (XDG_STATE_HOME)")
		}
		if _, err := os.Stat(path); err != nil {
			return nil, fmt.Errorf("cannot create a machine: %w", err)
		}
	}
	return newMachine(host, c)
}
