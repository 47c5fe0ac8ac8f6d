package lifecycle

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	shimv1 "banger/api/shim/v1"
	"banger/internal/base/errs"
	"banger/internal/base/progress"
	"banger/internal/guestabi"
	"banger/internal/vm"
)

// Request describes a VM to make. Zero values take the defaults.
type Request struct {
	Name, Image string
	// Kernel is a kernel's name, or what Kernels.Resolve takes.
	Kernel       string
	VCPUs        int
	Memory, Disk vm.Size
	RemoveOnStop bool
	// Start boots it too. Hold, with Start, ends it with its last holder.
	Start, Hold bool
}

// actionCreate is the journal's word for a creation: whatever a crash leaves of
// one is taken back, since the client that wanted it has gone.
const actionCreate = "create"

// minFree is the space that must be free before a VM's disks are promised.
const minFree = 256 * vm.MiB

// Create makes a VM. When ctx ends before it returns, all of it is undone; the same
// holds for a failure before the boot. A guest that does not boot is left stopped,
// with the error, so that its console log can be read.
func (m *Manager) Create(ctx context.Context, r Request, p progress.Func) (View, error) {
	m.wg.Add(1)
	defer m.wg.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(m.ctx, cancel)()

	p.Send(progress.Report{Phase: "spec", Detail: "reserving the name"})
	a, err := m.reserve(ctx, r, cancel)
	if err != nil {
		return View{}, err
	}
	booted, err := m.build(ctx, a, r, p)
	if ctx.Err() != nil && err == nil {
		err = ctx.Err()
	}
	if err == nil || (booted && ctx.Err() == nil) {
		// From here on the VM belongs to the user.
		endErr := a.call(m.ctx, func() error {
			a.abort = nil
			if err == nil && a.rec.State == vm.Stopped && a.rec.Spec.RemoveOnStop && r.Start {
				return a.destroy() // it has run and ended before anybody could say so
			}
			return m.Store.EndOperation(m.ctx, a.id)
		})
		v, _ := a.look()
		return v, errors.Join(err, endErr)
	}
	if undoErr := a.call(context.WithoutCancel(ctx), a.destroy); undoErr != nil && errs.KindOf(undoErr) != errs.NotFound {
		m.Log.Error("cannot undo a creation", "vm", a.name(), "err", undoErr)
		err = errors.Join(err, fmt.Errorf("and it could not be undone: %w", undoErr))
	}
	return View{}, err
}

// reserve checks the request and writes the VM's first record.
func (m *Manager) reserve(ctx context.Context, r Request, abort context.CancelFunc) (*actor, error) {
	spec, err := m.spec(r)
	if err != nil {
		return nil, err
	}
	for {
		if r.Name == "" {
			spec.Name = vm.RandomName()
		}
		v := vm.VM{ID: newID(), Spec: spec, State: vm.Creating, CreatedAt: time.Now()}
		err := m.Store.InsertVM(ctx, v, vm.Operation{VM: v.ID, Action: actionCreate, Step: "record"})
		if r.Name == "" && errs.KindOf(err) == errs.Exists {
			continue
		}
		if err != nil {
			return nil, err
		}
		a := m.add(v, nil)
		return a, a.call(m.ctx, func() error { a.abort = abort; return nil })
	}
}

func newID() vm.ID {
	b := make([]byte, 8)
	_, _ = rand.Read(b) // never fails
	return vm.ID(hex.EncodeToString(b))
}

// spec fills in the defaults and refuses what cannot be.
func (m *Manager) spec(r Request) (vm.Spec, error) {
	vcpus, memory := vm.HostDefaults(m.HostCPUs, m.HostMemory)
	s := vm.Spec{
		Name: vm.Name(r.Name), Image: r.Image, VCPUs: r.VCPUs, Memory: r.Memory, System: vm.DefaultDisk, Work: r.Disk, RemoveOnStop: r.RemoveOnStop,
	}
	if s.Image == "" {
		name, err := m.DefaultImage()
		if err != nil {
			return s, err
		}
		s.Image = name
	}
	if s.VCPUs == 0 {
		s.VCPUs = vcpus
	}
	if s.Memory == 0 {
		s.Memory = memory
	}
	if s.Work == 0 {
		s.Work = vm.DefaultDisk
	}
	if r.Name != "" {
		if _, err := vm.ParseName(r.Name); err != nil {
			return s, err
		}
	}
	if err := vm.CheckVCPUs(s.VCPUs); err != nil {
		return s, err
	}
	if err := vm.CheckMemory(s.Memory); err != nil {
		return s, err
	}
	return s, vm.CheckDisk(s.Work)
}

