package cli

import (
	"context"
	"fmt"
	"strings"
	"testing"

	bangerv1 "banger/api/banger/v1"
	"banger/api/banger/v1/bangerv1connect"
)

func (i fakeImages) Build(_ context.Context, r *bangerv1.ImageBuildRequest, s bangerv1connect.ImageServiceBuildServerStream) error {
	call := fmt.Sprintf("build %q", r.GetImage())
	if r.GetFrom() != "" {
		call += fmt.Sprintf(" from %q %q %v as %q", r.GetFrom(), r.GetVariant(), r.GetPackages(), r.GetName())
	}
	if r.GetFresh() {
		call += " fresh"
	}
	i.d.called(call)
	return s.Send(&bangerv1.ImageEvent{Event: &bangerv1.ImageEvent_Image{Image: &bangerv1.Image{Name: "built"}}})
}

func TestImageBuild(t *testing.T) {
	d := startFake(t)
	for args, want := range map[string]string{
		"image build":                                 `build ""`,
		"image build --fresh debian-trixie":           `build "debian-trixie" fresh`,
		"image build debian-trixie":                   `build "debian-trixie"`,
		"image build --from debian:trixie --name lab": `build "" from "debian:trixie" "" [] as "lab"`,
		"image build --from debian:trixie --variant dev --packages gdb,strace --packages golang --name lab": `build "" from "debian:trixie" "dev" [gdb strace golang] as "lab"`,
	} {
		before := len(d.log())
		if r := banger(t, strings.Fields(args)...); r.code != 0 || r.out != "built\n" {
			t.Errorf("banger %s: %+v", args, r)
		}
		if calls := d.log(); len(calls) != before+1 || !strings.Contains(strings.Join(calls, "\n"), want) {
			t.Errorf("banger %s calls %q, want %s", args, calls, want)
		}
	}
	before := len(d.log())
	for args, want := range map[string]string{
		"image build --name lab":                                       "go with --from",
		"image build --packages gdb":                                   "go with --from",
		"image build --from debian:trixie --name x --fresh":            "always made afresh",
		"image build --from debian:trixie":                             "--name is missing",
		"image build debian-trixie --from debian:trixie --name x":      "either name an image",
		"image build --from ubuntu:noble --name x":                     "no release of Debian",
		"image build --from debian:trixie --variant huge --name x":     "try: take one of base, dev, docker",
		"image build --from debian:trixie --packages gdb,-y --name x":  `"-y" is no name of a package`,
		"image build --from debian:trixie --packages gdb=1.0 --name x": `"gdb=1.0" is no name of a package`,
	} {
		if r := banger(t, strings.Fields(args)...); r.code != 121 || !strings.Contains(r.errOut, want) || !strings.Contains(r.errOut, "\n  try: ") {
			t.Errorf("banger %s: %+v; want %q", args, r, want)
		}
	}
	if len(d.log()) != before {
		t.Errorf("the daemon was called: %q", d.log())
	}
}
