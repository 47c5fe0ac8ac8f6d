package cli

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	bangerv1 "banger/api/banger/v1"
	"banger/ext4"
	"banger/internal/base/errs"
)

func TestKernelPull(t *testing.T) {
	d := startFake(t)
	config := filepath.Join(t.TempDir(), "config")
	writeFile(t, config, "CONFIG_A=y\n")
	const url, digest = "https://example.com/vmlinux", "sha256:00"
	for _, c := range []struct {
		args              string
		code              int
		out, errOut, call string
	}{
		{"", 0, "6.12.2-cloud-amd64\n", "6.12.2-cloud-amd64 is new: VMs made from now on get it; others keep theirs (6.12.1-cloud-amd64) until: banger vm set VM --kernel 6.12.2-cloud-amd64", "pull|||||||"},
		{"6.12", 0, "6.12.1-cloud-amd64\n", "6.12.1-cloud-amd64 is here already\n", "pull|6.12||||||"},
		{"6.2", 122, "", "has no kernel \"6.2\"\n  try: banger kernel catalog", "pull|6.2||||||"},
		{"--url " + url + " --digest " + digest + " --name x --config " + config, 0, "6.12.2-cloud-amd64\n", "unpacking", "pull||" + url + "|sha256:00|x|||CONFIG_A=y\n"},
		{"--url " + url + " --digest " + digest + " --name x --modules m --modules-digest n", 0, "6.12.2-cloud-amd64\n", "unpacking", "pull||" + url + "|sha256:00|x|m|n|"},
	} {
		before := len(d.log())
		r := banger(t, append([]string{"kernel", "pull"}, strings.Fields(c.args)...)...)
		if calls := d.log(); r.code != c.code || r.out != c.out || !strings.Contains(r.errOut, c.errOut) || len(calls) != before+1 || !slices.Contains(calls, c.call) {
			t.Errorf("pull %s: %+v, calls %q", c.args, r, calls)
		}
	}
}

