package daemon

import (
	"context"
	"io"
	"slices"
	"strings"

	"banger/internal/base/errs"
	"banger/internal/base/progress"
	"banger/internal/daemon/images"
	"banger/internal/debian"
	"banger/internal/mmdebstrap"
)

// defaultImage is the image of a VM for which none was named.
const defaultImage = "debian-bookworm"

// debianKeyring is the file of Debian's archive keys (package debian-archive-keyring).
const debianKeyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// catalog lists the images that can be built here.
func catalog() []images.Builder {
	return []images.Builder{{
		Name: defaultImage, Source: "Debian bookworm, by mmdebstrap from the host's mirror",
		Build: func(ctx context.Context, tmp string, p progress.Func, w io.Writer) error {
			sources, err := imageSources("/", "bookworm")
			if err != nil {
				return err
			}
			return mmdebstrap.Build(ctx, mmdebstrap.Options{Suite: "bookworm", Sources: sources, Include: mmdebstrap.Packages, Tmp: tmp, Progress: p}, w)
		},
	}}
}

// imageSources turns the Debian archives of the host's apt configuration below
// root into those of an image of one release, whatever release the host runs:
// the archive that has the security suites, and the one that has the others.
func imageSources(root, release string) (all []mmdebstrap.Source, err error) {
	found, err := debian.DebianSources(root)
	if err != nil {
		return nil, err
	}
	isSecurity := func(suite string) bool {
		return strings.HasSuffix(suite, "-security") || strings.HasSuffix(suite, "/updates")
	}
	for _, want := range []struct {
		security bool
		suites   []string
	}{{false, []string{release, release + "-updates"}}, {true, []string{release + "-security"}}} {
		best := -1
		for i, s := range found {
			if isSecurity(s.Suites[0]) != want.security || !slices.Contains(s.Components, "main") {
				continue
			}
			// An archive that names Debian's keyring is Debian's; of the others one can only hope so.
			if best < 0 || (found[best].SignedBy == "" && s.SignedBy != "") {
				best = i
			}
		}
		if best >= 0 {
			all = append(all, mmdebstrap.Source{URI: found[best].URI, Suites: want.suites, Components: []string{"main"}, SignedBy: debianKeyring})
		}
	}
	if len(all) == 0 || strings.HasSuffix(all[0].Suites[0], "-security") {
		return nil, errs.New(errs.Unavailable, "cannot build an image: apt's configuration names no mirror of Debian").
			WithHint("name one in /etc/apt/sources.list.d, with Signed-By: %s", debianKeyring)
	}
	return all, nil
}
