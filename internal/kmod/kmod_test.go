package kmod

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/ulikunitz/xz"
	"pgregory.net/rapid"

	"banger/internal/base/errs"
)

// fakeModule returns an ELF with nothing in it but a section .modinfo of fields.
func fakeModule(fields ...string) []byte {
	const names = "\x00.modinfo\x00.shstrtab\x00"
	info := strings.Join(fields, "\x00") + "\x00"
	h := elf.Header64{
		Type: uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: 1,
		Ehsize: 64, Shentsize: 64, Shnum: 3, Shstrndx: 2,
		Shoff: uint64(64 + len(info) + len(names)),
	}
	copy(h.Ident[:], elf.ELFMAG+string([]byte{byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1}))
	var b bytes.Buffer
	for _, part := range []any{
		h, []byte(info), []byte(names), elf.Section64{},
		elf.Section64{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: 64, Size: uint64(len(info)), Addralign: 1},
		elf.Section64{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: uint64(64 + len(info)), Size: uint64(len(names)), Addralign: 1},
	} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			panic(err)
		}
	}
	return b.Bytes()
}

func xzOf(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := xz.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func scan(t *testing.T, tree fstest.MapFS) *Set {
	t.Helper()
	s, err := Scan(t.Context(), tree)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// sample is a tree with what real ones have: hyphens, compression, soft
// dependencies, built-in modules.
func sample(t *testing.T) fstest.MapFS {
	file := func(fields ...string) *fstest.MapFile { return &fstest.MapFile{Data: fakeModule(fields...)} }
	return fstest.MapFS{
		"kernel/net/net-failover.ko":  file("depends=failover", "license=GPL"),
		"kernel/net/failover.ko.xz":   {Data: xzOf(t, fakeModule("depends="))},
		"kernel/net/virtio_net.ko":    file("alias=virtio:d00000001v*", "depends=net-failover"),
		"kernel/fs/big.ko":            file("depends=builtin-one,lib", "softdep=pre: soft unknown post: after"),
		"kernel/fs/soft.ko":           file("depends=big"), // a circle through a soft dependency is none
		"kernel/fs/after.ko":          file(),
		"kernel/lib/lib.ko":           file("depends="),
		"kernel/bad/loop-a.ko":        file("depends=loop_b"),
		"kernel/bad/loop_b.ko":        file("depends=loop-a"),
		"kernel/bad/orphan.ko":        file("depends=gone"),
		"kernel/dev/cuse.ko":          file("alias=devname:cuse", "alias=char-major-10-203", "alias=pci:v0000-x[a-c]*"),
		"modules.builtin":             {Data: []byte("kernel/x/builtin-one.ko\n")},
		"modules.builtin.modinfo":     {Data: []byte("builtin_one.license=GPL\x00builtin_one.alias=fs-one\x00")},
		"modules.order":               {Data: []byte("kernel/net/virtio_net.ko\nkernel/lib/lib.ko\n")},
		"kernel/net/unrelated.txt":    {Data: []byte("no module")},
		"updates/failover.ko":         file("depends=gone"), // twice: the first by path counts
		"kernel/net/.hidden/empty.d/": {Mode: 0o40755},
	}
}

func names(modules []Module) string {
	var all []string
	for _, m := range modules {
		all = append(all, m.Name)
	}
	return strings.Join(all, " ")
}

func TestOrder(t *testing.T) {
	s := scan(t, sample(t))
	for _, test := range []struct{ wanted, want, fails string }{
		{wanted: "virtio-net", want: "failover net_failover virtio_net"},
		{wanted: "virtio_net failover", want: "failover net_failover virtio_net"},
		{wanted: "lib virtio_net lib", want: "lib failover net_failover virtio_net"},
		{wanted: "builtin-one", want: ""},
		{wanted: "big", want: "lib big"},
		{wanted: "soft", want: "lib big soft"},
		{wanted: "loop_a", fails: `"loop_a" depends on itself`},
		{wanted: "orphan", fails: `cannot find the kernel module "gone" (needed by "orphan")`},
		{wanted: "nosuch", fails: `cannot find the kernel module "nosuch"`},
	} {
		t.Run(test.wanted, func(t *testing.T) {
			got, err := s.Order(strings.Fields(test.wanted)...)
			if test.fails != "" {
				if err == nil || !strings.Contains(err.Error(), test.fails) {
					t.Errorf("err = %v, want %s", err, test.fails)
				}
				return
			}
			if err != nil || names(got) != test.want {
				t.Errorf("got %q, %v; want %q", names(got), err, test.want)
			}
		})
	}
	if _, err := s.Order("nosuch"); errs.KindOf(err) != errs.NotFound {
		t.Errorf("kind of %v is %s, want %s", err, errs.KindOf(err), errs.NotFound)
	}
}

func TestOrderPutsEveryModuleBehindWhatItNeeds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(t, "modules")
		s := &Set{byName: map[string]int{}}
		for i := range n {
			m := Module{Name: string(rune('a' + i)), Path: string(rune('a'+i)) + ".ko"}
			for j := range i { // edges go to earlier modules, so there is no circle
				if rapid.Bool().Draw(t, "edge") {
					m.info.depends = append(m.info.depends, string(rune('a'+j)))
				}
			}
			s.byName[m.Name] = i
			s.modules = append(s.modules, m)
		}
		wanted := rapid.SliceOf(rapid.SampledFrom(s.modules)).Draw(t, "wanted")
		var want []string
		for _, m := range wanted {
			want = append(want, m.Name)
		}
		got, err := s.Order(want...)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for _, m := range got {
			for _, d := range m.info.depends {
				if !seen[d] {
					t.Fatalf("%s stands before %s, which it needs", m.Name, d)
				}
			}
			if seen[m.Name] {
				t.Fatalf("%s stands twice", m.Name)
			}
			seen[m.Name] = true
		}
		for _, w := range want {
			if !seen[w] {
				t.Fatalf("%s is missing", w)
			}
		}
	})
}