func TestKernelCommandsRefuseWrongUsage(t *testing.T) {
	d := startFake(t)
	bad := filepath.Join(t.TempDir(), "bad")
	writeFile(t, bad, "hello")
	for args, text := range map[string]string{
		"kernel pull a b":                              "accepts at most 1 arg",
		"kernel pull 6.12 --url x":                     "goes not with --url",
		"kernel pull --url x":                          "--name is missing",
		"kernel pull --url x --allow-older":            "--allow-older",
		"kernel pull --digest x":                       "--url, which is missing",
		"kernel pull --config x":                       "--url, which is missing",
		"kernel pull --url x --name y --config " + bad: "no line CONFIG_",
		"kernel import":                                "either the kernel's file or --host",
		"kernel import x --host":                       "either the kernel's file or --host",
		"kernel import --host --modules x":             "by itself",
		"kernel import x":                              "--name is missing",
		"kernel show":                                  "accepts 1 arg",
		"kernel delete":                                "at least 1 arg",
		"kernel frob":                                  "frob",
		"vm set":                                       "at least 1 arg",
		"vm set x":                                     "nothing to change",
		"vm set Not_A_Label --vcpu 1":                  "Not_A_Label",
		"vm set x --vcpu 0":                            "0 CPUs",
		"vm set x --memory 1":                          "1 of memory",
		"vm set x --disk-size 1":                       "a disk cannot have 1",
		"vm run --kernel=":                             "a kernel's name cannot be empty",
		"vm set x --kernel=":                           "a kernel's name cannot be empty",
	} {
		if r := banger(t, strings.Fields(args)...); r.code != 121 || !strings.Contains(r.errOut, text) || !strings.Contains(r.errOut, "\n  try: ") || r.out != "" {
			t.Errorf("banger %s: %+v; want 121 and %q", args, r, text)
		}
	}
	for _, args := range []string{"import /no/such --name x", "import /dev/null --name x --modules /no/such", "import /dev/null --name x --config /no/such", "show none"} {
		if r := banger(t, strings.Fields("kernel "+args)...); r.code != 122 || r.out != "" {
			t.Errorf("banger kernel %s: %+v; want 122", args, r)
		}
	}
	if calls := d.log(); len(calls) != 0 {
		t.Errorf("the daemon was called: %q", calls)
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// namesIn lists a tar.
func namesIn(t *testing.T, data []byte) (names []string) {
	t.Helper()
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
}

const (
	partKernel  = bangerv1.KernelImportRequest_PART_KERNEL
	partConfig  = bangerv1.KernelImportRequest_PART_CONFIG
	partModules = bangerv1.KernelImportRequest_PART_MODULES
)

func TestKernelImport(t *testing.T) {
	d := startFake(t)
	dir := t.TempDir()
	image := strings.Repeat("0123456789abcdef", 100_000)
	writeFile(t, dir+"/vmlinuz-6.1", image)
	writeFile(t, dir+"/config-6.1", "CONFIG_BESIDE=y\n")
	writeFile(t, dir+"/other", "CONFIG_OTHER=y\n")
	writeFile(t, dir+"/m/lib/modules/6.1/kernel/a.ko.xz", "a")
	writeFile(t, dir+"/m/lib/modules/6.1/modules.builtin", "b")
	writeFile(t, dir+"/m/lib/modules/6.1/source/README", "not wanted")
	writeFile(t, dir+"/m.tar", "a tar")
	if err := os.Symlink("/usr/src/linux", dir+"/m/lib/modules/6.1/build"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args    string
		in      io.Reader
		config  string
		modules []string
	}{
		{args: dir + "/vmlinuz-6.1", config: "CONFIG_BESIDE=y\n"},
		{args: dir + "/vmlinuz-6.1 --config " + dir + "/other --modules " + dir + "/m", config: "CONFIG_OTHER=y\n", modules: []string{"lib/modules/6.1/kernel/a.ko.xz", "lib/modules/6.1/modules.builtin"}},
		{args: "- --modules " + dir + "/m/lib/modules/6.1", in: strings.NewReader(image), modules: []string{"kernel/a.ko.xz", "modules.builtin"}},
	} {
		r := start(t, c.in, append([]string{"kernel", "import", "--name", "mine"}, strings.Fields(c.args)...)...).wait()
		head, parts := get(d, &d.kernelHead), get(d, &d.kernelParts)
		if r.code != 0 || r.out != "mine\n" || head.GetName() != "mine" || head.GetSource() == "" || head.GetHost() {
			t.Errorf("import %s: %+v, %v", c.args, r, head)
		}
		if string(parts[partKernel]) != image || string(parts[partConfig]) != c.config || !slices.Equal(namesIn(t, parts[partModules]), c.modules) {
			t.Errorf("import %s: kernel of %d bytes, configuration %q, modules %q", c.args, len(parts[partKernel]), parts[partConfig], namesIn(t, parts[partModules]))
		}
	}
	if r := banger(t, "kernel", "import", dir+"/other", "--name", "x", "--modules", dir+"/m.tar"); r.code != 0 || string(get(d, &d.kernelParts)[partModules]) != "a tar" {
		t.Errorf("a tar: %+v", r)
	}
	if r := start(t, io.MultiReader(strings.NewReader("x"), brokenReader{}), "kernel", "import", "-", "--name", "x").wait(); r.code != 120 || !strings.Contains(r.errOut, "cannot read the kernel's files") {
		t.Errorf("a broken input: %+v", r)
	}
}

func TestHostKernel(t *testing.T) {
	root := t.TempDir()
	const release = "6.1.0-9-amd64"
	if _, err := hostKernelOf(root, release); errs.KindOf(err) != errs.NotFound || !strings.Contains(errs.HintOf(err), "--name "+release) {
		t.Errorf("a host without its kernel: %v, hint %q", err, errs.HintOf(err))
	}
	writeFile(t, root+"/lib/modules/"+release+"/vmlinuz", "arch")
	writeFile(t, root+"/proc/config.gz", "packed")
	k, err := hostKernelOf(root, release)
	if want := (kernelFiles{root + "/lib/modules/" + release + "/vmlinuz", root + "/proc/config.gz", root + "/lib/modules/" + release}); err != nil || k.kernelFiles != want {
		t.Errorf("as Arch has it: %+v, %v", k, err)
	}
	writeFile(t, root+"/boot/vmlinuz-"+release, "debian")
	writeFile(t, root+"/boot/config-"+release, "CONFIG_A=y\n")
	k, err = hostKernelOf(root, release)
	if want := (kernelFiles{root + "/boot/vmlinuz-" + release, root + "/boot/config-" + release, root + "/lib/modules/" + release}); err != nil || k.kernelFiles != want || k.release != release {
		t.Errorf("as Debian has it: %+v, %v", k, err)
	}
}

func TestHostKernelThatCannotBeRead(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root can read everything")
	}
	root := t.TempDir()
	const release = "6.8.0-ubuntu"
	path := root + "/boot/vmlinuz-" + release
	writeFile(t, path, "x")
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := hostKernelOf(root, release); errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error(), path) || !strings.Contains(errs.HintOf(err), "sudo install") {
		t.Errorf("err = %v, hint %q", err, errs.HintOf(err))
	}
}

