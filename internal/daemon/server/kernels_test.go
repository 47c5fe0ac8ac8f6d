package server

import (
	"errors"
	"io"
	"testing"

	bangerv1 "banger/api/banger/v1"
	"banger/internal/base/errs"
	"banger/internal/daemon/kernels"
)

// messages hands out the messages of an import, then an error.
func messages(end error, list ...*bangerv1.KernelImportRequest) *kernelParts {
	receive := func() (*bangerv1.KernelImportRequest, error) {
		if len(list) == 0 {
			return nil, end
		}
		m := list[0]
		list = list[1:]
		return m, nil
	}
	first, err := receive()
	return &kernelParts{receive: receive, msg: first, err: err}
}

func data(part bangerv1.KernelImportRequest_Part, text string) *bangerv1.KernelImportRequest {
	return &bangerv1.KernelImportRequest{Part: part, Data: []byte(text)}
}

const (
	kernelPart  = bangerv1.KernelImportRequest_PART_KERNEL
	configPart  = bangerv1.KernelImportRequest_PART_CONFIG
	modulesPart = bangerv1.KernelImportRequest_PART_MODULES
)

func TestKernelPartsComeApart(t *testing.T) {
	k := messages(io.EOF, &bangerv1.KernelImportRequest{Name: "x"}, data(kernelPart, "ker"), data(kernelPart, ""), data(kernelPart, "nel"),
		data(configPart, "never read"), data(configPart, "nor this"), data(modulesPart, "modules"))
	for _, want := range []struct {
		kind kernels.PartKind
		text string
	}{{kernels.PartKernel, "kernel"}, {kernels.PartConfig, ""}, {kernels.PartModules, "modules"}} {
		p, err := k.next()
		if err != nil || p.Kind != want.kind {
			t.Fatalf("%q, %v; want %q", p.Kind, err, want.kind)
		}
		if want.text == "" {
			continue
		}
		for range 2 { // the end is the end
			if text, err := io.ReadAll(p.Data); err != nil || string(text) != want.text {
				t.Errorf("%q: %q, %v", p.Kind, text, err)
			}
			want.text = ""
		}
	}
	if _, err := k.next(); !errors.Is(err, io.EOF) {
		t.Errorf("behind the last: %v", err)
	}
}

func TestKernelPartsEndWithTheStream(t *testing.T) {
	broken := errors.New("the client has gone")
	k := messages(broken, data(kernelPart, "ker"))
	p, err := k.next()
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(p.Data); !errors.Is(err, broken) || string(text) != "ker" {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := k.next(); !errors.Is(err, broken) {
		t.Errorf("next: %v", err)
	}
	if _, err := messages(io.EOF, data(99, "x")).next(); errs.KindOf(err) != errs.Invalid {
		t.Errorf("an unknown part: %v", err)
	}
	if _, err := messages(io.EOF, &bangerv1.KernelImportRequest{Name: "x"}).next(); !errors.Is(err, io.EOF) {
		t.Errorf("nothing but a header: %v", err)
	}
}
