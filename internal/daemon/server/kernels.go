package server

import (
	"context"
	"errors"
	"io"

	bangerv1 "banger/api/banger/v1"
	"banger/api/banger/v1/bangerv1connect"
	"banger/internal/base/errs"
	"banger/internal/base/progress"
	"banger/internal/daemon/kernels"
	"banger/internal/vm"
)

type kernelService struct{ *Server }

// users names the VMs of each kernel: those that are to boot it, and those that run it.
func (s kernelService) users() map[string][]string {
	byKernel := map[string][]string{}
	for _, v := range s.VMs.List() {
		byKernel[v.Spec.Kernel] = append(byKernel[v.Spec.Kernel], string(v.Spec.Name))
		if v.Boot.Kernel != v.Spec.Kernel && v.Boot.Kernel != "" {
			byKernel[v.Boot.Kernel] = append(byKernel[v.Boot.Kernel], string(v.Spec.Name))
		}
	}
	return byKernel
}

func (s kernelService) List(ctx context.Context, _ *bangerv1.KernelListRequest) (*bangerv1.KernelListResponse, error) {
	all, err := s.Kernels.List(ctx)
	if err != nil {
		return nil, err
	}
	preferred, err := s.Kernels.DefaultName(ctx)
	if err != nil {
		return nil, err
	}
	used := s.users()
	res := &bangerv1.KernelListResponse{}
	for _, k := range all {
		res.Kernels = append(res.Kernels, toKernel(k, preferred, used[k.Name]))
	}
	return res, nil
}

func (s kernelService) Get(ctx context.Context, r *bangerv1.KernelGetRequest) (*bangerv1.KernelGetResponse, error) {
	k, err := s.Kernels.Get(ctx, r.GetKernel())
	if err != nil {
		return nil, err
	}
	m, err := s.kernel(ctx, k)
	if err != nil {
		return nil, err
	}
	return &bangerv1.KernelGetResponse{Kernel: m}, nil
}

// kernel is one kernel with all that is known of it.
func (s kernelService) kernel(ctx context.Context, k vm.Kernel) (*bangerv1.Kernel, error) {
	preferred, err := s.Kernels.DefaultName(ctx)
	return toKernel(k, preferred, s.users()[k.Name]), err
}

func (s kernelService) Delete(ctx context.Context, r *bangerv1.KernelDeleteRequest) (*bangerv1.KernelDeleteResponse, error) {
	k, err := s.Kernels.Delete(ctx, r.GetKernel())
	if err != nil {
		return nil, err
	}
	return &bangerv1.KernelDeleteResponse{Kernel: toKernel(k, "", nil), FreedBytes: k.Bytes}, nil
}

func (s kernelService) Catalog(ctx context.Context, r *bangerv1.KernelCatalogRequest, stream bangerv1connect.KernelServiceCatalogServerStream) error {
	emit := sender(stream.Send)
	all, from, err := s.Kernels.Catalog(ctx, r.GetAll(), r.GetAllowOlder(), func(p progress.Report) {
		emit(&bangerv1.KernelCatalogEvent{Event: &bangerv1.KernelCatalogEvent_Progress{Progress: toProgress(p)}})
	})
	if err != nil {
		return err
	}
	res := &bangerv1.KernelCatalog{Sources: from}
	for _, c := range all {
		res.Kernels = append(res.Kernels, &bangerv1.KernelCandidate{
			Release: c.Release, Package: c.Package, Version: c.Version, Suite: c.Suite, Mirror: c.Mirror, FetchBytes: c.FetchBytes, Default: c.Default, Here: c.Here,
		})
	}
	emit(&bangerv1.KernelCatalogEvent{Event: &bangerv1.KernelCatalogEvent_Catalog{Catalog: res}})
	return nil
}

func (s kernelService) Pull(ctx context.Context, r *bangerv1.KernelPullRequest, stream bangerv1connect.KernelServicePullServerStream) error {
	byURL := r.GetUrl() != "" || r.GetDigest() != "" || r.GetName() != "" || r.GetModulesUrl() != "" || r.GetModulesDigest() != "" || len(r.GetConfig()) > 0
	if byURL && r.GetKernel() != "" {
		return errs.New(errs.Invalid, "a kernel is pulled either from Debian or from a URL").WithHint("leave one of them out")
	}
	return s.make(ctx, stream.Send, func(p progress.Func) (kernels.Result, error) {
		if !byURL {
			return s.Kernels.Pull(ctx, r.GetKernel(), r.GetAllowOlder(), p)
		}
		return s.Kernels.PullURL(ctx, kernels.URLRequest{
			Name: r.GetName(), URL: r.GetUrl(), Digest: r.GetDigest(), ModulesURL: r.GetModulesUrl(), ModulesDigest: r.GetModulesDigest(), Config: r.GetConfig(),
		}, p)
	})
}

