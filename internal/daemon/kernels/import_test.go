package kernels

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"banger/internal/base/errs"
	"banger/internal/vm"
)

func sum(data []byte) []byte {
	s := sha256.Sum256(data)
	return s[:]
}

// tarOf writes files in the order of their names.
func tarOf(t *testing.T, files map[string][]byte) []byte {
	t.Helper()
	var names []string
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range names {
		check(t, w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[name])), Typeflag: tar.TypeReg}))
		_, err := w.Write(files[name])
		check(t, err)
	}
	check(t, w.Close())
	return b.Bytes()
}

func gzipOf(data []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(data)
	_ = z.Close()
	return b.Bytes()
}

// modulesTar has the modules that kernelDeb's kernels have, below a folder.
func modulesTar(t *testing.T, dir, release string) []byte {
	t.Helper()
	vermagic := "\x00vermagic=" + release + " SMP"
	return tarOf(t, map[string][]byte{
		dir + "/modules.builtin":           []byte("kernel/fs/ext4/ext4.ko\nkernel/drivers/block/virtio_blk.ko"),
		dir + "/modules.dep":               []byte("stale"),
		dir + "/kernel/net/failover.ko":    module("depends=" + vermagic),
		dir + "/kernel/net/virtio_net.ko":  module("depends=failover" + vermagic),
		dir + "/kernel/fs/overlay.ko":      module("depends=" + vermagic),
		dir + "/kernel/fs/rare.ko":         module("depends=" + vermagic),
		dir + "/build/include/generated.h": []byte("not wanted"),
	})
}

// parts hands out parts one after another.
func partsOf(list ...Part) func() (Part, error) {
	return func() (Part, error) {
		if len(list) == 0 {
			return Part{}, io.EOF
		}
		p := list[0]
		list = list[1:]
		return p, nil
	}
}

func part1(kind PartKind, data []byte) Part { return Part{kind, bytes.NewReader(data)} }

