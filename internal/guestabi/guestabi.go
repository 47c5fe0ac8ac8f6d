// Package guestabi is what the host and the guest agree on beside the protobuf
// API: kernel command line keys, drive order, ports of the guest link, and the
// names inside the initramfs. Both sides import it; it imports nothing.
package guestabi

// The drives of a VM, in the order of the VMM's configuration. The guest kernel
// names them so because virtio-blk numbers its disks in the order of discovery.
const (
	// BaseDisk is the image, read-only.
	BaseDisk = "/dev/vda"
	// SystemDisk is the upper layer of the root file system.
	SystemDisk = "/dev/vdb"
	// WorkDisk is mounted at /root.
	WorkDisk = "/dev/vdc"
	// ModulesDisk is mounted at /lib/modules/<release>, read-only.
	ModulesDisk = "/dev/vdd"
)

// Keys of the kernel command line; each is followed by "=" and a value.
const (
	// ArgVM is the VM's id. The guest derives its machine-id from it.
	ArgVM = "banger.vm"
	// ArgHostname is the VM's name.
	ArgHostname = "banger.hostname"
	// ArgLink says how the agent reaches the host: LinkSerial or LinkVsock.
	ArgLink = "banger.link"
	// ArgPowerOff says how the machine is switched off: PowerOffACPI or PowerOffReset.
	ArgPowerOff = "banger.poweroff"
)

// Values of ArgLink.
const (
	// LinkSerial is the virtio-serial port SerialPort with a yamux session on it.
	LinkSerial = "virtio-serial"
	// LinkVsock is AF_VSOCK with AgentPort and HostPort.
	LinkVsock = "vsock"
)

// Values of ArgPowerOff.
const (
	// PowerOffACPI: reboot(LINUX_REBOOT_CMD_POWER_OFF) ends the VMM.
	PowerOffACPI = "acpi"
	// PowerOffReset: only reboot(LINUX_REBOOT_CMD_RESTART) ends the VMM, as with
	// Firecracker on x86-64.
	PowerOffReset = "reset"
)

// SerialPort is the name of the virtio-serial port of the guest link. The guest
// finds it by /sys/class/virtio-ports/*/name.
const SerialPort = "banger.link"

// Ports of the guest link under vsock. Over virtio-serial they do not exist: a
// stream that the host opens goes to the agent, one that the guest opens goes to
// the host.
const (
	// AgentPort is where the agent serves guest.v1.AgentService.
	AgentPort = 1024
	// HostPort is where the host serves guest.v1.HostService.
	HostPort = 1025
)

// Names inside the initramfs.
const (
	// InitPath is banger-init.
	InitPath = "/init"
	// ModulesDir holds the modules to load, uncompressed, named "NN-name.ko" and
	// loaded in the order of their names.
	ModulesDir = "/modules"
)

// AgentNice is the agent's nice value (setpriority(2)); its commands have 0.
const AgentNice = -20

// MaxMessage bounds one message of the guest API, both ways, in bytes.
const MaxMessage = 4 << 20

// MaxChunk bounds the data in one exec or console message, in bytes.
const MaxChunk = 64 << 10