func TestScanRefusesWhatIsNoModule(t *testing.T) {
	_, err := Scan(t.Context(), fstest.MapFS{"a.ko": {Data: []byte("text")}})
	if err == nil || !strings.Contains(err.Error(), "a.ko: it is no module") {
		t.Errorf("err = %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Scan(ctx, sample(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v, want canceled", err)
	}
}

func TestIndexTexts(t *testing.T) {
	tree := sample(t)
	for _, bad := range []string{"kernel/bad/loop-a.ko", "kernel/bad/loop_b.ko", "kernel/bad/orphan.ko"} {
		if _, err := scan(t, tree).Index(); err == nil {
			t.Errorf("with %s there should be no index", bad)
		}
		delete(tree, bad)
	}
	files, err := scan(t, tree).Index()
	if err != nil {
		t.Fatal(err)
	}
	for name, line := range map[string]string{
		"modules.dep":     "kernel/net/virtio_net.ko: kernel/net/net-failover.ko kernel/net/failover.ko.xz\n",
		"modules.alias":   "alias virtio:d00000001v* virtio_net\n",
		"modules.softdep": "softdep big pre: soft unknown post: after\n",
		"modules.devname": "cuse cuse c10:203\n",
	} {
		if !slices.Contains(slices.Collect(strings.Lines(string(files[name]))), line) {
			t.Errorf("%s has no line %q:\n%s", name, line, files[name])
		}
	}
	if !strings.HasPrefix(string(files["modules.dep"]), "kernel/net/virtio_net.ko:") {
		t.Error("modules.dep is not in the order of modules.order")
	}
	if got := lookup(t, files["modules.alias.bin"], "pci:v0000_x[a-c]*"); !slices.Equal(got, []string{"cuse"}) {
		t.Errorf("the alias with a range belongs to %q", got)
	}
	if got := lookup(t, files["modules.builtin.alias.bin"], "fs_one"); !slices.Equal(got, []string{"builtin_one"}) {
		t.Errorf("the alias of a built-in module belongs to %q", got)
	}
}

// lookup finds a key's values in an index file.
func lookup(t interface{ Fatalf(string, ...any) }, file []byte, key string) []string {
	be := binary.BigEndian
	cString := func(at int) (string, int) {
		n := bytes.IndexByte(file[at:], 0)
		return string(file[at : at+n]), at + n + 1
	}
	if be.Uint32(file) != indexMagic || be.Uint32(file[4:]) != indexVersion {
		t.Fatalf("bad header %x", file[:8])
	}
	for node := be.Uint32(file[8:]); node != 0; {
		at := int(node & 0x0fffffff)
		if node&nodePrefix != 0 {
			var prefix string
			prefix, at = cString(at)
			var ok bool
			if key, ok = strings.CutPrefix(key, prefix); !ok {
				return nil
			}
		}
		next := uint32(0)
		if node&nodeChildren != 0 {
			first, last := file[at], file[at+1]
			at += 2
			if key != "" && key[0] >= first && key[0] <= last {
				next = be.Uint32(file[at+4*int(key[0]-first):])
			}
			at += 4 * (int(last-first) + 1)
		}
		if key == "" {
			var values []string
			if node&nodeValues != 0 {
				n := be.Uint32(file[at:])
				at += 4
				for range n {
					var v string
					v, at = cString(at + 4)
					values = append(values, v)
				}
			}
			return values
		}
		key, node = key[1:], next
	}
	return nil
}