func TestImport(t *testing.T) {
	const release = "6.6.1-mine"
	elf := vmlinux(release)
	withConfig := vmlinux(release, "IKCFG_ST", string(gzipOf([]byte(goodConfig()))), "IKCFG_ED")
	monolithic := strings.ReplaceAll(goodConfig(), "=m", "=y")
	modules := modulesTar(t, "lib/modules/"+release, release)
	for name, test := range map[string]struct {
		parts   []Part
		modules int
		kept    string
		overlay string // the state of the option
		config  bool
	}{
		"ELF, configuration, modules":          {[]Part{part1(PartKernel, elf), part1(PartConfig, []byte(goodConfig())), part1(PartModules, modules)}, 4, "failover.ko modules.builtin overlay.ko virtio_net.ko", vm.OptionModule, true},
		"modules alone":                        {[]Part{part1(PartKernel, elf), part1(PartModules, modules)}, 4, "failover.ko modules.builtin overlay.ko virtio_net.ko", vm.OptionModule, false},
		"compressed modules":                   {[]Part{part1(PartKernel, elf), part1(PartModules, gzipOf(modules))}, 4, "failover.ko modules.builtin overlay.ko virtio_net.ko", vm.OptionModule, false},
		"the folder itself":                    {[]Part{part1(PartKernel, elf), part1(PartModules, modulesTar(t, ".", release))}, 4, "failover.ko modules.builtin overlay.ko virtio_net.ko", vm.OptionModule, false},
		"compressed configuration, no modules": {[]Part{part1(PartKernel, bzImage(elf)), part1(PartConfig, gzipOf([]byte(monolithic)))}, 0, "modules.builtin", vm.OptionBuiltin, true},
		"the configuration in the kernel":      {[]Part{part1(PartKernel, withConfig), part1(PartConfig, []byte("CONFIG_OTHER=y\n")), part1(PartModules, modules)}, 4, "failover.ko modules.builtin overlay.ko virtio_net.ko", vm.OptionModule, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newService(t, newMirror(t))
			r, err := s.Import(t.Context(), ImportRequest{Name: "mine", Source: "a test"}, partsOf(test.parts...), nil)
			check(t, err)
			k := r.Kernel
			if k.Name != "mine" || k.Release != release || k.Modules != test.modules || k.Origin.Kind != vm.OriginFile || k.Source != "a test" || !strings.HasPrefix(k.ModulesDigest, "sha256:") {
				t.Errorf("made %+v", k)
			}
			entries, err := os.ReadDir(k.ModulesDir)
			check(t, err)
			var names []string
			for _, e := range entries {
				names = append(names, e.Name())
			}
			if got := strings.Join(names, " "); got != test.kept {
				t.Errorf("kept %q, want %q", got, test.kept)
			}
			i := slices.IndexFunc(k.Options, func(o vm.KernelOption) bool { return o.Name == "CONFIG_OVERLAY_FS" })
			if i < 0 || k.Options[i].State != test.overlay {
				t.Errorf("options %+v", k.Options)
			}
			if exists(filepath.Join(filepath.Dir(k.Path), fileConfig)) != test.config {
				t.Errorf("its configuration is kept: %t", !test.config)
			}
			disk := readTar(t, k.ModulesDisk)
			if _, ok := disk["build/include/generated.h"]; ok || test.modules > 0 && !strings.HasPrefix(disk["modules.dep"], "kernel/fs/overlay.ko:") {
				t.Errorf("the modules disk has %q", disk["modules.dep"])
			}
			// It boots with what a guest needs.
			_, err = s.Initramfs(t.Context(), k, []string{"virtio_blk", "ext4", "overlay"})
			check(t, err)
			if l := left(t, s, "mine"); len(l) != 1 || !strings.HasSuffix(l[0], ".cpio.lz4") {
				t.Errorf("left behind: %q", l)
			}
			if name, err := s.DefaultName(t.Context()); err != nil || name != "" {
				t.Errorf("an imported kernel is the default: %q, %v", name, err)
			}
		})
	}
}