// build takes a reserved VM to the end of its creation; booted says that its boot
// had begun.
func (m *Manager) build(ctx context.Context, a *actor, r Request, p progress.Func) (booted bool, err error) {
	step := func(name string) error {
		return m.Store.Journal(ctx, vm.Operation{VM: a.id, Action: actionCreate, Step: name})
	}
	if err := step("image and kernel"); err != nil {
		return false, err
	}
	if err := m.bind(ctx, a, r, p); err != nil {
		return false, err
	}
	if err := step("disks"); err != nil {
		return false, err
	}
	p.Send(progress.Report{Phase: "disks", Detail: "making the disks"})
	if err := m.makeDisks(ctx, a); err != nil {
		return false, err
	}
	if err := a.call(ctx, func() error { return a.move(vm.Stopped, "never started") }); err != nil {
		return false, err
	}
	if !r.Start {
		return false, nil
	}
	if err := step("boot"); err != nil {
		return false, err
	}
	p.Send(progress.Report{Phase: "boot", Detail: "starting the VMM"})
	if err := a.call(ctx, func() error { return a.launch(r.Hold) }); err != nil {
		return false, err
	}
	return true, a.awaitRunning(ctx, p)
}

// bind resolves image and kernel at the same time and ties the VM to them.
func (m *Manager) bind(ctx context.Context, a *actor, r Request, p progress.Func) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var image vm.Image
	var kernel vm.Kernel
	var imageErr, kernelErr error
	var wg sync.WaitGroup
	v, _ := a.look()
	wg.Go(func() {
		if image, imageErr = m.Images.Resolve(ctx, v.Spec.Image, p); imageErr != nil {
			cancel()
		}
	})
	wg.Go(func() {
		if kernel, kernelErr = m.kernel(ctx, r.Kernel, p); kernelErr != nil {
			cancel()
		}
	})
	wg.Wait()
	// The one that failed first cancelled the other.
	for _, err := range []error{imageErr, kernelErr} {
		if err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
	}
	if err := errors.Join(imageErr, kernelErr); err != nil {
		return err
	}
	return a.call(ctx, func() error {
		config := image.Config.ForVM()
		if err := m.Store.BindVM(m.ctx, a.id, image.Digest, kernel.Name, config); err != nil {
			return err
		}
		a.rec.Spec.Image, a.rec.Spec.ImageDigest, a.rec.Spec.Kernel, a.rec.Spec.Config = v.Spec.Image, image.Digest, kernel.Name, config
		a.publish()
		return nil
	})
}

// kernel returns the kernel that ref means, or the default one.
func (m *Manager) kernel(ctx context.Context, ref string, p progress.Func) (vm.Kernel, error) {
	if ref == "" {
		return m.Kernels.Default(ctx, p)
	}
	return m.Kernels.Resolve(ctx, ref, p)
}

// makeDisks makes the VM's folder and its two writable disks.
func (m *Manager) makeDisks(ctx context.Context, a *actor) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(m.Dirs.State, &fs); err != nil {
		return err
	}
	if free := vm.Size(fs.Bavail * uint64(fs.Bsize)); free < minFree {
		return errs.New(errs.Unavailable, "cannot make the disks of a VM: only %s are free in %q", free.Approx(), m.Dirs.State).
			WithHint("free some space, or set XDG_STATE_HOME to a larger file system")
	}
	v, _ := a.look()
	if err := os.MkdirAll(v.Files.State, 0o700); err != nil {
		return err
	}
	if err := m.MakeDisk(ctx, v.Files.SystemDisk(), v.Spec.System, "system"); err != nil {
		return err
	}
	return m.MakeDisk(ctx, v.Files.WorkDisk(), v.Spec.Work, "work")
}

// shimConfig is all that a shim needs to run the VM.
func (m *Manager) shimConfig(ctx context.Context, v vm.VM, hold bool) (*shimv1.Config, error) {
	kernel, err := m.Kernels.Get(ctx, v.Spec.Kernel)
	if err != nil {
		return nil, err
	}
	base := m.Dirs.BaseDisk(v.Spec.ImageDigest)
	if _, err := os.Stat(base); err != nil {
		return nil, errs.New(errs.Unavailable, "the base disk of the VM %q is missing: %w", v.Spec.Name, err).
			WithHint("restore it, or copy what you need from the VM's work disk and make a new VM")
	}
	initramfs, err := m.Kernels.Initramfs(ctx, kernel, append(m.Driver.Guest().Modules, "ext4", "overlay"))
	if err != nil {
		return nil, err
	}
	files := m.Dirs.VM(string(v.ID))
	return &shimv1.Config{
		VmId: string(v.ID), Name: string(v.Spec.Name), StateDir: files.State, RunDir: files.Run, Driver: m.Driver.Name(),
		Vcpus: int32(v.Spec.VCPUs), MemoryBytes: int64(v.Spec.Memory), Kernel: kernel.Path, Initramfs: initramfs,
		CommandLine: strings.Join([]string{guestabi.ArgVM + "=" + string(v.ID), guestabi.ArgHostname + "=" + string(v.Spec.Name)}, " "),
		Disks: []*shimv1.Disk{ // the order of guestabi's constants
			{Id: "base", Path: base, ReadOnly: true},
			{Id: "system", Path: files.SystemDisk()},
			{Id: "work", Path: files.WorkDisk()},
			{Id: "modules", Path: kernel.ModulesDisk, ReadOnly: true},
		},
		AnnounceTimeoutMs: m.AnnounceTimeout.Milliseconds(), Hold: hold,
	}, nil
}
