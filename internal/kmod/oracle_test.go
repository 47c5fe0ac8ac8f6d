package kmod

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"banger/internal/base/testneed"
)

// needKmod finds a program of the package kmod.
func needKmod(t *testing.T, name string) string {
	t.Helper()
	return testneed.Tool(t, name, "kmod")
}

// place writes files below dir/lib/modules/1.2.3 and returns that folder.
func place(t *testing.T, dir string, tree fstest.MapFS) string {
	t.Helper()
	root := filepath.Join(dir, "lib", "modules", "1.2.3")
	if err := os.CopyFS(root, tree); err != nil {
		t.Fatal(err)
	}
	return root
}

// TestIndexIsDepmods compares with depmod itself. It takes dependencies from
// symbols, of which the modules made here have none.
func TestIndexIsDepmods(t *testing.T) {
	depmod, dir := needKmod(t, "depmod"), t.TempDir()
	tree := fstest.MapFS{}
	for file, f := range sample(t) {
		if name := NameOf(file); name == "" || !bytes.Contains(f.Data, []byte("depends=")) {
			tree[file] = f
		} else if !strings.HasPrefix(file, "updates") {
			tree[file] = &fstest.MapFile{Data: fakeModule("alias=x-" + name + "[0-9]*")}
		}
	}
	delete(tree, "kernel/net/.hidden/empty.d/")
	tree["kernel/dup.ko"] = &fstest.MapFile{Data: fakeModule("alias=char-major-10-203", "alias=pci:v0000-x[a-c]*")}
	tree["kernel/loop.ko"] = &fstest.MapFile{Data: fakeModule("alias=devname:loop-control", "alias=char-major-10-237", "alias=block-major-7-*")}
	// Without modules.order depmod takes the folder's order, which is random.
	order := strings.Join(slices.Sorted(maps.Keys(tree)), "\n") + "\n"
	tree["modules.order"] = &fstest.MapFile{Data: []byte(strings.ReplaceAll(order, ".ko.xz", ".ko"))}

	want := place(t, dir, tree)
	if out, err := exec.CommandContext(t.Context(), depmod, "-b", dir, "1.2.3").CombinedOutput(); err != nil {
		t.Fatalf("depmod: %v\n%s", err, out)
	}
	ours, err := scan(t, tree).Index()
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range ours {
		theirs, err := os.ReadFile(filepath.Join(want, name))
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, ".bin") {
			if !bytes.Equal(got, theirs) {
				t.Errorf("%s differs:\n%q\ndepmod:\n%q", name, got, theirs)
			}
			continue
		}
		a, b := slices.Sorted(strings.Lines(string(got))), slices.Sorted(strings.Lines(string(theirs)))
		if !slices.Equal(a, b) {
			t.Errorf("%s differs:\n%q\ndepmod:\n%q", name, a, b)
		}
	}
}

// TestModprobeReadsTheIndex asks modprobe what it would load.
func TestModprobeReadsTheIndex(t *testing.T) {
	modprobe, dir := needKmod(t, "modprobe"), t.TempDir()
	tree := sample(t)
	for _, bad := range []string{"kernel/bad/loop-a.ko", "kernel/bad/loop_b.ko", "kernel/bad/orphan.ko", "updates/failover.ko", "kernel/net/.hidden/empty.d/"} {
		delete(tree, bad)
	}
	index, err := scan(t, tree).Index()
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range index {
		tree[name] = &fstest.MapFile{Data: data}
	}
	root := place(t, dir, tree)
	for _, test := range []struct {
		ask  string
		want string
	}{
		{"virtio-net", "kernel/net/failover.ko.xz kernel/net/net-failover.ko kernel/net/virtio_net.ko"},
		{"virtio:d00000001v00001af4", "kernel/net/failover.ko.xz kernel/net/net-failover.ko kernel/net/virtio_net.ko"},
		{"pci:v0000-xb77", "kernel/dev/cuse.ko"},
		{"builtin-one", "builtin"},
		{"fs-one", "builtin"},
	} {
		out, err := exec.CommandContext(t.Context(), modprobe, "-d", dir, "-S", "1.2.3", "-D", test.ask).CombinedOutput()
		if err != nil {
			t.Errorf("modprobe %s: %v\n%s", test.ask, err, out)
		}
		var got []string
		for line := range strings.Lines(string(out)) {
			what, file, _ := strings.Cut(strings.TrimSpace(line), " ")
			if what == "builtin" {
				got = append(got, what)
				continue
			}
			got = append(got, strings.TrimPrefix(strings.TrimSpace(file), root+"/"))
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("modprobe %s loads %q, want %q", test.ask, got, test.want)
		}
	}
}
