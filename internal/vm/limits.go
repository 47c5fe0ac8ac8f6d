package vm

import "banger/internal/base/errs"

// Limits of a VM. The upper bound of the CPUs is Firecracker's
// (PUT /machine-config, vcpu_count).
const (
	MaxVCPUs  = 32
	MinMemory = 128 * MiB
	MaxMemory = 1 * TiB
	MinDisk   = 64 * MiB
	MaxDisk   = 16 * TiB

	// DefaultDisk is the size of both writable disks, which are sparse.
	DefaultDisk = 8 * GiB
)

// HostDefaults returns the CPUs and memory of a VM for which the user asked
// nothing: a quarter of the host's CPUs, 1 to 4, and an eighth of its memory,
// 512 MiB to 8 GiB, in whole mebibytes.
func HostDefaults(hostCPUs int, hostMemory Size) (vcpus int, memory Size) {
	vcpus = min(max(hostCPUs/4, 1), 4)
	memory = min(max(hostMemory/8, 512*MiB), 8*GiB)
	return vcpus, memory / MiB * MiB
}

// CheckVCPUs refuses a number of CPUs that no VM can have.
func CheckVCPUs(n int) error {
	if n < 1 || n > MaxVCPUs {
		return errs.New(errs.Invalid, "a VM cannot have %d CPUs", n).WithHint("give --vcpu 1 to %d", MaxVCPUs)
	}
	return nil
}

// CheckMemory refuses an amount of memory that no VM can have.
func CheckMemory(s Size) error {
	if s < MinMemory || s > MaxMemory || s%MiB != 0 {
		return errs.New(errs.Invalid, "a VM cannot have %s of memory", s).
			WithHint("give --memory %s to %s, in whole mebibytes", MinMemory, MaxMemory)
	}
	return nil
}

// CheckDisk refuses a size that a disk cannot have.
func CheckDisk(s Size) error {
	if s < MinDisk || s > MaxDisk || s%MiB != 0 {
		return errs.New(errs.Invalid, "a disk cannot have %s", s).
			WithHint("give --disk-size %s to %s, in whole mebibytes", MinDisk, MaxDisk)
	}
	return nil
}