func TestImportRefuses(t *testing.T) {
	const release = "6.6.1-mine"
	elf, modules := vmlinux(release), modulesTar(t, "lib/modules/"+release, release)
	kernel := func() Part { return part1(PartKernel, elf) }
	config := func(text string) Part { return part1(PartConfig, []byte(text)) }
	arm := append(append(make([]byte, 56), "ARM\x64"...), make([]byte, 1000)...)
	broken := errors.New("the line broke")
	for name, test := range map[string]struct {
		parts []Part
		kind  errs.Kind
		text  string
	}{
		"nothing":               {nil, errs.Invalid, "no kernel to import"},
		"modules first":         {[]Part{part1(PartModules, modules), kernel()}, errs.Invalid, "out of order"},
		"two kernels":           {[]Part{kernel(), kernel()}, errs.Invalid, "out of order"},
		"an unknown part":       {[]Part{kernel(), part1("firmware", nil)}, errs.Invalid, "firmware"},
		"arm64":                 {[]Part{part1(PartKernel, arm)}, errs.Invalid, "arm64"},
		"no kernel":             {[]Part{part1(PartKernel, []byte("text"))}, errs.Invalid, "neither a bzImage nor an ELF"},
		"no PVH":                {[]Part{part1(PartKernel, bytes.Replace(elf, []byte("Xen\x00"), []byte("Xem\x00"), 1))}, errs.Invalid, "CONFIG_PVH"},
		"no Linux":              {[]Part{part1(PartKernel, vmlinux("")), config(goodConfig())}, errs.Invalid, "which release"},
		"nobody knows":          {[]Part{kernel()}, errs.Invalid, "nothing says whether it has"},
		"options missing":       {[]Part{kernel(), config(without(without(goodConfig(), "CONFIG_ACPI"), "CONFIG_EXT4_FS")), part1(PartModules, tarOf(t, map[string][]byte{"a.ko": module("depends=")}))}, errs.Invalid, "it lacks CONFIG_ACPI (the VMM describes its devices by ACPI), CONFIG_EXT4_FS (the file system of all disks)"},
		"a module missing":      {[]Part{kernel(), config(goodConfig())}, errs.Invalid, "its module overlay is not there"},
		"other modules":         {[]Part{kernel(), part1(PartModules, modulesTar(t, "lib/modules/6.6.2", "6.6.2"))}, errs.Invalid, `is for "6.6.2"`},
		"no configuration":      {[]Part{kernel(), config("hello\n"), part1(PartModules, modules)}, errs.Invalid, "its configuration cannot be read"},
		"a large one":           {[]Part{kernel(), part1(PartConfig, make([]byte, maxConfig+1))}, errs.Invalid, "larger than 4 MiB"},
		"no tar":                {[]Part{kernel(), part1(PartModules, bytes.Repeat([]byte("text"), 1000))}, errs.Invalid, "it is no tar"},
		"a cut tar":             {[]Part{kernel(), part1(PartModules, modules[:515])}, errs.Invalid, "unexpected EOF"},
		"a way out":             {[]Part{kernel(), part1(PartModules, tarOf(t, map[string][]byte{"../../a.ko": nil}))}, errs.Invalid, "leads out"},
		"a file and a folder":   {[]Part{kernel(), part1(PartModules, tarOf(t, map[string][]byte{"a.ko": nil, "a.ko/b.ko": nil}))}, errs.Invalid, "a.ko/b.ko"},
		"no modules in it":      {[]Part{kernel(), part1(PartModules, tarOf(t, map[string][]byte{"etc/passwd": nil}))}, errs.Invalid, "no modules"},
		"many kernels' modules": {[]Part{kernel(), part1(PartModules, tarOf(t, map[string][]byte{"1.0/modules.dep": nil, "2.0/modules.dep": nil}))}, errs.Invalid, "1.0, 2.0"},
		"a damaged module":      {[]Part{kernel(), part1(PartModules, tarOf(t, map[string][]byte{"kernel/a.ko": []byte("x"), "modules.dep": nil}))}, errs.Invalid, "it is no module"},
		"an orphan":             {[]Part{kernel(), config(strings.ReplaceAll(goodConfig(), "=m", "=y")), part1(PartModules, tarOf(t, map[string][]byte{"kernel/a.ko": module("depends=gone")}))}, errs.Invalid, `"gone"`},
		"a broken line":         {[]Part{kernel(), {PartModules, io.MultiReader(bytes.NewReader(modules[:600]), &brokenReader{errs.New(errs.Unavailable, "%w", broken)})}}, errs.Unavailable, broken.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			s := newService(t, newMirror(t))
			_, err := s.Import(t.Context(), ImportRequest{Name: "mine"}, partsOf(test.parts...), nil)
			if errs.KindOf(err) != test.kind || !strings.Contains(err.Error(), test.text) {
				t.Errorf("err = %v (%s), want %s, %q", err, errs.KindOf(err), test.kind, test.text)
			}
			if l := left(t, s); len(l) > 0 {
				t.Errorf("left behind: %q", l)
			}
		})
	}
	s := newService(t, newMirror(t))
	for _, bad := range []string{"", ".hidden", "a/b", strings.Repeat("a", 129), "a b"} {
		if _, err := s.Import(t.Context(), ImportRequest{Name: bad}, partsOf(kernel()), nil); errs.KindOf(err) != errs.Invalid || errs.HintOf(err) == "" {
			t.Errorf("the name %q: %v", bad, err)
		}
	}
}

type brokenReader struct{ err error }

func (b *brokenReader) Read([]byte) (int, error) { return 0, b.err }

