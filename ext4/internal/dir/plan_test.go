package dir

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// long gives different names of 255 bytes: few fit a block, so trees are high early.
func long(i int) string { return fmt.Sprintf("%0255d", i) }

func entries(n int, name func(i int) string) []Entry {
	all := make([]Entry, n)
	for i := range all {
		all[i] = Entry{Ino: uint32(i + 12), Type: 1, Name: name(i)}
	}
	return all
}

func short(i int) string { return fmt.Sprintf("f%d", i) }

func byName(all []Entry) map[string]Entry {
	m := map[string]Entry{}
	for _, e := range all {
		m[e.Name] = e
	}
	return m
}

func plan(t testing.TB, p *Params, all []Entry, index bool, fill int) *Plan {
	t.Helper()
	pl, err := p.Plan(all, index, fill)
	if err != nil {
		t.Fatal(err)
	}
	pl.Self, pl.Parent = 11, 2
	return pl
}

func TestPlan(t *testing.T) {
	p := &Params{BlockSize: 1024, FileType: true, Checksums: true, Seed: 5, HashVersion: HashHalfMD4}
	// A leaf has 1012 bytes: "." and ".." and 82 names of 12, or three of 264.
	for _, c := range []struct {
		n       int
		name    func(int) string
		index   bool
		fill    int
		indexed bool
		levels  int
	}{
		{0, short, true, 0, false, 0},
		{1, long, true, 1, false, 0},
		{82, short, true, 50, false, 0}, // exactly full
		{83, short, true, 100, true, 0},
		{83, short, false, 100, false, 0},
		{3000, short, false, 75, false, 0},
		{3000, short, true, 75, true, 0},
		{3 * 123, long, true, 100, true, 0},
		{3*123 + 1, long, true, 100, true, 1},
		{2000, long, true, 40, true, 1},
		{3 * 123 * 126, long, true, 100, true, 1},
		{3 * 123 * 126, long, true, 50, true, 1},   // denser than asked
		{3*123*126 + 1, long, true, 100, false, 0}, // too many for an index
	} {
		t.Run(fmt.Sprintf("%d/index=%v/fill=%d", c.n, c.index, c.fill), func(t *testing.T) {
			t.Parallel()
			all := entries(c.n, c.name)
			pl := plan(t, p, all, c.index, c.fill)
			m := built(t, pl)
			if pl.Indexed() != c.indexed {
				t.Fatalf("indexed %v, in %d blocks", pl.Indexed(), pl.Blocks())
			}
			if c.indexed && levels(m.blocks[0]) != c.levels {
				t.Fatalf("%d levels", levels(m.blocks[0]))
			}
			if !c.indexed && c.n > 5000 { // lookups would be quadratic
				if got := list(t, p, m, false); len(got) != c.n+2 {
					t.Fatal(len(got))
				}
				return
			}
			if c.n > 5000 {
				sound(t, p, m, true)
				all = all[:1000]
				for _, e := range all {
					if l, ok, err := p.Lookup(m, true, e.Name); l != e || !ok || err != nil {
						t.Fatal(e.Name, l, ok, err)
					}
				}
				return
			}
			same(t, p, m, c.indexed, byName(all), 2)
		})
	}
}

func TestPlanRefuses(t *testing.T) {
	p := &Params{BlockSize: 1024, FileType: true, HashVersion: HashLegacy}
	for _, n := range []int{3, 1000} {
		all := entries(n, short)
		all[n-1].Name = all[n/2].Name
		for _, index := range []bool{true, false} {
			if _, err := p.Plan(all, index, 0); !errors.Is(err, ErrExist) || !strings.Contains(err.Error(), all[n/2].Name) {
				t.Errorf("a name twice: %v", err)
			}
		}
	}
	for _, name := range []string{"", ".", "..", "a/b", "a\x00", strings.Repeat("x", 256)} {
		if _, err := p.Plan([]Entry{{1, 1, name}}, false, 0); !errors.Is(err, ErrName) {
			t.Errorf("%q: %v", name, err)
		}
		m := &mem{blocks: [][]byte{p.Init(2, 2)}}
		if _, err := p.Insert(m, false, Entry{1, 1, name}); !errors.Is(err, ErrName) {
			t.Errorf("%q: %v", name, err)
		}
		if _, err := p.Remove(m, false, name); !errors.Is(err, ErrName) {
			t.Errorf("%q: %v", name, err)
		}
		if _, ok, err := p.Lookup(m, false, name); ok != isDot(name) || err != nil {
			t.Errorf("%q: %v %v", name, ok, err)
		}
	}
	pl := plan(t, p, []Entry{{0, 1, "a"}}, false, 0)
	if err := pl.Block(0, make([]byte, 1024)); err == nil {
		t.Error("an entry without an inode was written")
	}
}

