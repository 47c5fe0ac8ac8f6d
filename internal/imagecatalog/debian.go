package imagecatalog

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"banger/internal/base/errs"
)

// Debian is a recipe: an image made of Debian's packages.
type Debian struct {
	// Suite is the release: "trixie".
	Suite string
	// Variant names a list of packages: "base", "dev" or "docker".
	Variant string
	// Packages come besides.
	Packages []string
}

// base is what every variant has beyond Debian's minimum: an init that boots, and what
// a developer expects to find. There is no package locales: C.UTF-8 needs none.
var base = []string{
	"systemd", "systemd-sysv", "dbus", "libpam-systemd", "libnss-myhostname", "udev", "kmod",
	"iproute2", "iputils-ping", "netbase", "openssh-client", "curl", "ca-certificates", "git",
	"less", "vim-tiny", "nano", "bash-completion", "tmux", "sudo", "procps", "psmisc", "file",
	"python3-minimal", "jq", "tzdata", "xz-utils", "zstd", "unzip",
}

// dev is what developers and their agents expect besides.
var dev = []string{
	"build-essential", "pkg-config", "python3", "python3-venv", "python3-pip",
	"ripgrep", "fd-find", "tree", "rsync", "wget", "patch", "zip", "bzip2", "gnupg",
	"strace", "lsof", "netcat-openbsd", "bind9-dnsutils", "sqlite3",
}

// docker is Docker as bookworm has it. Without apparmor, dockerd refuses to run a
// container on a kernel that has AppArmor, as Debian's has.
var docker = []string{"docker.io", "docker-compose", "iptables", "apparmor", "pigz"}

// dockerParts are packages of their own since trixie.
var dockerParts = []string{"docker-cli", "docker-buildx"}

// variants are the lists by name; suites older than trixie have no docker parts.
func variants(suite string) map[string][]string {
	all := map[string][]string{"base": nil, "dev": dev, "docker": docker}
	if !slices.Contains([]string{"bullseye", "bookworm"}, suite) {
		all["docker"] = slices.Concat(docker, dockerParts)
	}
	return all
}

// Variants are the names of the lists.
func Variants() []string { return slices.Sorted(maps.Keys(variants(""))) }

// suiteForm and packageForm are what may be written: names of suites, and Debian's
// policy for packages (section 5.6.1). Apt reads a "-" at the end as removal.
var (
	suiteForm   = regexp.MustCompile(`^[a-z][a-z0-9-]{1,63}$`)
	packageForm = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]{0,126}[a-z0-9+.]$`)
)

// maxPackages bounds the packages that one recipe names.
const maxPackages = 1000

// NewDebian returns the recipe for what users write after --from: "debian:SUITE". An
// empty variant is "base".
func NewDebian(from, variant string, packages []string) (*Debian, error) {
	suite, ok := strings.CutPrefix(from, "debian:")
	if !ok {
		return nil, errs.New(errs.Invalid, "cannot build from %q: it is no release of Debian", from).
			WithHint("--from debian:trixie; an image of a registry comes by: banger image pull")
	}
	return Debian{suite, variant, packages}.check()
}

func (d Debian) check() (*Debian, error) {
	if !suiteForm.MatchString(d.Suite) {
		return nil, errs.New(errs.Invalid, "%q is no release of Debian", d.Suite).WithHint("name one such as bookworm or trixie")
	}
	if d.Variant == "" {
		d.Variant = "base"
	}
	if !slices.Contains(Variants(), d.Variant) {
		return nil, errs.New(errs.Invalid, "there is no variant %q", d.Variant).WithHint("take one of %s", strings.Join(Variants(), ", "))
	}
	if len(d.Packages) > maxPackages {
		return nil, errs.New(errs.Invalid, "%d packages are more than %d", len(d.Packages), maxPackages)
	}
	for _, p := range d.Packages {
		if !packageForm.MatchString(p) {
			return nil, errs.New(errs.Invalid, "%q is no name of a package", p).WithHint("write names such as build-essential, with commas between and no versions")
		}
	}
	return &d, nil
}

// Include is the list of packages to install: those of the variant, then the others.
func (d Debian) Include() []string {
	all := slices.Concat(base, variants(d.Suite)[d.Variant], d.Packages)
	seen := map[string]bool{}
	return slices.DeleteFunc(all, func(p string) bool {
		again := seen[p]
		seen[p] = true
		return again
	})
}

// String says for people what it is.
func (d Debian) String() string {
	text := "Debian " + d.Suite
	if d.Variant != "base" {
		text += ", " + d.Variant
	}
	if len(d.Packages) > 0 {
		text += ", with " + strings.Join(d.Packages, " ")
	}
	return text
}