func (s kernelService) Import(ctx context.Context, stream bangerv1connect.KernelServiceImportServerStream) error {
	first, err := stream.Receive()
	if err != nil {
		return err
	}
	parts := &kernelParts{receive: stream.Receive, msg: first}
	return s.make(ctx, stream.Send, func(p progress.Func) (kernels.Result, error) {
		return s.Kernels.Import(ctx, kernels.ImportRequest{Name: first.GetName(), Source: first.GetSource(), Host: first.GetHost()}, parts.next, p)
	})
}

// make runs one action that makes a kernel: progress as it comes, then the kernel.
func (s kernelService) make(ctx context.Context, send func(*bangerv1.KernelEvent) error, do func(progress.Func) (kernels.Result, error)) error {
	emit := sender(send)
	r, err := do(func(p progress.Report) {
		emit(&bangerv1.KernelEvent{Event: &bangerv1.KernelEvent_Progress{Progress: toProgress(p)}})
	})
	if err != nil {
		return err
	}
	k, err := s.kernel(ctx, r.Kernel)
	if err != nil {
		return err
	}
	emit(&bangerv1.KernelEvent{Event: &bangerv1.KernelEvent_Kernel{Kernel: k}, Already: r.Already, Before: r.Before})
	return nil
}

// kernelParts reads the parts of an import, each as long as its data comes.
type kernelParts struct {
	receive func() (*bangerv1.KernelImportRequest, error)
	// msg is the latest message, whose data is not all read; err ends the stream.
	msg *bangerv1.KernelImportRequest
	err error
	// part is the one that is being read.
	part bangerv1.KernelImportRequest_Part
}

var partKinds = map[bangerv1.KernelImportRequest_Part]kernels.PartKind{
	bangerv1.KernelImportRequest_PART_KERNEL: kernels.PartKernel, bangerv1.KernelImportRequest_PART_CONFIG: kernels.PartConfig,
	bangerv1.KernelImportRequest_PART_MODULES: kernels.PartModules,
}

// next returns the next part. What was not read of the one before is passed over.
func (k *kernelParts) next() (kernels.Part, error) {
	for k.err == nil && (k.msg.GetPart() == k.part || len(k.msg.GetData()) == 0) {
		k.msg, k.err = k.receive()
	}
	if k.err != nil {
		return kernels.Part{}, k.err
	}
	k.part = k.msg.GetPart()
	kind, ok := partKinds[k.part]
	if !ok {
		return kernels.Part{}, errs.New(errs.Invalid, "a kernel has no part %d", k.part)
	}
	return kernels.Part{Kind: kind, Data: k}, nil
}

// Read reads the data of the part; the next part's is its end.
func (k *kernelParts) Read(p []byte) (int, error) {
	for k.err == nil && len(k.msg.GetData()) == 0 {
		k.msg, k.err = k.receive()
	}
	switch {
	case errors.Is(k.err, io.EOF):
		return 0, io.EOF
	case k.err != nil:
		return 0, k.err
	case k.msg.GetPart() != k.part:
		return 0, io.EOF
	}
	n := copy(p, k.msg.GetData())
	k.msg.Data = k.msg.GetData()[n:]
	return n, nil
}

func toKernel(k vm.Kernel, preferred string, users []string) *bangerv1.Kernel {
	o := k.Origin
	m := &bangerv1.Kernel{
		Name: k.Name, Release: k.Release, Version: k.Version, Digest: k.Digest, Path: k.Path, ModulesDisk: k.ModulesDisk, DiskBytes: k.Bytes,
		Source: k.Source, CreatedAt: timestamp(k.CreatedAt), InUse: int32(len(users)), Vms: users, Default: k.Name == preferred,
		Format: k.Format, ImageDigest: k.ImageDigest, ModulesDigest: k.ModulesDigest, Modules: int32(k.Modules),
		Origin: &bangerv1.KernelOrigin{
			Kind: o.Kind, Url: o.URL, FileDigest: o.FileDigest, ModulesUrl: o.ModulesURL, ModulesFileDigest: o.ModulesFileDigest,
			Package: o.Package, Suite: o.Suite, IndexDate: timestamp(o.IndexDate), Key: o.Key,
		},
	}
	for _, opt := range k.Options {
		m.Options = append(m.Options, &bangerv1.KernelOption{Name: opt.Name, Module: opt.Module, State: opt.State, Reason: opt.Reason, Required: opt.Required})
	}
	return m
}
