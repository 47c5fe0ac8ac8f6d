package images

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"banger/internal/base/errs"
	"banger/internal/vm"
)

// Tag gives the image that ref means one more name; what had the name before loses
// it.
func (s *Service) Tag(ctx context.Context, ref, name string) (vm.Image, error) {
	if err := checkName(name); err != nil {
		return vm.Image{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	img, err := s.Get(ctx, ref)
	if err != nil {
		return vm.Image{}, err
	}
	if img.Name == name {
		return img, nil
	}
	if img.Documents, err = s.Store.ImageDocuments(ctx, img.Name); err != nil {
		return vm.Image{}, err
	}
	before, err := s.Store.Images(ctx)
	if err != nil {
		return vm.Image{}, err
	}
	img.Name = name
	return s.record(context.WithoutCancel(ctx), img, before)
}

// Change is a step in which an image came to be.
type Change struct {
	// CreatedAt may be zero. CreatedBy is such as the instruction of a Dockerfile.
	CreatedAt time.Time
	CreatedBy string
	Comment   string
	// Layer is what the step added; the zero value for one that changed no file.
	Layer vm.ImageLayer
}

// History returns how the image that ref means came to be, the last step first. It
// is what the image's maker wrote, and may be empty.
func (s *Service) History(ctx context.Context, ref string) ([]Change, error) {
	img, err := s.find(ctx, ref)
	if err != nil {
		return nil, err
	}
	docs, err := s.Store.ImageDocuments(ctx, img.Name)
	if err != nil {
		return nil, err
	}
	if docs == nil || img.Origin == nil {
		return []Change{{CreatedAt: img.CreatedAt, CreatedBy: img.Source, Layer: vm.ImageLayer{DiffID: img.Digest}}}, nil
	}
	var config v1.ConfigFile
	if err := json.Unmarshal(docs.Config, &config); err != nil {
		return nil, errs.New(errs.Internal, "the record of the image %q: %w", img.Name, err)
	}
	layers := img.Origin.Layers
	var all []Change
	for _, h := range config.History {
		c := Change{CreatedAt: h.Created.Time, CreatedBy: h.CreatedBy, Comment: h.Comment}
		if !h.EmptyLayer && len(layers) > 0 {
			c.Layer, layers = layers[0], layers[1:]
		}
		all = append(all, c)
	}
	for _, l := range layers { // which the history forgot
		all = append(all, Change{Layer: l})
	}
	for i, j := 0, len(all)-1; i < j; i, j = i+1, j-1 {
		all[i], all[j] = all[j], all[i]
	}
	return all, nil
}

// Pruned is what a Prune has removed.
type Pruned struct {
	// Images are names.
	Images []string
	// DiskBytes is the size of the base disks that are gone, DownloadBytes that of
	// the downloads.
	DiskBytes, DownloadBytes int64
}

// Prune removes all downloads that are not in use, and the images that unused
// accepts; nil accepts none. It goes on after a failure.
func (s *Service) Prune(ctx context.Context, unused func(vm.Image) bool) (Pruned, error) {
	var p Pruned
	var failures []error
	if unused != nil {
		all, err := s.Store.Images(ctx)
		failures = append(failures, err)
		for _, i := range all {
			if !unused(i) {
				continue
			}
			_, freed, err := s.Delete(ctx, i.Name)
			if k := errs.KindOf(err); err != nil && k != errs.Conflict && k != errs.NotFound {
				failures = append(failures, err)
			}
			if err == nil {
				p.Images = append(p.Images, i.Name)
				p.DiskBytes += freed
			}
		}
	}
	freed, err := s.Blobs.Prune(0, nil)
	p.DownloadBytes = freed
	return p, errors.Join(append(failures, err)...)
}
