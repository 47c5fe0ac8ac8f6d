package kernels

import (
	"cmp"
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"

	"banger/internal/base/errs"
	"banger/internal/debian"
	"banger/internal/vm"
)

// Where Debian keeps its kernels. Whatever the host runs, the guest's kernel is
// bookworm's: it is what banger is tested with.
var (
	// metapackages depend on the newest kernel of a series; the first one found wins.
	metapackages = []string{"linux-image-6.12-cloud-" + debian.Arch, "linux-image-cloud-" + debian.Arch}
	// suites are searched in this order: updates come through the first.
	suites = []string{"bookworm-security", "bookworm-updates", "bookworm"}
)

const (
	component   = "main"
	imagePrefix = "linux-image-"
	// cloud is in the names of the kernels that Debian makes for virtual machines.
	cloud = "-cloud-"
)

var (
	// imageName is that of a package with a kernel in it; what begins alike are
	// metapackages, debug symbols and kernels without a signature.
	imageName = regexp.MustCompile(`^linux-image-([0-9]+\.[0-9]+\.[0-9]+[0-9A-Za-z.+~-]*-` + debian.Arch + `)$`)
	// version begins what can be a kernel of Debian's: "6.12", "6.1.0-49".
	version = regexp.MustCompile(`^[0-9]+\.[0-9]+(\.[0-9]|$)`)
)

// offered is a kernel that an archive has.
type offered struct {
	debian.Package
	release string
}

// index is the kernels and metapackages of all suites, each read when it is asked for:
// the largest has 9 MB, and most questions are answered by the first.
type index struct {
	archive  *debian.Archive
	packages map[string][]debian.Package // by suite
	// missing is why a suite is not there.
	missing error
}

func newIndex(a *debian.Archive) *index {
	return &index{archive: a, packages: map[string][]debian.Package{}}
}

// suite returns the packages of a suite; one that no mirror has is empty.
func (x *index) suite(ctx context.Context, suite string) ([]debian.Package, error) {
	if found, ok := x.packages[suite]; ok {
		return found, nil
	}
	found, err := x.archive.Packages(ctx, suite, component, func(name string) bool { return strings.HasPrefix(name, imagePrefix) })
	switch {
	case errs.KindOf(err) == errs.NotFound:
		x.missing = err
	case errors.Is(err, debian.ErrOlder):
		return nil, errs.New(errs.Unavailable, "%w", err).
			WithHint("try again later, or use another mirror; if it is to be older, as a snapshot is: banger kernel pull --allow-older")
	case err != nil:
		return nil, err
	}
	x.packages[suite] = found
	return found, nil
}

// images returns the kernels, the newest version first; of a release the newest.
func (x *index) images(ctx context.Context) ([]offered, error) {
	best := map[string]offered{}
	for _, suite := range suites {
		packages, err := x.suite(ctx, suite)
		if err != nil {
			return nil, err
		}
		for _, p := range packages {
			m := imageName.FindStringSubmatch(p.Name)
			if m == nil {
				continue
			}
			if old, ok := best[m[1]]; !ok || debian.CompareVersions(p.Version, old.Version) > 0 {
				best[m[1]] = offered{p, m[1]}
			}
		}
	}
	all := make([]offered, 0, len(best))
	for _, o := range best {
		all = append(all, o)
	}
	slices.SortFunc(all, func(a, b offered) int {
		return cmp.Or(-debian.CompareVersions(a.Version, b.Version), strings.Compare(a.release, b.release))
	})
	return all, nil
}

// follow returns the kernel that a metapackage depends on.
func (x *index) follow(ctx context.Context, meta string) (offered, bool, error) {
	for _, suite := range suites {
		packages, err := x.suite(ctx, suite)
		if err != nil {
			return offered{}, false, err
		}
		m, ok := debian.Newest(packages, meta)
		if !ok {
			continue
		}
		for _, dep := range m.Depends {
			if p, ok := debian.Newest(packages, dep); ok && strings.HasPrefix(dep, imagePrefix) {
				return offered{p, strings.TrimPrefix(p.Name, imagePrefix)}, true, nil
			}
		}
	}
	return offered{}, false, nil
}

// preferred returns the newest kernel of the preferred series.
func (x *index) preferred(ctx context.Context) (offered, error) {
	for _, meta := range metapackages {
		if o, ok, err := x.follow(ctx, meta); err != nil || ok {
			return o, err
		}
	}
	missing := x.missing
	if missing == nil {
		missing = errs.New(errs.NotFound, "no suite has the package %q", metapackages[0])
	}
	return offered{}, errs.New(errs.Unavailable, "cannot find Debian's cloud kernel: %w", missing).
		WithHint("name a mirror of Debian bookworm in /etc/apt/sources.list.d, signed by debian-archive-keyring")
}

// find returns the kernel that ref means: a package, a release, or the beginning of
// one ("6.12"), the newest then, and one for virtual machines before others.
func (x *index) find(ctx context.Context, ref string) (offered, error) {
	if ref == "" {
		return x.preferred(ctx)
	}
	release, isPackage := strings.CutPrefix(ref, imagePrefix)
	if isPackage {
		if o, ok, err := x.follow(ctx, ref); err != nil || ok {
			return o, err
		}
	}
	all, err := x.images(ctx)
	if err != nil {
		return offered{}, err
	}
	best := -1
	for i, o := range all {
		if o.release == release {
			return o, nil
		}
		if !isPackage && begins(o.release, release) && (best < 0 || isCloud(o.release) && !isCloud(all[best].release)) {
			best = i
		}
	}
	if best >= 0 {
		return all[best], nil
	}
	return offered{}, errs.New(errs.NotFound, "the Debian mirror has no kernel %q", ref).WithHint("banger kernel catalog")
}

// begins says whether ref is the beginning of a release, up to a place where a number
// or a word ends.
func begins(release, ref string) bool {
	rest, ok := strings.CutPrefix(release, ref)
	return ok && (rest == "" || strings.IndexByte(".-+~", rest[0]) >= 0)
}

func isCloud(release string) bool { return strings.Contains(release, cloud) }

// isDebians says whether ref can mean a kernel of Debian's.
func isDebians(ref string) bool {
	return strings.HasPrefix(ref, imagePrefix) || version.MatchString(ref)
}

// newestOf returns the kernel of Debian's on disk that ref means, the newest version
// first; a metapackage means none.
func newestOf(all []vm.Kernel, ref string) (vm.Kernel, bool) {
	release, isPackage := strings.CutPrefix(ref, imagePrefix)
	best := -1
	for i, k := range all {
		if k.Origin.Kind != vm.OriginDebian || !begins(k.Release, release) || isPackage && k.Release != release || onDisk(k) != nil {
			continue
		}
		if best < 0 || better(k, all[best]) {
			best = i
		}
	}
	if best < 0 {
		return vm.Kernel{}, false
	}
	return all[best], true
}

// better says whether one kernel of Debian's is to be preferred to another.
func better(k, to vm.Kernel) bool {
	if isCloud(k.Release) != isCloud(to.Release) {
		return isCloud(k.Release)
	}
	return debian.CompareVersions(k.Version, to.Version) > 0
}
