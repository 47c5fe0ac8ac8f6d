// Package server answers the daemon's API: it translates between protobuf and
// the services, and decides nothing.
package server

import (
	"context"
	"os"
	"sync"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/types/known/timestamppb"

	bangerv1 "banger/api/banger/v1"
	"banger/api/banger/v1/bangerv1connect"
	"banger/internal/base/paths"
	"banger/internal/base/progress"
	"banger/internal/base/version"
	"banger/internal/daemon/images"
	"banger/internal/daemon/kernels"
	"banger/internal/daemon/lifecycle"
	"banger/internal/vm"
)

// Server is the API over the daemon's services.
type Server struct {
	Dirs    paths.Dirs
	VMs     *lifecycle.Manager
	Images  *images.Service
	Kernels *kernels.Service
	Started time.Time
	// Shutdown asks the daemon to end; it returns at once.
	Shutdown func()
}

// Register adds all services to methods.
func (s *Server) Register(methods *connect.Server) {
	bangerv1connect.RegisterVMServiceHandler(methods, vmService{s})
	bangerv1connect.RegisterImageServiceHandler(methods, imageService{s})
	bangerv1connect.RegisterKernelServiceHandler(methods, kernelService{s})
	bangerv1connect.RegisterHostServiceHandler(methods, hostService{s})
}

// sender makes a stream's Send safe for the goroutines that report progress. An
// error is the client's departure, which the stream's context tells as well.
func sender[T any](send func(T) error) func(T) {
	var mu sync.Mutex
	return func(msg T) {
		mu.Lock()
		defer mu.Unlock()
		_ = send(msg)
	}
}

func toProgress(r progress.Report) *bangerv1.Progress {
	return &bangerv1.Progress{Phase: r.Phase, Detail: r.Detail, DoneBytes: r.Done, TotalBytes: r.Total}
}

// usage counts the VMs of each image digest and of each kernel.
func (s *Server) usage() (byImage, byKernel map[string]int32) {
	byImage, byKernel = map[string]int32{}, map[string]int32{}
	for _, v := range s.VMs.List() {
		byImage[v.Spec.ImageDigest]++
		byKernel[v.Spec.Kernel]++
	}
	return byImage, byKernel
}

func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

type kernelService struct{ *Server }

func (s kernelService) List(ctx context.Context, _ *bangerv1.KernelListRequest) (*bangerv1.KernelListResponse, error) {
	all, err := s.Kernels.List(ctx)
	if err != nil {
		return nil, err
	}
	_, used := s.usage()
	res := &bangerv1.KernelListResponse{}
	for _, k := range all {
		res.Kernels = append(res.Kernels, &bangerv1.Kernel{
			Release: k.Release, Version: k.Version, Digest: k.Digest, Path: k.Path, ModulesDisk: k.ModulesDisk, DiskBytes: k.Bytes,
			Source: k.Source, CreatedAt: timestamp(k.CreatedAt), InUse: used[k.Release],
		})
	}
	return res, nil
}

type hostService struct{ *Server }

func (s hostService) Status(context.Context, *bangerv1.StatusRequest) (*bangerv1.StatusResponse, error) {
	binary, err := os.Executable()
	if err != nil {
		return nil, err
	}
	res := &bangerv1.StatusResponse{
		Pid: int32(os.Getpid()), Version: version.String(), Socket: s.Dirs.DaemonSocket(), StateDir: s.Dirs.State,
		StartedAt: timestamp(s.Started), Log: s.Dirs.DaemonLog(), Binary: binary,
	}
	for _, v := range s.VMs.List() {
		res.Vms++
		if v.State == vm.Running {
			res.Running++
		}
	}
	return res, nil
}

func (s hostService) Shutdown(context.Context, *bangerv1.ShutdownRequest) (*bangerv1.ShutdownResponse, error) {
	s.Server.Shutdown()
	return &bangerv1.ShutdownResponse{}, nil
}
