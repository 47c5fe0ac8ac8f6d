// Package vm is the vocabulary of banger: names, sizes, states, and the records
// of VMs, images and kernels. It is pure: no files, no processes, no clock.
//
// Words: a VM is a virtual machine with its own disks; its Spec is what the user
// asked for; its State is where it is in its life. An Image is a root file
// system on a read-only base disk, a Kernel is an ELF with a modules disk.
package vm

import (
	"time"
)

// ID identifies a VM for ever: 16 hexadecimal digits.
type ID string

// State is where a VM is in its life.
type State string

// The states. See CanMove for the arrows between them.
const (
	Creating State = "creating"
	Stopped  State = "stopped"
	Starting State = "starting"
	Running  State = "running"
	Stopping State = "stopping"
	Deleting State = "deleting"
)

// moves lists, for each state, the states that may follow it.
var moves = map[State][]State{
	Creating: {Stopped, Deleting},
	Stopped:  {Starting, Deleting},
	Starting: {Running, Stopped},
	Running:  {Stopping, Stopped},
	Stopping: {Stopped},
	Deleting: {},
}

// CanMove says whether a VM may go from one state to another.
func CanMove(from, to State) bool {
	for _, s := range moves[from] {
		if s == to {
			return true
		}
	}
	return false
}

// Spec is what a VM is made of; every field is set and valid.
type Spec struct {
	Name Name
	// Image is the image's name when the VM was made, for people; the VM is
	// bound to ImageDigest.
	Image       string
	ImageDigest string
	// Kernel is the release that the VM boots.
	Kernel string
	VCPUs  int
	// Memory, System and Work are the sizes of the guest's memory, of the disk
	// below the root file system's upper layer, and of the disk at /root.
	Memory, System, Work Size
	// RemoveOnStop deletes the VM when it stops.
	RemoveOnStop bool
}

// VM is the record of a VM.
type VM struct {
	ID    ID
	Spec  Spec
	State State
	// Reason says why the VM is Stopped; empty otherwise.
	Reason    string
	CreatedAt time.Time
	// StartedAt is zero unless the VM is Starting, Running or Stopping.
	StartedAt time.Time
}

// Operation is a journal entry: an action on a VM that has begun and not ended.
type Operation struct {
	VM     ID
	Action string
	// Step is the last step that has begun.
	Step string
}

// Image is the record of an image on disk.
type Image struct {
	Name string
	// Digest is "sha256:" and the hexadecimal digest of the tar it was made of.
	Digest string
	// Path is the base disk.
	Path      string
	Bytes     int64
	Source    string
	CreatedAt time.Time
}

// Kernel is the record of a kernel on disk.
type Kernel struct {
	// Release is what uname -r prints in the guest.
	Release string
	// Version is the Debian package's version, or empty.
	Version string
	// Digest is "sha256:" and the hexadecimal digest of the ELF.
	Digest string
	// Path is the ELF; ModulesDisk the read-only ext4 of /lib/modules/<release>;
	// ModulesDir holds the uncompressed modules that an initramfs may need, and
	// modules.builtin.
	Path, ModulesDisk, ModulesDir string
	Bytes                         int64
	Source                        string
	CreatedAt                     time.Time
}