// Names of one hash fill more than a leaf, in a plan and by inserts.
func TestCollisions(t *testing.T) {
	p := &Params{BlockSize: 1024, FileType: true, Checksums: true, Index: true, HashVersion: HashLegacy}
	names := collide(200)
	hash, _ := Hash(HashLegacy, false, [4]uint32{}, names[0])
	for _, n := range names {
		if h, _ := Hash(HashLegacy, false, [4]uint32{}, n); h != hash {
			t.Fatalf("%q: %x, not %x", n, h, hash)
		}
	}
	others := entries(600, func(i int) string { return fmt.Sprintf("other-%d", i) })
	all := append(entries(200, func(i int) string { return names[i] }), others...)
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	same(t, p, built(t, plan(t, p, all, true, 90)), true, byName(all), 2)

	m := &mem{blocks: [][]byte{p.Init(11, 2)}}
	indexed := false
	for _, e := range all {
		var err error
		if indexed, err = p.Insert(m, indexed, e); err != nil {
			t.Fatal(err)
		}
	}
	same(t, p, m, indexed, byName(all), 2)
	for _, n := range names[:150] {
		if _, err := p.Remove(m, true, n); err != nil {
			t.Fatal(err)
		}
	}
	left := byName(all)
	for _, n := range names[:150] {
		delete(left, n)
	}
	same(t, p, m, indexed, left, 2)
	for _, n := range names[:150] {
		e := Entry{77, 1, n}
		left[n] = e
		if _, err := p.Insert(m, true, e); err != nil {
			t.Fatal(err)
		}
	}
	same(t, p, m, indexed, left, 2)
}

// collide gives up to 256 names of one legacy hash: each pair of strings takes the
// state of the hash, as the pairs before left it, to the same next state.
func collide(n int) []string {
	pairs := [8][2]string{
		{"wYya66cW0", "wYya66k_8"}, {"c,UTMtpmC", "c,UTMtZWY"}, {"vmQ_qup.p", "vmQ_quZDZ"}, {"LiKOmafVp", "LiKOmaPlZ"},
		{"Bwq9jIwwK", "Bwq9jIKKw"}, {"m2e6q0jYk", "m2e6q0UDV"}, {"I7nKC_QZj", "I7nKC_V_o"}, {"0BulCL68r", "0BulCL+-g"},
	}
	names := make([]string, n)
	for i := range names {
		for j, pair := range pairs {
			names[i] += pair[i>>j&1]
		}
	}
	return names
}

// An index grows from one level to the next, up to where it is full; with large_dir
// one level more.
func TestGrow(t *testing.T) {
	for _, c := range []struct {
		large bool
		built int
	}{{false, 300}, {false, 3*123*126 - 700}, {true, 3*123*126 - 700}} {
		t.Run(fmt.Sprintf("%v/%d", c.large, c.built), func(t *testing.T) {
			t.Parallel()
			p := &Params{BlockSize: 1024, FileType: true, Checksums: true, Index: true, HashVersion: HashTEA, LargeDir: c.large}
			m := built(t, plan(t, p, entries(c.built, long), true, 100))
			before := levels(m.blocks[0])
			n, err := c.built, error(nil)
			for ; err == nil && n < c.built+1500; n++ {
				last := m.writes
				_, err = p.Insert(m, true, Entry{uint32(n + 12), 1, long(n)})
				if errors.Is(err, ErrFull) && m.writes != last {
					t.Fatal("a full index was written to")
				}
			}
			if full := c.built > 1000 && !c.large; full != errors.Is(err, ErrFull) {
				t.Fatal(err)
			}
			if err == nil {
				if now := levels(m.blocks[0]); now != before+1 {
					t.Fatalf("%d levels, %d before", now, before)
				}
			}
			sound(t, p, m, true)
			got := list(t, p, m, true)
			if err != nil {
				n--
			}
			if len(got) != n+2 {
				t.Fatalf("%d entries of %d", len(got), n+2)
			}
			for i := 0; i < n; i += 7 {
				if e, ok, err := p.Lookup(m, true, long(i)); !ok || err != nil || int(e.Ino) != i+12 {
					t.Fatal(i, e, ok, err)
				}
			}
		})
	}
}
