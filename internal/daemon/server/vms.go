package server

import (
	"context"
	"syscall"
	"time"

	bangerv1 "banger/api/banger/v1"
	"banger/api/banger/v1/bangerv1connect"
	"banger/internal/base/errs"
	"banger/internal/base/progress"
	"banger/internal/daemon/lifecycle"
	"banger/internal/vm"
)

type vmService struct{ *Server }

// operation runs one action on a VM: progress as it comes, then the VM.
func operation(send func(*bangerv1.OperationEvent) error, do func(progress.Func) (lifecycle.View, error)) error {
	emit := sender(send)
	v, err := do(func(r progress.Report) {
		emit(&bangerv1.OperationEvent{Event: &bangerv1.OperationEvent_Progress{Progress: toProgress(r)}})
	})
	if err != nil {
		return err
	}
	emit(&bangerv1.OperationEvent{Event: &bangerv1.OperationEvent_Vm{Vm: toVM(v)}})
	return nil
}

func (s vmService) Create(ctx context.Context, r *bangerv1.CreateRequest, stream bangerv1connect.VMServiceCreateServerStream) error {
	q := lifecycle.Request{
		Name: r.GetName(), Image: r.GetImage(), VCPUs: int(r.GetVcpus()), Memory: vm.Size(r.GetMemoryBytes()), Disk: vm.Size(r.GetDiskBytes()),
		RemoveOnStop: r.GetRemoveOnStop(), Start: r.GetStart(), Hold: r.GetHold(), Kernel: r.GetKernel(),
	}
	// A number that was given is never a default.
	switch {
	case r.Vcpus != nil && q.VCPUs == 0:
		return vm.CheckVCPUs(0)
	case r.MemoryBytes != nil && q.Memory == 0:
		return vm.CheckMemory(0)
	case r.DiskBytes != nil && q.Disk == 0:
		return vm.CheckDisk(0)
	case q.Hold && !q.Start:
		return errs.New(errs.Invalid, "a VM cannot be held without being started")
	}
	return operation(stream.Send, func(p progress.Func) (lifecycle.View, error) { return s.VMs.Create(ctx, q, p) })
}

func (s vmService) Start(ctx context.Context, r *bangerv1.StartRequest, stream bangerv1connect.VMServiceStartServerStream) error {
	return operation(stream.Send, func(p progress.Func) (lifecycle.View, error) { return s.VMs.Start(ctx, r.GetVm(), p) })
}

func (s vmService) Stop(ctx context.Context, r *bangerv1.StopRequest, stream bangerv1connect.VMServiceStopServerStream) error {
	return operation(stream.Send, func(p progress.Func) (lifecycle.View, error) {
		return s.VMs.Stop(ctx, r.GetVm(), seconds(r.GetTimeoutSeconds()), p)
	})
}

func (s vmService) Restart(ctx context.Context, r *bangerv1.RestartRequest, stream bangerv1connect.VMServiceRestartServerStream) error {
	return operation(stream.Send, func(p progress.Func) (lifecycle.View, error) {
		return s.VMs.Restart(ctx, r.GetVm(), seconds(r.GetTimeoutSeconds()), p)
	})
}

func (s vmService) Kill(ctx context.Context, r *bangerv1.KillRequest, stream bangerv1connect.VMServiceKillServerStream) error {
	return operation(stream.Send, func(progress.Func) (lifecycle.View, error) {
		return s.VMs.Kill(ctx, r.GetVm(), syscall.Signal(r.GetSignal()))
	})
}

func (s vmService) Set(ctx context.Context, r *bangerv1.SetRequest, stream bangerv1connect.VMServiceSetServerStream) error {
	var c lifecycle.Change
	if r.Kernel != nil {
		c.Kernel = new(r.GetKernel())
	}
	if r.Vcpus != nil {
		c.VCPUs = new(int(r.GetVcpus()))
	}
	if r.MemoryBytes != nil {
		c.Memory = new(vm.Size(r.GetMemoryBytes()))
	}
	return operation(stream.Send, func(p progress.Func) (lifecycle.View, error) { return s.VMs.Set(ctx, r.GetVm(), c, p) })
}

