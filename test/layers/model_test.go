package layers_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// model is a tree by its paths: the specification's rules in the plainest form. The
// root, ".", is not in it. Its symbolic links lead nowhere, and nothing is below them.
type model map[string]*inode

// inode is shared by the names of a hard link.
type inode struct{ e entry }

func (n *inode) isDir() bool { return n.e.Typeflag == tar.TypeDir }

// hides applies a marker to what lower layers have.
func (m model) hides(name string) {
	head, base := name[:strings.LastIndexByte(name, '/')+1], name[strings.LastIndexByte(name, '/')+1:]
	if base == ".wh..wh..opq" {
		m.removeBelow(head)
		return
	}
	m.remove(head + strings.TrimPrefix(base, ".wh."))
}

func (m model) remove(path string) {
	delete(m, path)
	m.removeBelow(path + "/")
}

func (m model) removeBelow(prefix string) {
	for p := range m {
		if strings.HasPrefix(p, prefix) {
			delete(m, p)
		}
	}
}

// parents returns the directories above a path that are missing; ok is false if
// something else is in the place of one.
func (m model) parents(path string) (absent []string, ok bool) {
	for i, c := range path {
		if c != '/' {
			continue
		}
		switch n := m[path[:i]]; {
		case n == nil:
			absent = append(absent, path[:i])
		case !n.isDir():
			return nil, false
		}
	}
	return absent, true
}

// adds applies an entry, or says that it cannot be.
func (m model) adds(e entry, strict bool) bool {
	absent, ok := m.parents(e.Name)
	if !ok || strict && len(absent) > 0 {
		return false
	}
	n := &inode{e}
	if e.Typeflag == tar.TypeLink {
		if n = m[e.Linkname]; n == nil || n.isDir() {
			return false
		}
		if m[e.Name] == n {
			return !strict
		}
		if strict && strings.HasPrefix(e.Linkname, e.Name+"/") {
			return false
		}
	}
	for _, p := range absent {
		m[p] = &inode{dir(p).at(0, 0)}
	}
	if old := m[e.Name]; old == nil || !old.isDir() || !n.isDir() {
		m.remove(e.Name)
	}
	m[e.Name] = n
	return true
}

// apply applies a layer and returns what of it can be. Markers count first, wherever
// they are; but what leads through a file or a link that is still to be hidden, or
// links to it, cannot be.
func (m model) apply(layer []entry, strict bool) (valid []entry) {
	if strict { // umoci restores no times where markers come late
		slices.SortStableFunc(layer, func(a, b entry) int { return compareBool(isMarker(b), isMarker(a)) })
	}
	still := maps.Clone(m)
	for _, e := range layer {
		if isMarker(e) {
			m.hides(e.Name)
		}
	}
	maps.DeleteFunc(still, func(p string, n *inode) bool { return n.isDir() || m[p] == n })
	for _, e := range layer {
		if isMarker(e) {
			still.hides(e.Name)
		} else if _, ok := still.parents(e.Name); !ok || still[e.Linkname] != nil || !m.adds(e, strict) {
			continue
		} else if delete(still, e.Name); e.Typeflag != tar.TypeDir {
			still.remove(e.Name)
		}
		valid = append(valid, e)
	}
	return valid
}

func isMarker(e entry) bool { return strings.Contains(e.Name, ".wh.") }

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// tree is what a reader of the disk would see.
func (m model) tree() tree {
	all := tree{".": facts{}, "lost+found": facts{}}
	all["."].set(0o40755, 0, 0, 0, time.Unix(0, 0), time.Unix(0, 0))
	all["lost+found"].set(0o40700, 0, 0, 0, time.Unix(0, 0), time.Unix(0, 0))
	inodes, number := map[string]uint64{}, map[*inode]uint64{}
	for path, n := range m {
		kind := map[byte]int64{tar.TypeReg: 0o100000, tar.TypeDir: 0o40000, tar.TypeSymlink: 0o120000, tar.TypeFifo: 0o10000, tar.TypeChar: 0o20000}[n.e.Typeflag]
		f := facts{}
		f.set(uint32(kind|n.e.Mode), uint32(n.e.Uid), uint32(n.e.Gid), n.e.Size, n.e.ModTime, n.e.ModTime)
		switch n.e.Typeflag {
		case tar.TypeReg:
			f["content"], _ = content(strings.NewReader(n.e.data), n.e.Size)
		case tar.TypeSymlink:
			f["target"] = fmt.Sprintf("%q", n.e.Linkname)
		case tar.TypeChar:
			f["device"] = fmt.Sprintf("%d:%d", n.e.Devmajor, n.e.Devminor)
		}
		for k, v := range n.e.PAXRecords {
			f["xattr "+strings.TrimPrefix(k, "SCHILY.xattr.")] = fmt.Sprintf("%q", v)
		}
		if all[path] = f; !n.isDir() {
			if number[n] == 0 {
				number[n] = uint64(len(number) + 1)
			}
			inodes[path] = number[n]
		}
	}
	all.link(inodes)
	return all
}

