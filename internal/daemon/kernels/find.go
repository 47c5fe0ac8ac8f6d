package kernels

import (
	"context"
	"strings"

	"banger/internal/base/errs"
	"banger/internal/debian"
)

// Where Debian keeps its cloud kernels. Whatever the host runs, the guest's
// kernel is bookworm's: it is what banger is tested with.
var (
	// metapackages depend on the newest kernel of a series; the first one found wins.
	metapackages = []string{"linux-image-6.12-cloud-" + debian.Arch, "linux-image-cloud-" + debian.Arch}
	// suites are searched in this order: updates come through the first.
	suites = []string{"bookworm-security", "bookworm-updates", "bookworm"}
)

const (
	component   = "main"
	imagePrefix = "linux-image-"
)

// findPackage returns the package of the newest kernel of the preferred series,
// and its release. A suite that no mirror has is passed over.
func findPackage(ctx context.Context, a *debian.Archive) (p debian.Package, release string, err error) {
	image := func(name string) bool {
		return strings.HasPrefix(name, imagePrefix) && strings.HasSuffix(name, "-cloud-"+debian.Arch)
	}
	indexes := map[string][]debian.Package{}
	var missing error
	for _, meta := range metapackages {
		for _, suite := range suites {
			if _, ok := indexes[suite]; !ok {
				found, err := a.Packages(ctx, suite, component, image)
				if err != nil && errs.KindOf(err) != errs.NotFound {
					return p, "", err
				}
				if err != nil {
					missing = err
				}
				indexes[suite] = found
			}
			if p, ok := newestImage(indexes[suite], meta); ok {
				return p, strings.TrimPrefix(p.Name, imagePrefix), nil
			}
		}
	}
	if missing == nil {
		missing = errs.New(errs.NotFound, "no suite has the package %q", metapackages[0])
	}
	return p, "", errs.New(errs.Unavailable, "cannot find Debian's cloud kernel: %w", missing).
		WithHint("name a mirror of Debian bookworm in /etc/apt/sources.list.d, signed by debian-archive-keyring")
}

// newestImage follows a metapackage to the kernel that it depends on.
func newestImage(packages []debian.Package, meta string) (debian.Package, bool) {
	m, ok := debian.Newest(packages, meta)
	if !ok {
		return m, false
	}
	for _, dep := range m.Depends {
		if p, ok := debian.Newest(packages, dep); ok && strings.HasPrefix(dep, imagePrefix) {
			return p, true
		}
	}
	return m, false
}
