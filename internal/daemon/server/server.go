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
	// Recipe makes an entry for the image service of what a user has described.
	Recipe  func(name, from, variant string, packages []string) (images.Entry, error)
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

// usage counts the VMs of each image digest.
func (s *Server) usage() map[string]int32 {
	byImage := map[string]int32{}
	for _, v := range s.VMs.List() {
		byImage[v.Spec.ImageDigest]++
	}
	return byImage
}

func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
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