// draw draws layers of which all entries can be, and what they make.
func draw(t *rapid.T, strict bool) ([][]entry, model) {
	m := model{}
	path := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "d"}), 1, 4).Draw(t, "path"), "/")
	})
	clock := int64(1000)
	one := rapid.Custom(func(t *rapid.T) entry {
		name := path.Draw(t, "name")
		var e entry
		switch rapid.IntRange(0, 15).Draw(t, "kind") {
		case 0, 1, 2:
			e = file(name, noise(rapid.SampledFrom([]int{0, 1, 100, 4096, 9000, 20_000}).Draw(t, "size"), int(clock)))
		case 3, 4, 5, 6, 7:
			e = dir(name)
		case 8:
			e = symlink(name, "/nowhere/"+name)
		case 9, 10, 11:
			return hard(name, path.Draw(t, "target"))
		case 12:
			e = fifo(name)
		case 13:
			return opaque(name)
		default:
			return whiteout(name)
		}
		clock++
		e = e.at(clock, clock*1001%1e9).chown(rapid.SampledFrom([]int{0, 1000, 70_000}).Draw(t, "uid"), 5)
		if e.Typeflag != tar.TypeSymlink {
			e = e.chmod(rapid.SampledFrom([]int64{0o644, 0o700, 0o1777, 0o4755, 0o2750}).Draw(t, "mode"))
		}
		if rapid.Bool().Draw(t, "attr") {
			e = e.attr("trusted.clock", fmt.Sprint(clock))
		}
		return e
	})
	var layers [][]entry
	for range rapid.IntRange(1, 5).Draw(t, "layers") {
		layers = append(layers, m.apply(rapid.SliceOfN(one, 0, 40).Draw(t, "layer"), strict))
	}
	return layers, m
}

// TestLikeTheModel makes disks of random layers. "go test -rapid.checks=10000" makes
// more of them.
func TestLikeTheModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		layers, m := draw(rt, false)
		var readers []io.Reader
		for _, l := range layers {
			readers = append(readers, bytes.NewReader(archive(t, l...)))
		}
		disk, err := inMemory(64<<20, readers...)
		if err != nil {
			rt.Fatalf("%v\n%s", err, listed(layers))
		}
		im, err := disk.checked(t)
		if err != nil {
			rt.Fatal(err)
		}
		for _, d := range compare(withoutInodes(inImage(t, im)), m.tree()) {
			rt.Errorf("disk and model: %v", d)
		}
		if rt.Failed() {
			rt.Log(listed(layers))
		}
	})
}

// TestLikeUmociAndTheModel has a few of them judged by all.
func TestLikeUmociAndTheModel(t *testing.T) {
	needRoot(t)
	layers := rapid.Custom(func(t *rapid.T) image {
		layers, m := draw(t, true)
		want := []string{}
		for path, f := range m.tree() {
			want = append(want, path, f.String())
		}
		return of(layers...).have(want...)
	})
	for seed := range 8 {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			im := layers.Example(seed)
			if im.run(t); t.Failed() {
				t.Log(listed(im.layers))
			}
		})
	}
}

func withoutInodes(m tree) tree {
	for _, f := range m {
		maps.DeleteFunc(f, func(k, _ string) bool { return k == "inode" || k == "links" || k == "blocks" })
	}
	return m
}

// listed is layers for people.
func listed(layers [][]entry) string {
	var b strings.Builder
	for i, l := range layers {
		for _, e := range l {
			fmt.Fprintf(&b, "layer %d: %c %s -> %q %o\n", i+1, e.Typeflag, e.Name, e.Linkname, e.Mode)
		}
	}
	return b.String()
}
