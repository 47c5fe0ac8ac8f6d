// Package vmm is the seam between banger and the programs that run virtual
// machines.
//
// Words: a Driver knows one VMM program (QEMU, Firecracker). From a Config it
// makes a Machine: one VMM process and the channels to it. What a driver can do
// beyond the Driver and Machine interfaces it declares in Features; callers
// branch on those, never on a driver's name.
//
// Life of a Machine: Driver.Create prepares channels and files but starts
// nothing; Start runs the VMM and boots the guest; Done is closed when the VMM
// has exited, for whatever reason; Exit then tells the reason; Close releases
// everything and may be called at any time, also on a machine that never
// started, and more than once.
//
// The vmmtest package holds the conformance suite that every driver passes and
// a fake driver for tests.
package vmm

import (
	"context"
	"io"
	"os"

	"banger/internal/vm"
)

// Driver starts machines with one VMM program. Its methods may be called at
// once from many goroutines.
type Driver interface {
	// Name is the driver's name as users see it: "qemu", "firecracker".
	Name() string
	// Probe looks at the host: which binary, which version, whether with KVM. It
	// changes nothing. The error says what is missing and carries a hint.
	Probe(ctx context.Context) (Host, error)
	// Guest says what a guest needs to run under this driver.
	Guest() Guest
	// Features declares the optional abilities of its machines.
	Features() Features
	// Create prepares a machine. Files named by c must exist. Nothing runs yet,
	// and after an error nothing is left behind. The ctx bounds Create only.
	Create(ctx context.Context, c Config) (Machine, error)
}

// Host is what Probe found.
type Host struct {
	// Binary is the absolute path of the VMM program.
	Binary string
	// Version is the program's version, such as "7.2.22".
	Version string
	// Accelerator is "kvm" or "tcg" (emulation).
	Accelerator string
	// Note says why it is not "kvm", or is empty.
	Note string
}

// Guest is what a driver asks of the guest's side.
type Guest struct {
	// Modules are the kernel modules, by name as in modinfo, that the guest must
	// load before it sees its disks and its link. Those built into the kernel
	// may be listed.
	Modules []string
}

// Features are optional abilities; the zero value promises nothing. A machine of
// a driver that declares one implements the interface named beside it.
type Features struct {
	// Pause: Pauser.
	Pause bool
	// ExitReason: the machine can tell a guest's power-off from its reboot.
	ExitReason bool
}

// Config describes one machine; it is complete and valid.
type Config struct {
	// ID is unique among running machines: letters, digits and hyphens.
	ID string
	// VCPUs is 1 to vm.MaxVCPUs; Memory a whole number of mebibytes.
	VCPUs  int
	Memory vm.Size
	// Kernel is an ELF with a PVH note; Initramfs a cpio archive, compressed or not.
	Kernel, Initramfs string
	// CommandLine is the guest's part; the driver adds what its hardware needs
	// (console, link, power-off: see guestabi).
	CommandLine string
	// Disks in order: the first is vda.
	Disks []Disk
	// Dir is a private, empty, existing folder for sockets and the like, removed
	// by its owner after Close. Its path is short enough for a unix socket.
	Dir string
	// Inherit are files that the VMM process keeps open for its whole life, such
	// as the lock on its disks. The caller keeps its own descriptors.
	Inherit []*os.File
	// Log receives the VMM's own messages; nil discards them.
	Log io.Writer
}

// Disk is one drive. Its content is raw. Writable disks are in write-back mode:
// a guest's flush reaches the file's storage.
type Disk struct {
	// ID is letters, digits and underscores (Firecracker's rule).
	ID string
	// Path is the file; the caller holds the lock on writable ones.
	Path     string
	ReadOnly bool
}

// Machine is one virtual machine. Methods may be called from many goroutines.
type Machine interface {
	// Start runs the VMM and boots the guest. It returns when the VMM is past
	// its own start-up; ctx bounds that, not the machine's life. After an error
	// the VMM is gone. It is called once at most.
	Start(ctx context.Context) error
	// PID is the VMM's process id; 0 before Start and after Done.
	PID() int
	// Accelerator is "kvm" or "tcg"; valid after Start.
	Accelerator() string
	// Link is the transport of the guest link; valid after Create, and the same
	// value each time. The machine owns it: Close closes it.
	Link() Link
	// Console is the serial console: what is read is the guest's output, what is
	// written is typed. Valid after Create; reads end with io.EOF when the VMM
	// has gone. Somebody must keep reading, or the guest stands still. The
	// machine owns it.
	Console() io.ReadWriter
	// Done is closed when the VMM has exited and has been waited for.
	Done() <-chan struct{}
	// Exit says how the VMM ended; valid after Done.
	Exit() Exit
	// Signal sends sig to the VMM. It is nil if the VMM has already exited, an
	// error before Start.
	Signal(sig os.Signal) error
	// Close kills the VMM if it runs, waits for it, and releases everything.
	Close() error
}

// Pauser is implemented by machines of drivers that declare Features.Pause.
type Pauser interface {
	// Pause stops the guest's CPUs; repeating it is fine.
	Pause(ctx context.Context) error
	// Resume lets them run again; repeating it is fine.
	Resume(ctx context.Context) error
}

// Link is the transport of the guest link: exactly one field is set.
type Link struct {
	// Serial is the host's end of one byte stream (virtio-serial); a multiplexer
	// runs on it.
	Serial io.ReadWriteCloser
	// VsockUDS is the path of a Firecracker-style vsock socket: connect and write
	// "CONNECT <port>\n" to reach the guest; the guest's connections to port P
	// arrive at the socket "<path>_<P>".
	VsockUDS string
}

// ExitCause is why a VMM ended.
type ExitCause string

// The causes.
const (
	// ExitPowerOff: the guest switched itself off.
	ExitPowerOff ExitCause = "guest powered off"
	// ExitReboot: the guest asked for a reboot, which ends the VMM.
	ExitReboot ExitCause = "guest rebooted"
	// ExitPanic: the guest's kernel panicked.
	ExitPanic ExitCause = "guest kernel panicked"
	// ExitSignal: the VMM was ended by a signal.
	ExitSignal ExitCause = "VMM killed"
	// ExitFailure: the VMM failed.
	ExitFailure ExitCause = "VMM failed"
)

// Exit is how a VMM ended.
type Exit struct {
	Cause ExitCause
	// Detail is for people: the signal, the exit status, the last message.
	Detail string
}

// String returns the cause and the detail.
func (e Exit) String() string {
	if e.Detail == "" {
		return string(e.Cause)
	}
	return string(e.Cause) + " (" + e.Detail + ")"
}
