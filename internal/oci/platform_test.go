package oci

import (
	"runtime"
	"testing"

	"banger/internal/base/errs"
)

func TestParsePlatform(t *testing.T) {
	for in, want := range map[string]string{
		"linux/amd64": "linux/amd64", "amd64": "linux/amd64", "x86_64": "linux/amd64", "linux/amd64/v1": "linux/amd64",
		"linux/amd64/v3": "linux/amd64/v3", "aarch64": "linux/arm64", "linux/arm64/v8": "linux/arm64", "Linux/ARM64/8": "linux/arm64",
		"linux/arm": "linux/arm", "linux/arm/v7": "linux/arm", "armel": "linux/arm/v6", "linux/riscv64": "linux/riscv64", "windows/amd64": "windows/amd64",
	} {
		if got, err := ParsePlatform(in); err != nil || got.String() != want {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"", "/", "linux/", "a/b/c/d", "linux/amd 64", "linux/\x1b"} {
		if got, err := ParsePlatform(in); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	if p := HostPlatform(); p.OS != "linux" || p.Architecture != runtime.GOARCH {
		t.Errorf("host: %v", p)
	}
}

func TestWhatRunsWhere(t *testing.T) {
	for _, c := range []struct {
		machine, image string
		ok             bool
	}{
		{"linux/amd64", "linux/amd64", true}, {"linux/amd64", "linux/amd64/v1", true}, {"linux/amd64", "linux/amd64/v2", false},
		{"linux/amd64/v3", "linux/amd64/v2", true}, {"linux/amd64", "linux/arm64", false}, {"linux/amd64", "windows/amd64", false},
		{"linux/arm64", "linux/arm64/v8", true}, {"linux/arm64", "linux/arm", false}, {"linux/arm/v7", "linux/arm/v6", true},
		{"linux/arm/v6", "linux/arm", false}, {"linux/arm/v5", "linux/arm/v7", false}, {"linux/amd64", "linux/386", false},
		{"linux/ppc64le", "linux/ppc64le/power9", false}, {"linux/ppc64le/power9", "linux/ppc64le/power9", true},
	} {
		machine, err := ParsePlatform(c.machine)
		image, err2 := ParsePlatform(c.image)
		if err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		if _, ok := machine.runs(image); ok != c.ok {
			t.Errorf("%s on %s: %v", c.image, c.machine, ok)
		}
	}
	for _, image := range []Platform{{}, {OS: "linux"}, {Architecture: "arm"}, {OS: "linux", Architecture: "arm", Variant: "v5"}} {
		if !(Platform{OS: "linux", Architecture: "arm", Variant: "v6"}).admits(image) {
			t.Errorf("%v is not admitted", image)
		}
	}
}

// Diff ids of the example in the image specification's config.md; its formula, by sha256sum.
func TestChainID(t *testing.T) {
	const a, b = "sha256:c6f988f4874bb0add23a778f753c65efe992244e148a1d2ec2a8b664fb66bbd1", "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
	for _, c := range []struct {
		ids  []string
		want string
	}{
		{nil, ""}, {[]string{a}, a},
		{[]string{a, b}, "sha256:c3191d32a37d7159b2e30830937d2e30268ad6c375a773a8994911a3aba9b93f"},
		{[]string{a, b, a}, "sha256:ce60e381e7c2941cc3c11bc7a60b267bb56a3be80df231da8c523c53af72518b"},
	} {
		if got := ChainID(c.ids...); got != c.want {
			t.Errorf("%v: %s", c.ids, got)
		}
	}
}
