package lifecycle

import (
	"context"
	"os"

	"banger/internal/base/disklock"
	"banger/internal/base/errs"
	"banger/internal/vm"
)

// Names of a VM's disks, for users.
const (
	DiskWork   = "work"
	DiskSystem = "system"
	DiskBase   = "base"
)

// Disk is where a disk of a VM lies.
type Disk struct {
	VM   vm.Name
	Path string
	// Lock is the file of the disklock, empty for a base disk.
	Lock string
}

// Disk returns a disk of a VM that is stopped; write says that it will be changed.
// A base disk never changes: it may be read at any time, and not be written.
func (m *Manager) Disk(ctx context.Context, ref, name string, write bool) (Disk, error) {
	a, err := m.find(ref)
	if err != nil {
		return Disk{}, err
	}
	d := Disk{VM: a.name()}
	err = a.call(ctx, func() error {
		if err := a.notCreating(); err != nil {
			return err
		}
		files := m.Dirs.VM(string(a.id))
		switch name {
		case DiskWork:
			d.Path, d.Lock = files.WorkDisk(), files.Lock()
		case DiskSystem:
			d.Path, d.Lock = files.SystemDisk(), files.Lock()
		case DiskBase:
			if write {
				return errs.New(errs.Conflict, "the base disk of the VM %q is read-only: all VMs of the image %q share it", d.VM, a.rec.Spec.Image).
					WithHint("change the VM's own layer over it, %s:%s", d.VM, DiskSystem)
			}
			d.Path = m.Dirs.BaseDisk(a.rec.Spec.ImageDigest)
			return nil
		default:
			return errs.New(errs.Invalid, "a VM has no disk %q", name).WithHint("name one of work, system and base, as in %s:work", d.VM)
		}
		if a.rec.State != vm.Stopped {
			return errs.New(errs.Conflict, "the VM %q is %s, and its disks are in use", d.VM, a.rec.State).WithHint("banger vm stop %s", d.VM)
		}
		return nil
	})
	return d, err
}

// diskSize is the size that a disk has now, which may have been grown, or the one that it was
// made with.
func diskSize(path string, made vm.Size) vm.Size {
	if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Size() > 0 {
		return vm.Size(info.Size())
	}
	return made
}

// notEdited refuses a VM whose disks a command works on; runs in the actor.
func (a *actor) notEdited() error {
	if a.shim != nil {
		return nil
	}
	err := disklock.Busy(a.m.Dirs.VM(string(a.id)).Lock())
	if err == nil {
		return nil
	}
	return errs.New(errs.KindOf(err), "the VM %q cannot have its disks: %w", a.name(), err)
}