func TestTrieHoldsWhatWasPutIn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keys := rapid.SliceOf(rapid.StringMatching(`[ab\-_*]{0,6}`)).Draw(t, "keys")
		want := map[string][]string{}
		var entries []entry
		for i, k := range keys {
			v := string(rune('A' + i%26))
			want[k] = append(want[k], v)
			entries = append(entries, entry{k, v, uint32(i)})
		}
		file := trie(append(entries, entry{key: "no\x00key"}, entry{key: "ä"}))
		for k, v := range want {
			if got := lookup(t, file, k); !slices.Equal(got, v) {
				t.Fatalf("%q has %q, want %q", k, got, v)
			}
		}
		if probe := rapid.StringMatching(`[ab\-_*]{0,7}`).Draw(t, "probe"); want[probe] == nil && len(lookup(t, file, probe)) > 0 {
			t.Fatalf("%q is there", probe)
		}
	})
}

func TestRelease(t *testing.T) {
	s := scan(t, fstest.MapFS{"a.ko": {Data: fakeModule("vermagic=6.1.0-9-amd64 SMP preempt", "depends=")}, "b.ko": {Data: fakeModule("depends=")}})
	if a, b := s.Modules()[0].Release(), s.Modules()[1].Release(); a != "6.1.0-9-amd64" || b != "" {
		t.Errorf("built for %q and %q", a, b)
	}
	if s.Lists() || s.Builtin("a") {
		t.Error("built-in modules of a tree that lists none")
	}
	if s := scan(t, sample(t)); !s.Lists() || !s.Builtin("builtin_one") || !s.Builtin("builtin-one") || s.Builtin("lib") {
		t.Error("built-in modules are not those of the list")
	}
}

func FuzzLists(f *testing.F) {
	f.Add([]byte("kernel/a.ko\n"), []byte("kernel/b-c.ko\n"), []byte("b_c.alias=fs-x\x00b_c.license=GPL\x00"))
	f.Add([]byte("\n\n.ko"), []byte("/"), []byte(".alias="))
	f.Fuzz(func(t *testing.T, order, builtin, info []byte) {
		tree := fstest.MapFS{
			"kernel/a.ko": {Data: fakeModule("depends=")}, "modules.order": {Data: order}, "modules.builtin": {Data: builtin}, "modules.builtin.modinfo": {Data: info},
		}
		s, err := Scan(context.Background(), tree)
		if err != nil {
			t.Fatal(err)
		}
		files, err := s.Index()
		if err != nil {
			t.Fatal(err)
		}
		if got := lookup(t, files["modules.dep.bin"], "a"); !slices.Equal(got, []string{"kernel/a.ko:"}) {
			t.Errorf("modules.dep.bin holds %q", got)
		}
		for name := range strings.Lines(string(builtin)) {
			if n := NameOf(strings.TrimSpace(name)); n != "" && !s.Builtin(n) {
				t.Errorf("%q is not built in", n)
			}
		}
	})
}

func FuzzModinfo(f *testing.F) {
	f.Add(fakeModule("depends=a,b-c", "softdep=pre: x post: y", "alias=devname:a", "alias=char-major-1-2"))
	f.Add(fakeModule())
	f.Add([]byte("\x7fELF"))
	f.Fuzz(func(t *testing.T, data []byte) {
		info, err := readInfo(data)
		if err != nil {
			return
		}
		s := &Set{byName: map[string]int{"m": 0}, modules: []Module{{Name: "m", Path: "m.ko", info: info}}}
		files, err := s.Index()
		if err != nil {
			return
		}
		if got := lookup(t, files["modules.dep.bin"], "m"); !slices.Equal(got, []string{"m.ko:"}) {
			t.Errorf("modules.dep.bin holds %q", got)
		}
	})
}
