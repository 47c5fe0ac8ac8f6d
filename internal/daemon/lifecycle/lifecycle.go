// Package lifecycle is the life of VMs: it makes, starts, stops and removes them,
// and after a crash of the daemon or the host it finds out what is true.
//
// Words: a Manager knows all VMs; an actor is the one goroutine that owns one VM,
// and everything that changes a VM runs in it; a View is a VM as others see it.
// A client's context bounds the client's wait and never the VM's life; only a
// creation that is not finished ends with its client.
package lifecycle

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	shimv1 "banger/api/shim/v1"
	"banger/internal/base/errs"
	"banger/internal/base/paths"
	"banger/internal/base/progress"
	"banger/internal/vm"
	"banger/internal/vmm"
)

// Store keeps the records. Every method is durable when it returns nil.
type Store interface {
	InsertVM(ctx context.Context, v vm.VM, op vm.Operation) error
	BindVM(ctx context.Context, id vm.ID, digest, kernel string, config *vm.ImageConfig) error
	SetState(ctx context.Context, v vm.VM) error
	SetBoot(ctx context.Context, id vm.ID, next vm.Boot) error
	DeleteVM(ctx context.Context, id vm.ID) error
	VMs(ctx context.Context) ([]vm.VM, error)
	Journal(ctx context.Context, op vm.Operation) error
	EndOperation(ctx context.Context, id vm.ID) error
	Operations(ctx context.Context) ([]vm.Operation, error)
}

// Images finds or builds the image for a reference.
type Images interface {
	Resolve(ctx context.Context, ref string, p progress.Func) (vm.Image, error)
}

// Kernels finds or fetches kernels, and makes what boots with them.
type Kernels interface {
	// Default returns the kernel of a VM for which none was named.
	Default(ctx context.Context, p progress.Func) (vm.Kernel, error)
	// Resolve returns the kernel that a user's word means, fetched if need be.
	Resolve(ctx context.Context, ref string, p progress.Func) (vm.Kernel, error)
	// Get returns a kernel by its name.
	Get(ctx context.Context, name string) (vm.Kernel, error)
	Initramfs(ctx context.Context, k vm.Kernel, modules []string) (path string, err error)
}

// Shims starts supervisors and finds them again.
type Shims interface {
	// Launch returns when the VMM runs; after an error nothing of it is left.
	Launch(ctx context.Context, c *shimv1.Config) (Shim, error)
	// Attach returns nil when no process has the VM's disks.
	Attach(ctx context.Context, id vm.ID) (Shim, error)
	// LastStatus is what the last shim left behind, or nil.
	LastStatus(id vm.ID) *shimv1.Status
}

// Shim is one running supervisor.
type Shim interface {
	// Updates carries each status; PHASE_EXITED comes last, when nothing runs any
	// more, and then it is closed.
	Updates() <-chan *shimv1.Status
	Shutdown(ctx context.Context, timeout time.Duration) error
	Kill(ctx context.Context, sig syscall.Signal) error
	// Close stops watching; the VM runs on.
	Close()
}

// Options are what a Manager works with.
type Options struct {
	Dirs    paths.Dirs
	Store   Store
	Images  Images
	Kernels Kernels
	Shims   Shims
	Driver  vmm.Driver
	// MakeDisk writes an empty disk of a size, with a label, to a path that does
	// not exist.
	MakeDisk func(ctx context.Context, path string, size vm.Size, label string) error
	Log      *slog.Logger
	// DefaultImage is the image of a VM for which none was named, or why that cannot be
	// said.
	DefaultImage func() (string, error)
	HostCPUs     int
	HostMemory   vm.Size
	// AnnounceTimeout bounds a boot, up to the agent's announcement; 0 means 180 s.
	AnnounceTimeout time.Duration
}

// Bounds of a VM's transitions.
const (
	// announceTimeout is the default of Options.AnnounceTimeout: an emulated guest
	// on a busy host is slow.
	announceTimeout = 180 * time.Second
	// defaultStop bounds an orderly shutdown.
	defaultStop = 60 * time.Second
	// maxStop is the longest one that can be asked for.
	maxStop = time.Hour
	// exitTimeout bounds the end of a VMM that has been killed.
	exitTimeout = 30 * time.Second
)

