package images

import (
	"context"
	"regexp"
	"slices"
	"strings"

	"banger/internal/base/errs"
	"banger/internal/oci"
	"banger/internal/vm"
)

// digestPrefix names the hash of every digest.
const digestPrefix = "sha256:"

var (
	// validName has room for an OCI reference without a digest.
	validName   = regexp.MustCompile(`^[a-z0-9][a-z0-9._/:-]{0,127}$`)
	digestStart = regexp.MustCompile(`^(?:` + digestPrefix + `)?([0-9a-f]{12,64})$`)
)

func checkName(name string) error {
	if !validName.MatchString(name) || strings.HasPrefix(name, digestPrefix) {
		return errs.New(errs.Invalid, "cannot name an image %q", name).
			WithHint("use 1 to 128 of a-z, 0-9, and . _ - / : behind the first; not %s", digestPrefix)
	}
	return nil
}

// find returns the record that ref means: a name, also in another form of the same
// reference, before a digest.
func (s *Service) find(ctx context.Context, ref string) (vm.Image, error) {
	images, err := s.Store.Images(ctx)
	if err != nil {
		return vm.Image{}, err
	}
	names := []string{ref}
	parsed, refErr := oci.ParseReference(ref)
	if refErr == nil {
		names = append(names, parsed.Familiar())
	}
	for _, name := range names {
		if i := slices.IndexFunc(images, func(i vm.Image) bool { return i.Name == name }); i >= 0 {
			return images[i], nil
		}
	}
	if m := digestStart.FindStringSubmatch(ref); m != nil {
		var found []vm.Image
		for _, i := range images {
			if hasDigest(i, digestPrefix+m[1]) {
				found = append(found, i)
			}
		}
		switch {
		case len(found) == 1:
			return found[0], nil
		case len(found) > 1:
			return vm.Image{}, errs.New(errs.Invalid, "%q is more than one image: %q and %q", ref, found[0].Name, found[1].Name).
				WithHint("give the name")
		}
	} else if err := checkName(ref); err != nil && (refErr != nil || strings.HasPrefix(ref, digestPrefix)) {
		return vm.Image{}, err
	}
	return vm.Image{}, errs.New(errs.NotFound, "there is no image %q", ref).WithHint("banger image list")
}

// hasDigest says whether one of an image's digests begins so: that of its disk, its
// manifest, index or config.
func hasDigest(i vm.Image, start string) bool {
	if strings.HasPrefix(i.Digest, start) {
		return true
	}
	o := i.Origin
	return o != nil && (strings.HasPrefix(o.Manifest, start) || strings.HasPrefix(o.Index, start) || strings.HasPrefix(o.ConfigDigest, start))
}
