package server

import (
	"context"
	"errors"
	"io"

	bangerv1 "banger/api/banger/v1"
	"banger/api/banger/v1/bangerv1connect"
	"banger/internal/base/progress"
	"banger/internal/vm"
)

type imageService struct{ *Server }

func (s imageService) List(ctx context.Context, _ *bangerv1.ImageListRequest) (*bangerv1.ImageListResponse, error) {
	all, err := s.Images.List(ctx)
	if err != nil {
		return nil, err
	}
	used, _ := s.usage()
	res := &bangerv1.ImageListResponse{}
	for _, i := range all {
		res.Images = append(res.Images, toImage(i, used[i.Digest]))
	}
	return res, nil
}

func (s imageService) Get(ctx context.Context, r *bangerv1.ImageGetRequest) (*bangerv1.ImageGetResponse, error) {
	i, err := s.Images.Get(ctx, r.GetImage())
	if err != nil {
		return nil, err
	}
	used, _ := s.usage()
	return &bangerv1.ImageGetResponse{Image: toImage(i, used[i.Digest])}, nil
}

func (s imageService) Delete(ctx context.Context, r *bangerv1.ImageDeleteRequest) (*bangerv1.ImageDeleteResponse, error) {
	i, freed, err := s.Images.Delete(ctx, r.GetImage())
	if err != nil {
		return nil, err
	}
	return &bangerv1.ImageDeleteResponse{Image: toImage(i, 0), FreedBytes: freed}, nil
}

func (s imageService) Import(ctx context.Context, stream bangerv1connect.ImageServiceImportServerStream) error {
	first, err := stream.Receive()
	if err != nil {
		return err
	}
	r := &upload{receive: stream.Receive, data: first.GetData()}
	return event(stream.Send, func(p progress.Func) (vm.Image, error) {
		return s.Images.Import(ctx, first.GetName(), first.GetSource(), r, p)
	})
}

// upload reads the data of an import's messages.
type upload struct {
	receive func() (*bangerv1.ImageImportRequest, error)
	data    []byte
}

func (u *upload) Read(p []byte) (int, error) {
	for len(u.data) == 0 {
		msg, err := u.receive()
		if errors.Is(err, io.EOF) {
			return 0, io.EOF
		}
		if err != nil {
			return 0, err
		}
		u.data = msg.GetData()
	}
	n := copy(p, u.data)
	u.data = u.data[n:]
	return n, nil
}

func (s imageService) Build(ctx context.Context, r *bangerv1.ImageBuildRequest, stream bangerv1connect.ImageServiceBuildServerStream) error {
	return event(stream.Send, func(p progress.Func) (vm.Image, error) {
		name := r.GetImage()
		if name == "" {
			name = s.VMs.DefaultImage
		}
		return s.Images.Resolve(ctx, name, p)
	})
}

// event runs one action on an image: progress as it comes, then the image.
func event(send func(*bangerv1.ImageEvent) error, do func(progress.Func) (vm.Image, error)) error {
	emit := sender(send)
	i, err := do(func(r progress.Report) {
		emit(&bangerv1.ImageEvent{Event: &bangerv1.ImageEvent_Progress{Progress: toProgress(r)}})
	})
	if err != nil {
		return err
	}
	emit(&bangerv1.ImageEvent{Event: &bangerv1.ImageEvent_Image{Image: toImage(i, 0)}})
	return nil
}

// toImage leaves out the disk of a catalog entry that has not been built.
func toImage(i vm.Image, used int32) *bangerv1.Image {
	return &bangerv1.Image{
		Name: i.Name, Digest: i.Digest, DiskPath: i.Path, DiskBytes: i.Bytes, CreatedAt: timestamp(i.CreatedAt), Source: i.Source, InUse: used,
	}
}