// Manager knows all VMs of one user.
type Manager struct {
	Options
	// ctx ends at Close; the work of actors depends on nothing else.
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	actors map[vm.ID]*actor
}

// New returns a Manager that knows all VMs of the store, each in its true state:
// what had begun when the last daemon died is adopted, finished or taken back.
func New(ctx context.Context, o Options) (*Manager, error) {
	if o.AnnounceTimeout == 0 {
		o.AnnounceTimeout = announceTimeout
	}
	m := &Manager{Options: o, actors: map[vm.ID]*actor{}}
	m.ctx, m.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if err := m.recover(ctx); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// Close forgets all VMs, which run on, and waits for everything under way.
func (m *Manager) Close() {
	m.cancel()
	m.wg.Wait()
}

// View is a VM as others see it.
type View struct {
	vm.VM
	// Status is the shim's, nil while no VMM runs.
	Status *shimv1.Status
	// Files are the VM's on the host.
	Files paths.VM
	// Driver is the VMM driver's name.
	Driver string
	// DiskUsed is what the VM's own disks take on the host.
	DiskUsed vm.Size
}

// List returns all VMs, oldest first.
func (m *Manager) List() []View {
	m.mu.Lock()
	actors := make([]*actor, 0, len(m.actors))
	for _, a := range m.actors {
		actors = append(actors, a)
	}
	m.mu.Unlock()
	views := make([]View, 0, len(actors))
	for _, a := range actors {
		v, _ := a.look()
		v.measure()
		views = append(views, v)
	}
	slices.SortFunc(views, func(a, b View) int {
		if c := a.CreatedAt.Compare(b.CreatedAt); c != 0 {
			return c
		}
		return strings.Compare(string(a.ID), string(b.ID))
	})
	return views
}

// Get returns the VM of a name or a unique prefix of its id.
func (m *Manager) Get(ref string) (View, error) {
	a, err := m.find(ref)
	if err != nil {
		return View{}, err
	}
	v, _ := a.look()
	v.measure()
	return v, nil
}

// minPrefix is the shortest prefix of an id that names a VM.
const minPrefix = 4

func (m *Manager) find(ref string) (*actor, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var byPrefix []*actor
	for id, a := range m.actors {
		if v, _ := a.look(); string(v.Spec.Name) == ref {
			return a, nil
		}
		if len(ref) >= minPrefix && strings.HasPrefix(string(id), ref) {
			byPrefix = append(byPrefix, a)
		}
	}
	switch len(byPrefix) {
	case 1:
		return byPrefix[0], nil
	case 0:
		return nil, errs.New(errs.NotFound, "there is no VM %q", ref).WithHint("banger vm list")
	}
	return nil, errs.New(errs.Invalid, "%q is the beginning of %d VMs' ids", ref, len(byPrefix)).WithHint("banger vm list")
}

// add makes the actor of a VM known and lets it run.
func (m *Manager) add(v vm.VM, shim Shim) *actor {
	a := &actor{
		m: m, id: v.ID, inbox: make(chan func()), done: make(chan struct{}), rec: v, shim: shim,
		changed: make(chan struct{}),
	}
	a.publish()
	m.mu.Lock()
	m.actors[v.ID] = a
	m.mu.Unlock()
	m.wg.Go(a.loop)
	return a
}

// remove forgets a VM that has gone.
func (m *Manager) remove(id vm.ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.actors, id)
}

// measure looks at the VM's disks.
func (v *View) measure() {
	v.DiskUsed = diskUsed(v.Files)
	v.Spec.Work = diskSize(v.Files.WorkDisk(), v.Spec.Work)
}

// diskUsed is what the disks of a VM take, by their allocated blocks.
func diskUsed(files paths.VM) (total vm.Size) {
	for _, path := range []string{files.SystemDisk(), files.WorkDisk()} {
		var st syscall.Stat_t
		if syscall.Stat(path, &st) == nil {
			total += vm.Size(st.Blocks * 512)
		}
	}
	return total
}
