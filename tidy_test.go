package banger_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "banger"

// layers lists every package, lowest first. A package may import only packages
// of lower layers; the edges allowed within a layer stand in sideways.
// ARCHITECTURE.md draws the same picture, and TestArchitectureNamesEveryPackage
// holds it to that.
var layers = [][]string{
	{ // contracts and leaves
		"api/banger/v1", "api/banger/v1/bangerv1connect", "api/shim/v1", "api/shim/v1/shimv1connect", "api/guest/v1", "api/guest/v1/guestv1connect",
		"internal/base/atomicfile", "internal/base/disklock", "internal/base/errs", "internal/base/paths", "internal/base/flight", "internal/base/kvm", "internal/base/progress", "internal/base/testneed", "internal/base/tomlfile", "internal/base/undo", "internal/base/version",
		"internal/guestbin",
		"ext4/internal/crc", "ext4/internal/dir", "ext4/internal/disk", "ext4/internal/jbd2", "ext4/internal/tarfile", "ext4/internal/xattr", "ext4",
	},
	{"internal/guestabi", "internal/vm"}, // vocabulary
	{ // mechanisms
		"internal/blobs", "internal/bzimage", "internal/config", "internal/debian", "internal/diskimage", "internal/dockerfile", "internal/doctor", "internal/fetch", "internal/guestlink", "internal/imagecatalog", "internal/initramfs",
		"internal/kconfig", "internal/kmod", "internal/mmdebstrap", "internal/oci", "internal/oci/archive", "internal/oci/registry", "internal/oci/unpack", "internal/rpc", "internal/vmm", "internal/vmm/qemu", "internal/vmm/vmmtest",
	},
	{ // services and parts
		"internal/cli/client", "internal/cli/term",
		"internal/daemon/images", "internal/daemon/kernels", "internal/daemon/lifecycle", "internal/daemon/shims", "internal/daemon/statedb",
		"internal/guest/agent", "internal/guest/boot",
	},
	{"internal/daemon/server"}, // edges
	{"internal/cli", "internal/daemon", "internal/guest", "internal/shim"},                               // roots
	{"bench/boot", "bench/boot/poweroff", "bench/ext4", "bench/import", "cmd/banger", "cmd/banger-init"}, // mains
}

// sideways lists the imports allowed within a layer.
var sideways = map[string][]string{
	"api/banger/v1/bangerv1connect": {"api/banger/v1"},
	"api/shim/v1/shimv1connect":     {"api/shim/v1"},
	"api/guest/v1/guestv1connect":   {"api/guest/v1"},
	"ext4":                          {"ext4/internal/dir", "ext4/internal/disk", "ext4/internal/jbd2", "ext4/internal/tarfile", "ext4/internal/xattr", "ext4/internal/crc"},
	"ext4/internal/dir":             {"ext4/internal/crc"},
	"ext4/internal/disk":            {"ext4/internal/crc"},
	"ext4/internal/jbd2":            {"ext4/internal/crc"},
	"ext4/internal/xattr":           {"ext4/internal/crc"},
	"internal/base/disklock":        {"internal/base/errs"},
	"internal/base/flight":          {"internal/base/progress"},
	"internal/base/paths":           {"internal/base/errs"},
	"internal/base/tomlfile":        {"internal/base/errs"},
	"internal/config":               {"internal/oci", "internal/oci/registry"},
	"internal/debian":               {"internal/fetch"},
	"internal/doctor":               {"internal/debian", "internal/fetch"},
	"internal/imagecatalog":         {"internal/oci"},
	"internal/guestbin":             {"internal/base/errs"},
	"internal/oci/archive":          {"internal/oci", "internal/oci/unpack"},
	"internal/oci/registry":         {"internal/oci"},
	"internal/vmm/qemu":             {"internal/vmm"},
	"internal/vmm/vmmtest":          {"internal/guestlink", "internal/rpc", "internal/vmm"},
}

