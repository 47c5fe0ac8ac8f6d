package kernels

import (
	"slices"
	"strings"

	"banger/internal/base/errs"
	"banger/internal/kconfig"
	"banger/internal/kmod"
	"banger/internal/vm"
)

// part is one thing that a guest may need of its kernel.
type part struct {
	// option is the configuration's name for it.
	option string
	// module provides it where it is not built in; empty if it can only be built in.
	module string
	// must is set where no VM boots without it. What a VMM needs first, it says itself:
	// Options.Modules.
	must   bool
	reason string
}

// parts is everything that a kernel is checked for. An initramfs has only modules
// that stand here, or in Options.Modules.
//
// Those of systemd are after its README, "REQUIREMENTS".
var parts = []part{
	{"CONFIG_BLK_DEV_INITRD", "", true, "banger-init starts from an initramfs"},
	{"CONFIG_RD_LZ4", "", true, "the initramfs is compressed with lz4"},
	{"CONFIG_BINFMT_ELF", "", true, "banger-init is an ELF"},
	{"CONFIG_ACPI", "", true, "the VMM describes its devices by ACPI"},
	{"CONFIG_DEVTMPFS", "", true, "/dev"},
	{"CONFIG_PROC_FS", "", true, "/proc"},
	{"CONFIG_SYSFS", "", true, "/sys"},
	{"CONFIG_TMPFS", "", true, "/run and /dev/shm"},
	{"CONFIG_UNIX98_PTYS", "", true, "shells in the guest"},
	{"CONFIG_NET", "", true, "device events and sockets"},
	{"CONFIG_UNIX", "", true, "sockets"},
	{"CONFIG_EXT4_FS", "ext4", true, "the file system of all disks"},
	{"CONFIG_OVERLAY_FS", "overlay", true, "the root file system: an image below the VM's own changes"},
	{"CONFIG_VIRTIO_BLK", "virtio_blk", true, "disks"},
	{"CONFIG_VIRTIO_MMIO", "virtio_mmio", false, "devices over MMIO: QEMU's microvm, Firecracker"},
	{"CONFIG_VIRTIO_PCI", "virtio_pci", false, "devices over PCI"},
	{"CONFIG_VIRTIO_CONSOLE", "virtio_console", false, "the link to the guest's agent under QEMU"},
	{"CONFIG_VIRTIO_VSOCKETS", "vmw_vsock_virtio_transport", false, "the link to the guest's agent under Firecracker"},
	{"CONFIG_HW_RANDOM_VIRTIO", "virtio_rng", false, "random numbers from the host"},
	{"CONFIG_VIRTIO_NET", "virtio_net", false, "the network"},
	{"CONFIG_VIRTIO_BALLOON", "virtio_balloon", false, "giving memory back to the host"},
	{"CONFIG_VIRTIO_MEM", "virtio_mem", false, "more memory while the VM runs"},
	{"CONFIG_EROFS_FS", "erofs", false, "base disks in erofs"},
	{"CONFIG_SERIAL_8250_CONSOLE", "", false, "the console and its log"},
	{"CONFIG_CGROUPS", "", false, "systemd and containers"},
	{"CONFIG_INOTIFY_USER", "", false, "systemd"},
	{"CONFIG_SIGNALFD", "", false, "systemd"},
	{"CONFIG_TIMERFD", "", false, "systemd"},
	{"CONFIG_EPOLL", "", false, "systemd, and any Go program"},
	{"CONFIG_FHANDLE", "", false, "systemd"},
}

// partsWith returns parts, and those modules that the VMM needs and parts does not
// know.
func partsWith(modules []string) []part {
	all := slices.Clone(parts)
	for _, name := range modules {
		name = kmod.Normalize(name)
		i := slices.IndexFunc(all, func(p part) bool { return p.module == name })
		if i < 0 {
			all = append(all, part{option: name, module: name, must: true, reason: "the VMM"})
			continue
		}
		all[i].must = true
	}
	return all
}

// examine says for every part whether a kernel has it, by its configuration, nil if
// there is none, and its modules.
func examine(all []part, config kconfig.Config, modules *kmod.Set) []vm.KernelOption {
	options := make([]vm.KernelOption, 0, len(all))
	for _, p := range all {
		options = append(options, vm.KernelOption{
			Name: p.option, Module: p.module, State: stateOf(p, config, modules), Reason: p.reason, Required: p.must,
		})
	}
	return options
}

func stateOf(p part, config kconfig.Config, modules *kmod.Set) string {
	loadable := p.module != "" && modules.Known(p.module) && !modules.Builtin(p.module)
	switch {
	case config.Builtin(p.option), p.module != "" && modules.Builtin(p.module):
		return vm.OptionBuiltin
	case loadable:
		return vm.OptionModule
	case config != nil:
		return vm.OptionMissing // not set, or a module that did not come
	case p.module != "" && modules.Lists():
		return vm.OptionMissing
	}
	return vm.OptionUnknown
}

// judge refuses a kernel that lacks what is required, and one of which nobody can say.
func judge(options []vm.KernelOption, config kconfig.Config) error {
	var missing, unknown []string
	hint := "set them in the kernel's configuration"
	for _, o := range options {
		switch {
		case !o.Required:
		case o.State == vm.OptionMissing && config.Module(o.Name):
			missing = append(missing, o.Name+" ("+o.Reason+"; its module "+o.Module+" is not there)")
			hint = "give its modules too: --modules"
		case o.State == vm.OptionMissing:
			missing = append(missing, o.Name+" ("+o.Reason+")")
		case o.State == vm.OptionUnknown && o.Module != "":
			unknown = append(unknown, o.Name)
		}
	}
	if len(missing) > 0 {
		return errs.New(errs.Invalid, "it lacks %s", strings.Join(missing, ", ")).WithHint("%s", hint)
	}
	if len(unknown) > 0 {
		return errs.New(errs.Invalid, "nothing says whether it has %s: there is no configuration in it, and none came with it", strings.Join(unknown, ", ")).
			WithHint("give --config FILE, or its modules with their modules.builtin: --modules")
	}
	return nil
}
