package dir

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"banger/internal/base/testneed"
)

var imageForms = []struct {
	name  string
	args  []string
	after string // debugfs commands

	hash     uint8
	unsigned bool
}{
	{"1k", []string{"-b", "1024"}, "", HashHalfMD4, false},
	{"1k,nosum,legacy", []string{"-b", "1024", "-O", "^metadata_csum"}, "ssv def_hash_version legacy", HashLegacy, false},
	{"1k,large", []string{"-b", "1024", "-O", "large_dir"}, "", HashHalfMD4, false},
	{"4k", []string{"-b", "4096"}, "", HashHalfMD4, false},
	{"4k,tea,unsigned", []string{"-b", "4096", "-O", "^has_journal"}, "ssv def_hash_version tea\nssv flags 2", HashTEA, true},
	{"4k,nosum,notype", []string{"-b", "4096", "-O", "^metadata_csum,^filetype"}, "", HashHalfMD4, false},
	{"4k,sum,notype", []string{"-b", "4096", "-O", "^filetype"}, "", HashHalfMD4, false},
	{"64k", []string{"-b", "65536"}, "", HashHalfMD4, false},
	{"64k,nosum", []string{"-b", "65536", "-O", "^metadata_csum"}, "", HashHalfMD4, false},
}

// Directories we make and edit are put into an image, in the place of one debugfs made,
// with other names for the same inodes. e2fsck must be content, and the kernel must
// find all names, edit the directory in its turn, and leave what we can read.
func TestImage(t *testing.T) {
	for _, form := range imageForms {
		t.Run(form.name, func(t *testing.T) {
			t.Parallel()
			const n = 1000
			g := newImage(t, n, form.args...)
			if form.after != "" {
				g.debugfs(t, form.after)
			}
			m := g.load(t)
			if g.p.HashVersion != form.hash || g.p.HashUnsigned != form.unsigned {
				t.Fatalf("hash version %d, unsigned %v", g.p.HashVersion, g.p.HashUnsigned)
			}
			all := g.read(t, m)
			if len(all) != n {
				t.Fatalf("%d entries", len(all))
			}
			g.grow(t, 400*1024/g.p.BlockSize+40)
			p := g.p
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			r := rand.New(rand.NewPCG(seed, 9))
			used := map[string]bool{}
			fresh := func() string {
				for {
					if n := someName(r); !used[n] {
						used[n] = true
						return n
					}
				}
			}
			for i := range all {
				all[i].Name = fresh()
			}
			for _, c := range []struct {
				index bool
				fill  int
			}{{true, 100}, {false, 100}} {
				pl := plan(t, p, all, c.index, c.fill)
				pl.Self = g.ino
				g.judge(t, built(t, pl), pl.Indexed(), all)
			}
			pl := plan(t, p, all, true, 75)
			pl.Self = g.ino
			m, indexed := built(t, pl), pl.Indexed()
			g.shuffle(t, r, m, indexed, all, fresh)
			g.judge(t, m, indexed, all)

			m, indexed = &mem{blocks: [][]byte{p.Init(g.ino, 2)}}, false
			for _, e := range all {
				var err error
				if indexed, err = p.Insert(m, indexed, e); err != nil {
					t.Fatal(err)
				}
			}
			if !indexed && p.BlockSize < 65536 {
				t.Error("no index was made")
			}
			g.shuffle(t, r, m, indexed, all, fresh)
			g.judge(t, m, indexed, all)
		})
	}
}

// Indexes with levels of nodes, by names that all are links of one file.
func TestImageLevels(t *testing.T) {
	for _, c := range []struct {
		name           string
		args           []string
		n, plan, level int
	}{
		{"insert", nil, 2000, 0, 1},
		{"plan", nil, 3 * 123 * 30, 3 * 123 * 30, 1},
		{"split nodes", nil, 23600, 22140, 1},
		{"large_dir", []string{"-O", "large_dir"}, 48000, 48000, 2},
		{"large_dir, grown", []string{"-O", "large_dir"}, 47500, 45500, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := newImage(t, 1, append(c.args, "-b", "1024")...)
			all := g.read(t, g.load(t))
			sub := all[0]
			g.debugfs(t, "write /dev/null f", fmt.Sprintf("sif f links_count %d", c.n+1))
			ino := field(t, debugfs(t, g.path, "stat f"), "Inode")
			g.grow(t, c.n/2+60)
			all = []Entry{sub}
			for i := range c.n {
				all = append(all, Entry{ino, g.p.typ(1), long(i)})
			}
			m, indexed := &mem{blocks: [][]byte{g.p.Init(g.ino, 2)}}, false
			if c.plan > 0 {
				pl := plan(t, g.p, all[:c.plan+1], true, 100)
				pl.Self = g.ino
				m, indexed = built(t, pl), pl.Indexed()
			}
			for _, e := range all[c.plan+min(1, c.plan):] {
				var err error
				if indexed, err = g.p.Insert(m, indexed, e); err != nil {
					t.Fatal(err)
				}
			}
			if !indexed || levels(m.blocks[0]) != c.level {
				t.Fatalf("indexed %v, %d levels", indexed, levels(m.blocks[0]))
			}
			g.judge(t, m, indexed, all)
		})
	}
}