func TestKernelListings(t *testing.T) {
	startFake(t)
	for _, c := range []struct{ args, want string }{
		{"kernel list", "6.12.1-cloud-amd64  -        3MiB"},
		{"kernel list --json", `"release": "6.12.1-cloud-amd64"`},
		{"kernel show 6.12.1-cloud-amd64", "signed index:    bookworm of "},
		{"kernel show 6.12.1-cloud-amd64", "by the key B8B80B5B623EAB6AD8775C45B7C5D7D6350947F8"},
		{"kernel show 6.12.1-cloud-amd64", "CONFIG_EXT4_FS   module   ext4    yes       the disks"},
		{"kernel show --json 6.12.1-cloud-amd64", `"state": "missing"`},
		{"kernel catalog", "6.12.2-cloud-amd64  6.12.2-1  30MiB  yes      -     http://mirror bookworm-security"},
		{"kernel catalog", "6.12.1-cloud-amd64  6.12.1-1  30MiB  -        yes"},
		{"kernel catalog --all --json", `"release": "6.1.0-9-rt-amd64"`},
	} {
		if r := banger(t, strings.Fields(c.args)...); r.code != 0 || !strings.Contains(r.out, c.want) {
			t.Errorf("banger %s: exit %d, %q %s; want %q", c.args, r.code, r.out, r.errOut, c.want)
		}
	}
	var all []kernelJSON
	if err := json.Unmarshal([]byte(banger(t, "kernel", "show", "--json", fakeKernel).out), &all); err != nil || len(all) != 1 || !slices.Equal(all[0].VMs, []string{"up"}) ||
		all[0].Origin.IndexDate == nil || all[0].Origin.Suite != "bookworm" || len(all[0].Options) != 2 || !all[0].Options[0].Required {
		t.Errorf("%+v, %v", all, err)
	}
	if r := banger(t, "kernel", "delete", "other", fakeKernel); r.code != 123 || r.out != "other\n" || !strings.Contains(r.errOut, `in use by the VM "up"`) {
		t.Errorf("delete: %+v", r)
	}
}

func TestVMSet(t *testing.T) {
	d := startFake(t)
	d.add("up", bangerv1.State_STATE_RUNNING)
	d.add("down", bangerv1.State_STATE_STOPPED)
	r := banger(t, "vm", "set", "up", "down", "--kernel", "6.1", "--vcpu", "3", "--memory", "2GiB")
	if r.code != 0 || r.out != "up\ndown\n" || strings.Count(r.errOut, "up runs: it has this from its next start (banger vm restart up)") != 1 || strings.Contains(r.errOut, "down") {
		t.Errorf("%+v", r)
	}
	for _, v := range d.all() {
		if v.GetKernel() != "6.1" || v.GetVcpus() != 3 || v.GetMemoryBytes() != 2<<30 {
			t.Errorf("%s has %v", v.GetName(), v)
		}
	}
	if r := banger(t, "vm", "show", "up"); !strings.Contains(r.out, "6.12.1-cloud-amd64, from the next start 6.1\n") || !strings.Contains(r.out, "2, from the next start 3\n") || !strings.Contains(r.out, "1GiB, from the next start 2GiB\n") {
		t.Errorf("show of the one that runs:\n%s", r.out)
	}
	if r := banger(t, "vm", "show", "down"); strings.Contains(r.out, "next start") {
		t.Errorf("show of the other:\n%s", r.out)
	}
	if r := banger(t, "vm", "set", "none", "down", "--vcpu", "1"); r.code != 122 || r.out != "down\n" || d.all()[1].GetVcpus() != 1 {
		t.Errorf("one of two: %+v", r)
	}
}

// TestVMSetGrowsTheDisk asks for no change of the VM itself.
func TestVMSetGrowsTheDisk(t *testing.T) {
	d := startFake(t)
	d.add("up", bangerv1.State_STATE_RUNNING)
	d.add("down", bangerv1.State_STATE_STOPPED)
	makeImage(t, d.disk("work"), ext4.Options{})
	if r := banger(t, "vm", "set", "down", "--disk-size", "128MiB"); r.code != 0 || r.out != "down\n" {
		t.Errorf("%+v", r)
	}
	if info, err := os.Stat(d.disk("work")); err != nil || info.Size() != 128<<20 {
		t.Errorf("the disk: %v, %v", info, err)
	}
	// A disk that cannot grow keeps all else as it is.
	r := banger(t, "vm", "set", "up", "--disk-size", "256MiB", "--vcpu", "7")
	if r.code != 123 || !strings.Contains(r.errOut, "banger vm stop up") || d.all()[0].GetVcpus() == 7 {
		t.Errorf("of a VM that runs: %+v", r)
	}
	for _, call := range d.log() {
		if strings.HasPrefix(call, "set ") {
			t.Errorf("the daemon was asked to %s", call)
		}
	}
}

func TestCompletionOfKernels(t *testing.T) {
	d := startFake(t)
	d.add("up", bangerv1.State_STATE_RUNNING)
	for args, want := range map[string]string{
		"kernel show":        fakeKernel + "\n",
		"kernel show x":      "",
		"kernel delete":      fakeKernel + "\n",
		"kernel pull":        "6.12\n6.1\n",
		"vm run --kernel":    fakeKernel + "\n",
		"vm set up --kernel": fakeKernel + "\n",
		"vm set":             "up\n",
		"kernel pull --url":  "",
	} {
		if r := banger(t, append(append([]string{"__complete"}, strings.Fields(args)...), "")...); r.out != want+":4\n" {
			t.Errorf("completion of %q: %q, want %q", args, r.out, want)
		}
	}
}
