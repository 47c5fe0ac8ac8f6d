// Package boot is PID 1 of the initramfs: from the kernel's hand-over to the
// image's own init, or to the end of the machine where the image has none.
//
// Words: the base is the image's disk, read-only; the upper layer is what the VM
// has changed, on the system disk; both make the root, an overlay. The hand-over
// is the exec of the image's init; the agent is the process that this package
// starts before it and that lives beside that init.
//
// The image may be odd: any of its folders may be missing, a link, or a file. So
// everything but the overlay itself happens after the change of root, where
// every path is resolved inside the image.
package boot

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"banger/internal/guestabi"
)

// Run boots the machine and does not return unless even switching it off
// fails. The agent's argv[0] is agentName; its arguments are the values of
// guestabi.ArgLink and guestabi.ArgPowerOff, and its descriptor 3 is a pipe that
// reaches its end at the hand-over, or when there will be none.
//
// A boot that fails says why in one line on the console and switches the machine
// off.
func Run(agentName string) {
	b := &booter{agentName: agentName, config: config{PowerOff: guestabi.PowerOffACPI}}
	if err := b.run(); err != nil {
		fmt.Fprintf(os.Stderr, "banger-init: %v\n", err)
	}
	powerOff(b.config.PowerOff)
}

// booter is the state of one boot.
type booter struct {
	agentName string
	config    config
	// system is the root of the system disk's file system, which has no path after
	// the change of root.
	system *os.File
	// layers are the trees that are made ready before the change of root and
	// mounted after it.
	layers []layer
	agent  *agentProcess
}

// run returns an error when the boot has failed and nil when a machine whose PID 1
// we stayed is to be switched off.
func (b *booter) run() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("cannot boot: panic: %v", p)
		}
	}()
	unix.Umask(0) // modes are meant as they are written here
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"mount the kernel's file systems", mountKernelFilesystems},
		{"read the kernel command line", b.readConfig},
		{"load the kernel modules and find the disks", findDisks},
		{"mount the root file system", b.mountRoot},
		{"change to the root file system", changeRoot},
		{"mount what lies in the root file system", b.mountInside},
		{"mount the work disk at /root", mountWork},
		{"identify the machine", b.identify},
		{"set the umask", func() error { unix.Umask(0o022); return nil }}, // the kernel's for an init
		{"start the agent", b.startAgent},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("cannot %s: %w", step.what, err)
		}
	}
	if err := b.handOver(); err != nil {
		warn(err)
	}
	return b.stay()
}

// warn says on the console what went wrong in a boot that goes on.
func warn(err error) { fmt.Fprintf(os.Stderr, "banger-init: warning: %v\n", err) }
