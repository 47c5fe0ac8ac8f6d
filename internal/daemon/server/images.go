package server

import (
	"bufio"
	"context"
	"errors"
	"io"
	"sync"

	bangerv1 "banger/api/banger/v1"
	"banger/api/banger/v1/bangerv1connect"
	"banger/internal/base/progress"
	"banger/internal/daemon/images"
	"banger/internal/vm"
)

type imageService struct{ *Server }

func (s imageService) List(ctx context.Context, _ *bangerv1.ImageListRequest) (*bangerv1.ImageListResponse, error) {
	all, err := s.Images.List(ctx)
	if err != nil {
		return nil, err
	}
	used := s.usage()
	res := &bangerv1.ImageListResponse{}
	for _, i := range all {
		m := toImage(i, used[i.Digest])
		m.Config, m.Origin = nil, nil // many of them could be more than a message holds
		res.Images = append(res.Images, m)
	}
	return res, nil
}

func (s imageService) Get(ctx context.Context, r *bangerv1.ImageGetRequest) (*bangerv1.ImageGetResponse, error) {
	i, err := s.Images.Get(ctx, r.GetImage())
	if err != nil {
		return nil, err
	}
	used := s.usage()
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
		return s.Images.Import(ctx, images.ImportOptions{
			Name: first.GetName(), Source: first.GetSource(), Config: fromConfig(first.GetConfig()), Image: first.GetImage(), Platform: first.GetPlatform(),
		}, r, p)
	})
}

func (s imageService) Pull(ctx context.Context, r *bangerv1.ImagePullRequest, stream bangerv1connect.ImageServicePullServerStream) error {
	return event(stream.Send, func(p progress.Func) (vm.Image, error) {
		return s.Images.Pull(ctx, r.GetReference(), r.GetPlatform(), p)
	})
}

func (s imageService) Tag(ctx context.Context, r *bangerv1.ImageTagRequest) (*bangerv1.ImageTagResponse, error) {
	i, err := s.Images.Tag(ctx, r.GetImage(), r.GetName())
	if err != nil {
		return nil, err
	}
	return &bangerv1.ImageTagResponse{Image: toImage(i, s.usage()[i.Digest])}, nil
}

func (s imageService) History(ctx context.Context, r *bangerv1.ImageHistoryRequest) (*bangerv1.ImageHistoryResponse, error) {
	steps, err := s.Images.History(ctx, r.GetImage())
	if err != nil {
		return nil, err
	}
	res := &bangerv1.ImageHistoryResponse{}
	for _, c := range steps {
		step := &bangerv1.ImageStep{CreatedAt: timestamp(c.CreatedAt), CreatedBy: c.CreatedBy, Comment: c.Comment}
		if c.Layer.DiffID != "" {
			step.Layer = toLayer(c.Layer)
		}
		res.Steps = append(res.Steps, step)
	}
	return res, nil
}

func (s imageService) Prune(ctx context.Context, r *bangerv1.ImagePruneRequest) (*bangerv1.ImagePruneResponse, error) {
	var unused func(vm.Image) bool
	if r.GetAll() {
		used := s.usage()
		unused = func(i vm.Image) bool { return used[i.Digest] == 0 }
	}
	p, err := s.Images.Prune(ctx, unused)
	if err != nil {
		return nil, err
	}
	return &bangerv1.ImagePruneResponse{Images: p.Images, DiskBytes: p.DiskBytes, DownloadBytes: p.DownloadBytes}, nil
}

// exportChunk is the data in one message, in bytes.
const exportChunk = 512 << 10

func (s imageService) Export(ctx context.Context, r *bangerv1.ImageExportRequest, stream bangerv1connect.ImageServiceExportServerStream) error {
	form := images.ExportLayers
	switch r.GetForm() {
	case bangerv1.ImageExportRequest_FORM_FLAT:
		form = images.ExportFlat
	case bangerv1.ImageExportRequest_FORM_ROOT:
		form = images.ExportRoot
	}
	var mu sync.Mutex
	send := func(e *bangerv1.ImageExportEvent) error {
		mu.Lock()
		defer mu.Unlock()
		return stream.Send(e)
	}
	w := bufio.NewWriterSize(writerFunc(func(b []byte) (int, error) {
		return len(b), send(&bangerv1.ImageExportEvent{Event: &bangerv1.ImageExportEvent_Data{Data: b}})
	}), exportChunk)
	err := s.Images.Export(ctx, r.GetImage(), form, chunked{w}, func(r progress.Report) {
		_ = send(&bangerv1.ImageExportEvent{Event: &bangerv1.ImageExportEvent_Progress{Progress: toProgress(r)}}) // the data tell of a client that has gone
	})
	if err != nil {
		return err
	}
	return w.Flush()
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// chunked keeps a bufio.Writer from handing on what is larger than its buffer.
type chunked struct{ w *bufio.Writer }

func (c chunked) Write(b []byte) (n int, err error) {
	for len(b) > 0 && err == nil {
		var wrote int
		wrote, err = c.w.Write(b[:min(len(b), exportChunk)])
		n, b = n+wrote, b[wrote:]
	}
	return n, err
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
		switch {
		case r.GetFrom() != "":
			e, err := s.Recipe(r.GetName(), r.GetFrom(), r.GetVariant(), r.GetPackages())
			if err != nil {
				return vm.Image{}, err
			}
			return s.Images.Make(ctx, e, p)
		case name == "":
			var err error
			if name, err = s.VMs.DefaultImage(); err != nil {
				return vm.Image{}, err
			}
		}
		if r.GetFresh() {
			return s.Images.Remake(ctx, name, p)
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
		Config: toConfig(i.Config), Origin: toOrigin(i.Origin),
	}
}

func toOrigin(o *vm.ImageOrigin) *bangerv1.ImageOrigin {
	if o == nil {
		return nil
	}
	m := &bangerv1.ImageOrigin{
		Reference: o.Reference, ManifestDigest: o.Manifest, IndexDigest: o.Index, ConfigDigest: o.ConfigDigest, MediaType: o.MediaType, Platform: o.Platform,
	}
	for _, l := range o.Layers {
		m.Layers = append(m.Layers, toLayer(l))
	}
	return m
}

func toLayer(l vm.ImageLayer) *bangerv1.ImageLayer {
	return &bangerv1.ImageLayer{Digest: l.Digest, Bytes: l.Size, MediaType: l.MediaType, DiffId: l.DiffID}
}
