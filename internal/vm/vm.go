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
	// Kernel is the name of the kernel that the VM boots.
	Kernel string
	VCPUs  int
	// Memory, System and Work are the sizes of the guest's memory, of the disk
	// below the root file system's upper layer, and of the disk at /root.
	Memory, System, Work Size
	// RemoveOnStop deletes the VM when it stops.
	RemoveOnStop bool
	// Config is what the image said of its processes when the VM was made, without
	// labels; the image may be another one by now. Nil: it said nothing.
	Config *ImageConfig
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
	// Boot is what it was started with; zero at the same times.
	Boot Boot
}

// Boot is the part of a Spec that is fixed while a VM runs: what it was started
// with, while the Spec is what it gets at the next start.
type Boot struct {
	Kernel string
	VCPUs  int
	Memory Size
}

// Boot returns what a VM that starts now would have.
func (s Spec) Boot() Boot { return Boot{s.Kernel, s.VCPUs, s.Memory} }

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
	// Digest names the contents of the base disk: the chain id of the layers that it
	// was made of (OCI image specification, config.md), which for a single tar is that
	// tar's digest.
	Digest string
	// Path is the base disk.
	Path      string
	Bytes     int64
	Source    string
	CreatedAt time.Time
	// Config is what the image says of the processes that run in it; nil: nothing.
	Config *ImageConfig
	// Origin is the OCI image it was made of; nil for one made of packages or of a
	// tar. Documents go with it, but only into a record: nothing that lists images has
	// them.
	Origin    *ImageOrigin
	Documents *ImageDocuments
}
