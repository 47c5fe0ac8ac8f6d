package cli

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	bangerv1 "banger/api/banger/v1"
	"banger/api/banger/v1/bangerv1connect"
	"banger/internal/base/errs"
)

// fakeKernels knows one kernel on disk, two of Debian's, and what was sent to it.
type fakeKernels struct {
	bangerv1connect.UnimplementedKernelServiceHandler
	d *fakeDaemon
}

const fakeKernel = "6.12.1-cloud-amd64"

func (fakeKernels) kernel() *bangerv1.Kernel {
	return &bangerv1.Kernel{
		Name: fakeKernel, Release: fakeKernel, DiskBytes: 3 << 20, Default: true, InUse: 1, Vms: []string{"up"}, Format: "bzImage", Modules: 7,
		Digest: "sha256:" + strings.Repeat("ab", 32), ImageDigest: "sha256:" + strings.Repeat("cd", 32), ModulesDigest: "sha256:" + strings.Repeat("ef", 32),
		Origin: &bangerv1.KernelOrigin{
			Kind: "debian", Package: "linux-image-" + fakeKernel, Suite: "bookworm", Key: "B8B80B5B623EAB6AD8775C45B7C5D7D6350947F8",
			IndexDate: timestamppb.New(time.Unix(1783765000, 0)), Url: "http://mirror/pool/k.deb", FileDigest: "sha256:" + strings.Repeat("01", 32),
		},
		Options: []*bangerv1.KernelOption{{Name: "CONFIG_EXT4_FS", State: "module", Module: "ext4", Reason: "the disks", Required: true}, {Name: "CONFIG_EROFS_FS", State: "missing"}},
	}
}

func (k fakeKernels) List(context.Context, *bangerv1.KernelListRequest) (*bangerv1.KernelListResponse, error) {
	return &bangerv1.KernelListResponse{Kernels: []*bangerv1.Kernel{k.kernel()}}, nil
}

func (k fakeKernels) Get(_ context.Context, r *bangerv1.KernelGetRequest) (*bangerv1.KernelGetResponse, error) {
	if r.GetKernel() != fakeKernel {
		return nil, errs.New(errs.NotFound, "there is no kernel %q", r.GetKernel()).WithHint("banger kernel list")
	}
	return &bangerv1.KernelGetResponse{Kernel: k.kernel()}, nil
}

func (k fakeKernels) Delete(_ context.Context, r *bangerv1.KernelDeleteRequest) (*bangerv1.KernelDeleteResponse, error) {
	if r.GetKernel() == fakeKernel {
		return nil, errs.New(errs.Conflict, "the kernel %q is in use by the VM %q", r.GetKernel(), "up")
	}
	return &bangerv1.KernelDeleteResponse{}, nil
}

func (k fakeKernels) Catalog(_ context.Context, r *bangerv1.KernelCatalogRequest, s bangerv1connect.KernelServiceCatalogServerStream) error {
	list := &bangerv1.KernelCatalog{Sources: "/etc/apt", Kernels: []*bangerv1.KernelCandidate{
		{Release: "6.12.2-cloud-amd64", Version: "6.12.2-1", FetchBytes: 30 << 20, Default: true, Mirror: "http://mirror", Suite: "bookworm-security"},
		{Release: fakeKernel, Version: "6.12.1-1", FetchBytes: 30 << 20, Here: fakeKernel, Mirror: "http://mirror", Suite: "bookworm"},
	}}
	if r.GetAll() {
		list.Kernels = append(list.Kernels, &bangerv1.KernelCandidate{Release: "6.1.0-9-rt-amd64"})
	}
	progress := &bangerv1.KernelCatalogEvent_Progress{Progress: &bangerv1.Progress{Phase: "kernel", Detail: "asking"}}
	return errors.Join(s.Send(&bangerv1.KernelCatalogEvent{Event: progress}), s.Send(&bangerv1.KernelCatalogEvent{Event: &bangerv1.KernelCatalogEvent_Catalog{Catalog: list}}))
}

// made sends a kernel's making.
func made(send func(*bangerv1.KernelEvent) error, event *bangerv1.KernelEvent, k *bangerv1.Kernel) error {
	event.Event = &bangerv1.KernelEvent_Kernel{Kernel: k}
	progress := &bangerv1.KernelEvent_Progress{Progress: &bangerv1.Progress{Phase: "kernel", Detail: "unpacking"}}
	return errors.Join(send(&bangerv1.KernelEvent{Event: progress}), send(event))
}

func (k fakeKernels) Pull(_ context.Context, r *bangerv1.KernelPullRequest, s bangerv1connect.KernelServicePullServerStream) error {
	k.d.called(strings.Join([]string{"pull", r.GetKernel(), r.GetUrl(), r.GetDigest(), r.GetName(), r.GetModulesUrl(), r.GetModulesDigest(), string(r.GetConfig())}, "|"))
	switch r.GetKernel() {
	case "6.12":
		return made(s.Send, &bangerv1.KernelEvent{Already: true}, k.kernel())
	case "6.2":
		return errs.New(errs.NotFound, "the Debian mirror has no kernel %q", "6.2").WithHint("banger kernel catalog")
	}
	return made(s.Send, &bangerv1.KernelEvent{Before: fakeKernel}, &bangerv1.Kernel{Name: "6.12.2-cloud-amd64", Default: r.GetUrl() == ""})
}

func (k fakeKernels) Import(_ context.Context, s bangerv1connect.KernelServiceImportServerStream) error {
	head, err := s.Receive()
	if err != nil {
		return err
	}
	parts := map[bangerv1.KernelImportRequest_Part][]byte{}
	for {
		r, err := s.Receive()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		parts[r.GetPart()] = append(parts[r.GetPart()], r.GetData()...)
	}
	k.d.mu.Lock()
	k.d.kernelHead, k.d.kernelParts = head, parts
	k.d.mu.Unlock()
	return made(s.Send, &bangerv1.KernelEvent{}, &bangerv1.Kernel{Name: head.GetName()})
}

// Set changes a VM; one that runs has what it had until its next start.
func (d *fakeDaemon) Set(_ context.Context, r *bangerv1.SetRequest, s bangerv1connect.VMServiceSetServerStream) error {
	d.called("set " + r.GetVm())
	v, err := d.find(r.GetVm())
	if err != nil {
		return err
	}
	if v.GetState() == bangerv1.State_STATE_RUNNING {
		v.Boot = &bangerv1.VMBoot{Kernel: v.GetKernel(), Vcpus: v.GetVcpus(), MemoryBytes: v.GetMemoryBytes()}
	}
	if r.Kernel != nil {
		v.Kernel = r.GetKernel()
	}
	if r.Vcpus != nil {
		v.Vcpus = r.GetVcpus()
	}
	if r.MemoryBytes != nil {
		v.MemoryBytes = r.GetMemoryBytes()
	}
	d.mu.Lock()
	for i := range d.vms {
		if d.vms[i].GetId() == v.GetId() {
			d.vms[i] = v
		}
	}
	d.mu.Unlock()
	return errors.Join(s.Send(phaseEvent("kernel")), s.Send(vmEvent(v)))
}
