package images

import (
	"context"
	"errors"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"banger/internal/base/errs"
	"banger/internal/base/progress"
	"banger/internal/blobs"
	"banger/internal/oci"
	"banger/internal/oci/unpack"
	"banger/internal/vm"
)

// Registry finds images by their references.
type Registry interface {
	// Resolve returns the image for the platform, its documents verified and its
	// layers still where they are.
	Resolve(ctx context.Context, ref oci.Reference, p oci.Platform) (*oci.Image, error)
}

// maxDamaged is how often an image is begun again because what was stored of it was
// damaged. Each time the damaged part goes, so more has another cause.
const maxDamaged = 3

// Pull makes an image of what reference names in its registry, for the platform,
// which is the host's if it is empty. Its name is the reference in the form that
// people write; what had the name before loses it. Layers that are here are not
// downloaded again, and a base disk that is here is not made again. Callers who pull
// the same image share it.
func (s *Service) Pull(ctx context.Context, reference, platform string, p progress.Func) (vm.Image, error) {
	ref, err := oci.ParseReference(reference)
	if err != nil {
		return vm.Image{}, err
	}
	want, err := platformOf(platform)
	if err != nil {
		return vm.Image{}, err
	}
	from, err := s.pinned(ref)
	if err != nil {
		return vm.Image{}, err
	}
	name := ref.Familiar()
	return s.making.Do(ctx, "pull "+name+" for "+want.String(), p, func(ctx context.Context, p progress.Func) (vm.Image, error) {
		p.Send(progress.Report{Phase: "image", Detail: "asking " + ref.Registry() + " for " + name})
		found, err := s.Registry.Resolve(ctx, from, want)
		if err != nil {
			return vm.Image{}, err
		}
		return s.assemble(ctx, vm.Image{Name: name, Source: source(from, found)}, from.String(), found, nil, p)
	})
}

func platformOf(text string) (oci.Platform, error) {
	if text == "" {
		return oci.HostPlatform(), nil
	}
	return oci.ParsePlatform(text)
}

// pinned returns the reference by digest where the user has pinned ref.
func (s *Service) pinned(ref oci.Reference) (oci.Reference, error) {
	if s.Pin == nil {
		return ref, nil
	}
	pin, err := s.Pin(ref)
	if pin == "" || err != nil {
		return ref, err
	}
	if err := oci.CheckDigest(pin); err != nil {
		return ref, errs.New(errs.Invalid, "the pin of %q: %w", ref.Familiar(), err)
	}
	return ref.WithDigest(pin), nil
}

// differsFromPin says whether an image is not the one that the user has pinned since.
func (s *Service) differsFromPin(img vm.Image) bool {
	if img.Origin == nil || img.Origin.Reference == "" {
		return false
	}
	ref, err := oci.ParseReference(img.Name)
	if err != nil || ref.Familiar() != img.Name {
		return false // a name that the user gave it
	}
	from, err := s.pinned(ref)
	return err == nil && from != ref && from.Digest() != img.Origin.Manifest && from.Digest() != img.Origin.Index
}

// pullUnknown pulls what is neither an image nor in the catalog; notFound says so.
func (s *Service) pullUnknown(ctx context.Context, ref string, notFound error, p progress.Func) (vm.Image, error) {
	if digestStart.MatchString(ref) {
		return vm.Image{}, notFound
	}
	img, err := s.Pull(ctx, ref, "", p)
	if errs.KindOf(err) == errs.NotFound {
		return vm.Image{}, errs.New(errs.NotFound, "there is no image %q here, nor in the catalog: %w", ref, err).WithHint("banger image list")
	}
	return img, err
}

// checkRuns refuses an image whose programs this machine's processor does not run.
func checkRuns(img vm.Image) error {
	if img.Origin == nil {
		return nil
	}
	p, err := oci.ParsePlatform(img.Origin.Platform)
	if host := oci.HostPlatform(); err == nil && p.Architecture != "" && p.Architecture != host.Architecture {
		return errs.New(errs.Invalid, "the image %q is for %s, and this machine is %s", img.Name, p, host).
			WithHint("banger image pull --platform %s %s", host, img.Name)
	}
	return nil
}

// source says where an image came from, by digest: a tag may be another's tomorrow.
func source(from oci.Reference, found *oci.Image) string {
	return from.WithDigest(found.Digest).String()
}

// assemble makes img of an OCI image: its base disk, unless that is here, and its
// record. spent is the budget of the file that the layers have come from; nil if they
// come from a registry.
func (s *Service) assemble(ctx context.Context, img vm.Image, reference string, found *oci.Image, spent *unpack.Budget, p progress.Func) (vm.Image, error) {
	img.Config, img.Origin = configOf(found.Config.Config), originOf(reference, found)
	img.Documents = &vm.ImageDocuments{Manifest: found.Manifest, Config: found.RawConfig}
	if err := img.Config.Check(); err != nil {
		return vm.Image{}, s.explain(img.Name, err)
	}
	digest := diskDigest(found)
	if got, ok, err := s.adopt(ctx, img, digest); ok || err != nil {
		return got, err
	}
	for try := 1; ; try++ {
		of := parts{layers: found.Layers, budget: spent, earned: spent != nil}
		if !of.earned {
			of.budget = s.budget()
		}
		got, err := s.stage(ctx, img, func(dir string) (made, error) { return s.unpackLayers(ctx, dir, img.Name, digest, of, p) })
		if !errors.Is(err, blobs.ErrDamaged) || try == maxDamaged {
			return got, err
		}
		s.Log.WarnContext(ctx, "a stored layer was damaged, and is fetched again", "image", img.Name, "err", err)
	}
}

// diskDigest names the base disk of an image.
func diskDigest(i *oci.Image) string {
	ids := make([]string, len(i.Layers))
	for n, l := range i.Layers {
		ids[n] = l.DiffID
	}
	if len(ids) == 0 {
		return oci.Digest(nil)
	}
	return oci.ChainID(ids...)
}

func originOf(reference string, i *oci.Image) *vm.ImageOrigin {
	o := &vm.ImageOrigin{
		Reference: reference, Manifest: i.Digest, Index: i.Index, ConfigDigest: i.ConfigDigest, MediaType: i.MediaType, Platform: i.Platform.String(),
		Layers: []vm.ImageLayer{},
	}
	for _, l := range i.Layers {
		o.Layers = append(o.Layers, vm.ImageLayer{Digest: l.Digest, Size: l.Size, MediaType: l.MediaType, DiffID: l.DiffID})
	}
	return o
}

// configOf takes from an OCI config what a guest's processes need to know.
func configOf(c v1.Config) *vm.ImageConfig {
	keys := func(m map[string]struct{}) (all []string) {
		for k := range m {
			all = append(all, k)
		}
		slices.Sort(all)
		return all
	}
	return &vm.ImageConfig{
		Env: c.Env, WorkingDir: c.WorkingDir, User: c.User, Entrypoint: c.Entrypoint, Cmd: c.Cmd, StopSignal: c.StopSignal,
		ExposedPorts: keys(c.ExposedPorts), Volumes: keys(c.Volumes), Labels: c.Labels,
	}
}