// shuffle renames entries by an insert and a remove, some of them twice.
func (g *image) shuffle(t *testing.T, r *rand.Rand, m *mem, indexed bool, all []Entry, fresh func() string) {
	for range len(all) {
		e := &all[r.IntN(len(all))]
		if _, err := g.p.Remove(m, indexed, e.Name); err != nil {
			t.Fatal(err)
		}
		e.Name = fresh()
		if _, err := g.p.Insert(m, indexed, *e); err != nil {
			t.Fatal(err)
		}
	}
}

// read lists a directory without its dots, and looks up each name.
func (g *image) read(t testing.TB, m *mem) []Entry {
	t.Helper()
	got := list(t, g.p, m, g.indexed())
	if got["."].Ino != g.ino || got[".."].Ino != 2 {
		t.Fatalf("%v %v", got["."], got[".."])
	}
	delete(got, ".")
	delete(got, "..")
	sound(t, g.p, m, g.indexed())
	for n, e := range got {
		var l Entry
		var ok bool
		var err error
		if g.indexed() { // not by the way of a pass over all blocks
			var w place
			w, err = g.p.locateIndexed(m, n)
			l, ok = Entry{w.d.ino, w.d.typ, n}, w.b != nil
		} else {
			l, ok, err = g.p.Lookup(m, false, n)
		}
		if l != e || !ok || err != nil {
			t.Fatalf("lookup of %q: %v %v %v", n, l, ok, err)
		}
	}
	return slices.Collect(maps.Values(got))
}

// judge puts a directory into the image and asks e2fsck and the kernel.
func (g *image) judge(t *testing.T, m *mem, indexed bool, all []Entry) {
	t.Helper()
	to := g.store(t, m, indexed)
	if to.p.BlockSize > os.Getpagesize() || os.Geteuid() != 0 {
		t.Log("not mounted: needs root, and blocks no larger than a page")
		return
	}
	want := map[string]uint32{}
	for _, e := range all {
		want[e.Name] = e.Ino
	}
	testneed.Mounted(t, to.path, "", func(dir string) {
		dir = filepath.Join(dir, "d")
		kernelHas(t, dir, want)
		for i := range 700 {
			name := fmt.Sprintf("%s-%d", "new", i)
			if i%5 == 0 {
				name = fmt.Sprintf("%0200d", i)
			}
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			want[name] = 0
		}
		for _, e := range all[:300] {
			if err := os.Remove(filepath.Join(dir, e.Name)); err != nil {
				t.Fatal(err)
			}
			delete(want, e.Name)
		}
		kernelHas(t, dir, want)
	})
	testneed.Fsck(t, to.path)
	left := to.read(t, to.load(t))
	if len(left) != len(want) {
		t.Fatalf("the kernel left %d names, not %d", len(left), len(want))
	}
	if indexed != to.indexed() {
		t.Fatalf("the kernel changed indexed from %v", indexed)
	}
}

func kernelHas(t *testing.T, dir string, want map[string]uint32) {
	t.Helper()
	found, err := os.ReadDir(dir)
	if err != nil || len(found) != len(want) {
		t.Fatalf("the kernel lists %d names, not %d: %v", len(found), len(want), err)
	}
	for n, ino := range want {
		var st syscall.Stat_t
		if err := syscall.Lstat(dir+"/"+n, &st); err != nil || ino != 0 && uint32(st.Ino) != ino {
			t.Fatalf("the kernel has %q as %d, want %d: %v", n, st.Ino, ino, err)
		}
	}
}

// A large directory of the kernel's making is read as it meant it.
func TestKernelMade(t *testing.T) {
	testneed.Loop(t)
	for _, bs := range []string{"1024", "4096"} {
		t.Run(bs, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(testneed.Memory(t), "img")
			testneed.Run(t, "mke2fs", "-q", "-F", "-t", "ext4", "-b", bs, "-N", "2000", "-O", "^has_journal", path, "32M")
			const n = 12000 // two levels with blocks of 1 KiB
			testneed.Mounted(t, path, "", func(dir string) {
				dir = filepath.Join(dir, "d")
				if err := os.Mkdir(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				// Links of a few files: no inode for each name is needed.
				for i := range n {
					name := fmt.Sprintf("%s/file-%d", dir, i)
					var err error
					if i%1000 == 0 {
						err = os.WriteFile(name, nil, 0o600)
					} else {
						err = os.Link(fmt.Sprintf("%s/file-%d", dir, i-i%1000), name)
					}
					if err != nil {
						t.Fatal(err)
					}
				}
			})
			g := &image{path: path}
			m := g.load(t)
			if !g.indexed() {
				t.Fatal("the kernel made no index")
			}
			t.Logf("%d blocks, %d levels", len(m.blocks), levels(m.blocks[0]))
			if got := g.read(t, m); len(got) != n {
				t.Fatalf("%d entries", len(got))
			}
			for i := range 1000 {
				name := fmt.Sprintf("none-%d", i)
				if _, ok, err := g.p.Lookup(m, true, name); ok || err != nil {
					t.Fatal(name, ok, err)
				}
			}
		})
	}
}