func (s vmService) Delete(ctx context.Context, r *bangerv1.DeleteRequest, stream bangerv1connect.VMServiceDeleteServerStream) error {
	return operation(stream.Send, func(p progress.Func) (lifecycle.View, error) {
		return s.VMs.Delete(ctx, r.GetVm(), r.GetForce(), p)
	})
}

func (s vmService) List(context.Context, *bangerv1.ListRequest) (*bangerv1.ListResponse, error) {
	res := &bangerv1.ListResponse{}
	for _, v := range s.VMs.List() {
		m := toVM(v)
		m.Config = nil // many of them could be more than a message holds
		res.Vms = append(res.Vms, m)
	}
	return res, nil
}

func (s vmService) Get(_ context.Context, r *bangerv1.GetRequest) (*bangerv1.GetResponse, error) {
	v, err := s.VMs.Get(r.GetVm())
	if err != nil {
		return nil, err
	}
	return &bangerv1.GetResponse{Vm: toVM(v)}, nil
}

func (s vmService) Logs(ctx context.Context, r *bangerv1.LogsRequest, stream bangerv1connect.VMServiceLogsServerStream) error {
	return s.VMs.Logs(ctx, r.GetVm(), int(r.GetTailLines()), r.GetFollow(), func(data []byte) error {
		return stream.Send(&bangerv1.LogsResponse{Data: data})
	})
}

func (s vmService) Disk(ctx context.Context, r *bangerv1.DiskRequest) (*bangerv1.DiskResponse, error) {
	d, err := s.VMs.Disk(ctx, r.GetVm(), r.GetDisk(), r.GetWrite())
	if err != nil {
		return nil, err
	}
	return &bangerv1.DiskResponse{Path: d.Path, Lock: d.Lock, Vm: string(d.VM)}, nil
}

func seconds(n int32) time.Duration { return time.Duration(n) * time.Second }

var states = map[vm.State]bangerv1.State{
	vm.Creating: bangerv1.State_STATE_CREATING, vm.Stopped: bangerv1.State_STATE_STOPPED, vm.Starting: bangerv1.State_STATE_STARTING,
	vm.Running: bangerv1.State_STATE_RUNNING, vm.Stopping: bangerv1.State_STATE_STOPPING, vm.Deleting: bangerv1.State_STATE_DELETING,
}

func toVM(v lifecycle.View) *bangerv1.VM {
	m := &bangerv1.VM{
		Id: string(v.ID), Name: string(v.Spec.Name), State: states[v.State], Reason: v.Reason,
		Image: v.Spec.Image, ImageDigest: v.Spec.ImageDigest, Kernel: v.Spec.Kernel,
		Vcpus: int32(v.Spec.VCPUs), MemoryBytes: int64(v.Spec.Memory), DiskBytes: int64(v.Spec.Work), DiskUsedBytes: int64(v.DiskUsed),
		CreatedAt: timestamp(v.CreatedAt), StartedAt: timestamp(v.StartedAt), RemoveOnStop: v.Spec.RemoveOnStop,
		Vmm: v.Driver, ConsoleLog: v.Files.ConsoleLog(), Config: toConfig(v.Spec.Config),
	}
	if v.Boot != (vm.Boot{}) {
		m.Boot = &bangerv1.VMBoot{Kernel: v.Boot.Kernel, Vcpus: int32(v.Boot.VCPUs), MemoryBytes: int64(v.Boot.Memory)}
	}
	if st := v.Status; st != nil {
		m.Accelerator, m.Pid, m.ShimPid, m.BootId, m.Init = st.GetAccelerator(), st.GetVmmPid(), st.GetShimPid(), st.GetBootId(), st.GetInit()
		m.ShimSocket, m.GuestSocket = v.Files.ShimSocket(), v.Files.GuestSocket()
	}
	return m
}