// TestImportNeedsWhatTheVMMNeeds: a module that the driver names must be there.
func TestImportNeedsWhatTheVMMNeeds(t *testing.T) {
	const release = "6.6.1-mine"
	modules := modulesTar(t, "lib/modules/"+release, release)
	for name, test := range map[string]struct {
		modules []string
		text    string
	}{
		"there":                      {[]string{"virtio-net"}, ""},
		"not there":                  {[]string{"virtio_mmio", "virtio_net", "virtio_console"}, "CONFIG_VIRTIO_MMIO (devices over MMIO: QEMU's microvm, Firecracker), CONFIG_VIRTIO_CONSOLE"},
		"one that is in no table":    {[]string{"rare"}, ""},
		"another, that is not there": {[]string{"special"}, "special (the VMM)"},
	} {
		s := newService(t, newMirror(t), func(o *Options) { o.Modules = test.modules })
		r, err := s.Import(t.Context(), ImportRequest{Name: "mine"}, partsOf(part1(PartKernel, vmlinux(release)), part1(PartModules, modules)), nil)
		if (err == nil) != (test.text == "") || err != nil && !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			if _, err := s.Initramfs(t.Context(), r.Kernel, append(test.modules, "ext4", "overlay")); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestImportTakesANameOnce(t *testing.T) {
	const release = "6.6.1-mine"
	s := newService(t, newMirror(t))
	imp := func(more string, kind errs.Kind) Result {
		t.Helper()
		r, err := s.Import(t.Context(), ImportRequest{Name: "mine"}, partsOf(part1(PartKernel, vmlinux(release, more)), part1(PartModules, modulesTar(t, ".", release))), nil)
		if got := errs.KindOf(err); err != nil && (got != kind || errs.HintOf(err) == "") || err == nil && kind != "" {
			t.Fatalf("%v (%s), want %q", err, got, kind)
		}
		return r
	}
	if r := imp("", ""); r.Already {
		t.Errorf("the first: %+v", r)
	}
	if r := imp("", ""); !r.Already {
		t.Errorf("the same again: %+v", r)
	}
	imp("another", errs.Exists)
	k, err := s.Get(t.Context(), "mine")
	check(t, err)
	check(t, os.RemoveAll(filepath.Dir(k.Path)))
	if r := imp("another", ""); r.Already || r.Kernel.Digest == k.Digest {
		t.Errorf("where the files have gone: %+v", r)
	}
	if l := left(t, s, "mine"); len(l) > 0 {
		t.Errorf("left behind: %q", l)
	}
}

func TestImportEndsWithItsClient(t *testing.T) {
	s := newService(t, newMirror(t))
	ctx, cancel := context.WithCancel(t.Context())
	_, err := s.Import(ctx, ImportRequest{Name: "mine"}, func() (Part, error) {
		cancel()
		<-ctx.Done()
		return Part{}, ctx.Err()
	}, nil)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
	if l := left(t, s); len(l) > 0 {
		t.Errorf("left behind: %q", l)
	}
}

func FuzzTree(f *testing.F) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range []string{"lib/modules/1.0/kernel/a.ko", "lib/modules/1.0/modules.dep", "../x.ko", "/abs.ko"} {
		_ = w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg})
	}
	_ = w.Close()
	f.Add(b.Bytes())
	f.Add(gzipOf(b.Bytes()[:1024]))
	f.Add([]byte("\xfd7zXZ\x00"))
	f.Add([]byte("\x28\xb5\x2f\xfd\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		parent := t.TempDir()
		dir := filepath.Join(parent, "tree")
		if err := unpackTree(context.Background(), bytes.NewReader(data), dir); err == nil {
			_, _ = findTree(dir, "1.0")
		}
		entries, err := os.ReadDir(parent)
		if err != nil || len(entries) > 1 || len(entries) == 1 && entries[0].Name() != "tree" {
			t.Errorf("it wrote %v, %v", entries, err)
		}
	})
}
