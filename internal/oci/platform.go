package oci

import (
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"banger/internal/base/errs"
)

// Platform is what an image runs on, in the words of GOOS and GOARCH (image
// specification, image-index.md, "platform").
type Platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	// Variant is the version of the architecture, or empty: "v7".
	Variant string `json:"variant,omitempty"`
}

// HostPlatform returns Linux on this machine's architecture.
func HostPlatform() Platform { return Platform{OS: "linux", Architecture: runtime.GOARCH}.normal() }

var platformWord = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// ParsePlatform reads "linux/arm64", "linux/arm/v7", or an architecture alone, which
// is Linux's. Names that other tools have for architectures, such as x86_64, are
// understood. The error is errs.Invalid.
func ParsePlatform(s string) (Platform, error) {
	parts := strings.Split(s, "/")
	if len(parts) == 1 {
		parts = []string{"linux", s}
	}
	if len(parts) > 3 || slices.ContainsFunc(parts, func(p string) bool { return !platformWord.MatchString(p) }) {
		return Platform{}, errs.New(errs.Invalid, "%q is no platform", Printable(s)).WithHint("write for example linux/amd64 or linux/arm64")
	}
	p := Platform{OS: parts[0], Architecture: parts[1]}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	return p.normal(), nil
}

// String returns "linux/arm/v7".
func (p Platform) String() string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// aliases are other tools' names of architectures.
var aliases = map[string]Platform{
	"x86_64": {Architecture: "amd64"}, "x86-64": {Architecture: "amd64"},
	"aarch64": {Architecture: "arm64"},
	"armhf":   {Architecture: "arm", Variant: "v7"}, "armel": {Architecture: "arm", Variant: "v6"},
	"i386": {Architecture: "386"}, "i686": {Architecture: "386"},
}

// baselines are the variants that an architecture without one means.
var baselines = map[string]string{"amd64": "v1", "arm64": "v8", "arm": "v7"}

// normal returns p in lower case, with the common name of its architecture, and
// without a variant that is the architecture's own.
func (p Platform) normal() Platform {
	p = Platform{OS: strings.ToLower(p.OS), Architecture: strings.ToLower(p.Architecture), Variant: strings.ToLower(p.Variant)}
	if a, ok := aliases[p.Architecture]; ok {
		p.Architecture = a.Architecture
		if p.Variant == "" {
			p.Variant = a.Variant
		}
	}
	if base := baselines[p.Architecture]; p.Variant == base || "v"+p.Variant == base {
		p.Variant = ""
	}
	return p
}

// version returns the number of a platform's variant: 7 for "v7".
func (p Platform) version() (float64, bool) {
	variant := p.Variant
	if variant == "" {
		variant = baselines[p.Architecture]
	}
	n, err := strconv.ParseFloat(strings.TrimPrefix(variant, "v"), 64)
	return n, err == nil
}

// runs says whether a machine of platform p runs an image for other, and how well it
// fits: the higher the better. A machine runs images for lower versions of its
// architecture, but amd64's v2 and up is of use only where it was asked for.
func (p Platform) runs(other Platform) (fit float64, ok bool) {
	p, other = p.normal(), other.normal()
	if p.OS != other.OS || p.Architecture != other.Architecture {
		return 0, false
	}
	most, ok1 := p.version()
	n, ok2 := other.version()
	if ok1 && ok2 {
		return n, n <= most
	}
	return 0, p.Variant == other.Variant
}

// admits says whether p's machine runs an image whose config says other, where what
// the config leaves out is no objection.
func (p Platform) admits(other Platform) bool {
	p = p.normal()
	if other.OS == "" {
		other.OS = p.OS
	}
	if other.Architecture == "" {
		other.Architecture = p.Architecture
	}
	if other.Variant == "" {
		other.Variant = p.Variant
	}
	_, ok := p.runs(other)
	return ok
}

// otherPlatforms is that none of what there is runs on the platform that was asked for.
type otherPlatforms struct {
	want Platform
	have []Platform
}

func (e *otherPlatforms) Error() string {
	const most = 24
	var have []string
	for _, p := range e.have {
		if s := Printable(p.String()); !slices.Contains(have, s) {
			have = append(have, s)
		}
	}
	slices.Sort(have)
	if len(have) > most {
		have = append(have[:most], fmt.Sprintf("%d more", len(have)-most))
	}
	if len(have) == 0 {
		return fmt.Sprintf("there is no image for %s in it", e.want)
	}
	return fmt.Sprintf("there is no image for %s in it, only for %s", e.want, strings.Join(have, ", "))
}