// forbidden names what a package must not reach, even through others.
var forbidden = map[string][]string{
	"cmd/banger-init": {"database/sql", "github.com/spf13/cobra", "internal/daemon", "internal/cli", "internal/vmm", "internal/debian"},
	"internal/cli":    {"internal/daemon", "internal/vmm", "internal/shim", "database/sql"},
}

// maxLines is the budget of one file; generated files are exempt.
const maxLines = 600

type goPackage struct {
	ImportPath, Dir, Doc          string
	GoFiles, TestGoFiles, Imports []string
	XTestGoFiles, Deps            []string
}

func TestTidy(t *testing.T) {
	level := map[string]int{}
	for i, names := range layers {
		for _, n := range names {
			level[n] = i
		}
	}
	found := map[string]bool{}
	for _, p := range listPackages(t) {
		checkFileLengths(t, p)
		if len(p.GoFiles) == 0 {
			continue
		}
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		found[name] = true
		own, known := level[name]
		if !known {
			t.Errorf("%s is in no layer: add it to layers and to ARCHITECTURE.md", name)
			continue
		}
		if within(name, "ext4") {
			for _, imp := range p.Imports {
				if strings.Contains(strings.Split(imp, "/")[0], ".") || strings.HasPrefix(imp, module+"/") && !within(strings.TrimPrefix(imp, module+"/"), "ext4/internal") {
					t.Errorf("%s must not import %s: the library has the standard library and ext4/internal only", name, imp)
				}
			}
		}
		if p.Doc == "" && !strings.HasPrefix(name, "api/") {
			t.Errorf("%s has no package comment", name)
		}
		for _, imp := range p.Imports {
			dep, ours := strings.CutPrefix(imp, module+"/")
			if ours && level[dep] >= own && !slices.Contains(sideways[name], dep) {
				t.Errorf("%s must not import %s: layer %d may use only lower layers", name, dep, own)
			}
		}
		for _, ban := range forbidden[name] {
			for _, dep := range p.Deps {
				dep = strings.TrimPrefix(dep, module+"/")
				if dep == ban || strings.HasPrefix(dep, ban+"/") {
					t.Errorf("%s must not depend on %s, even through others", name, dep)
				}
			}
		}
	}
	for name := range level {
		if !found[name] {
			t.Errorf("layers names %s, which does not exist", name)
		}
	}
}

// within says whether a package is the one at dir, or below it.
func within(name, dir string) bool { return name == dir || strings.HasPrefix(name, dir+"/") }

func TestArchitectureNamesEveryPackage(t *testing.T) {
	text, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, names := range layers {
		for _, n := range names {
			if strings.HasPrefix(n, "api/") {
				n = filepath.Dir(strings.TrimSuffix(n, "connect"))
				n = strings.Join(strings.Split(n, "/")[:2], "/")
			}
			if !strings.Contains(string(text), "`"+n+"`") {
				t.Errorf("ARCHITECTURE.md does not mention `%s`", n)
			}
		}
	}
}

func TestDependenciesAreJustified(t *testing.T) {
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("docs/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mod)) {
		fields := strings.Fields(line)
		if len(fields) == 2 && strings.Contains(fields[0], ".") && fields[0] != "go" && !strings.Contains(string(doc), "`"+fields[0]+"`") {
			t.Errorf("docs/dependencies.md does not say why we use %s", fields[0])
		}
	}
}

func listPackages(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Dir,Doc,GoFiles,TestGoFiles,XTestGoFiles,Imports,Deps", "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []goPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func checkFileLengths(t *testing.T, p goPackage) {
	t.Helper()
	for _, name := range slices.Concat(p.GoFiles, p.TestGoFiles, p.XTestGoFiles) {
		data, err := os.ReadFile(filepath.Join(p.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(data, []byte("\n")); n > maxLines && !bytes.Contains(data, []byte("DO NOT EDIT")) {
			t.Errorf("%s/%s has %d lines; %d is the budget", p.ImportPath, name, n, maxLines)
		}
	}
}
