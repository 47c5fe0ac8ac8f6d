package dir

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
)

// A random sequence of edits, from an empty directory and from a built one, is
// followed by a map.
func TestModel(t *testing.T) {
	allParams(func(name string, p *Params) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			r := rand.New(rand.NewPCG(seed, 1))
			m := &mem{blocks: [][]byte{p.Init(7, 2)}}
			model(t, p, r, m, false, map[string]Entry{}, 900)

			want := map[string]Entry{}
			for len(want) < 600 {
				n := someName(r)
				want[n] = Entry{1 + r.Uint32N(1<<31), p.typ(uint8(1 + r.IntN(7))), n}
			}
			var all []Entry
			for _, e := range want {
				all = append(all, e)
			}
			for _, index := range []bool{true, false} {
				pl, err := p.Plan(all, index, 80)
				if err != nil {
					t.Fatal(err)
				}
				pl.Self, pl.Parent = 7, 2
				copied := map[string]Entry{}
				for n, e := range want {
					copied[n] = e
				}
				model(t, p, r, built(t, pl), pl.Indexed(), copied, 300)
			}
		})
	})
}

// typ is what is left of a type where none is kept.
func (p *Params) typ(t uint8) uint8 {
	if !p.FileType {
		return 0
	}
	return t
}

func model(t *testing.T, p *Params, r *rand.Rand, m *mem, indexed bool, want map[string]Entry, ops int) {
	var names []string
	for n := range want {
		names = append(names, n)
	}
	parent := uint32(2)
	for op := range ops {
		grow := op < ops*2/3
		switch x := r.IntN(20); {
		case x == 0: // twice
			if len(names) == 0 {
				continue
			}
			n := names[r.IntN(len(names))]
			before := m.writes
			if _, err := p.Insert(m, indexed, Entry{1, 1, n}); !errors.Is(err, ErrExist) || m.writes != before {
				t.Fatalf("second %q: %v, %d writes", n, err, m.writes-before)
			}
		case x == 1:
			n := someName(r)
			if _, has := want[n]; has {
				continue
			}
			if _, err := p.Remove(m, indexed, n); !errors.Is(err, ErrNotExist) {
				t.Fatalf("remove of none: %v", err)
			}
			if err := p.Set(m, indexed, n, 1, 1); !errors.Is(err, ErrNotExist) {
				t.Fatalf("set of none: %v", err)
			}
		case x == 2:
			parent = 2 + r.Uint32N(1000)
			if err := p.Set(m, indexed, "..", parent, TypeDir); err != nil {
				t.Fatal(err)
			}
		case x == 3 && len(names) > 0:
			n := names[r.IntN(len(names))]
			e := Entry{1 + r.Uint32N(1<<31), p.typ(uint8(r.IntN(8))), n}
			if err := p.Set(m, indexed, n, e.Ino, e.Type); err != nil {
				t.Fatal(err)
			}
			want[n] = e
		case grow == (x < 16): // insert
			n := someName(r)
			if _, has := want[n]; has {
				continue
			}
			e := Entry{1 + r.Uint32N(1<<31), p.typ(uint8(r.IntN(8))), n}
			now, err := p.Insert(m, indexed, e)
			if err != nil {
				t.Fatal(err)
			}
			if indexed && !now {
				t.Fatal("the index is gone")
			}
			indexed = now
			want[n], names = e, append(names, n)
		case len(names) > 0:
			i := r.IntN(len(names))
			got, err := p.Remove(m, indexed, names[i])
			if err != nil || got != want[names[i]] {
				t.Fatalf("removed %v, %v; want %v", got, err, want[names[i]])
			}
			delete(want, names[i])
			names = slices.Delete(names, i, i+1)
		}
		if op%300 == 0 || op == ops-1 {
			same(t, p, m, indexed, want, parent)
		}
	}
	for _, n := range names {
		if _, err := p.Remove(m, indexed, n); err != nil {
			t.Fatal(err)
		}
	}
	if empty, err := p.Empty(m, indexed); err != nil || !empty {
		t.Fatal(empty, err)
	}
}

// same compares a directory with a map, by walk and by lookups.
func same(t testing.TB, p *Params, m *mem, indexed bool, want map[string]Entry, parent uint32) {
	t.Helper()
	sound(t, p, m, indexed)
	got := list(t, p, m, indexed)
	if got[".."].Ino != parent {
		t.Fatalf(".. is %v, want %d", got[".."], parent)
	}
	if len(got) != len(want)+2 {
		t.Fatalf("%d entries, want %d", len(got), len(want)+2)
	}
	for n, e := range want {
		if got[n] != e {
			t.Fatalf("%q is %v, want %v", n, got[n], e)
		}
		if l, ok, err := p.Lookup(m, indexed, n); l != e || !ok || err != nil {
			t.Fatalf("lookup of %q: %v, %v, %v", n, l, ok, err)
		}
	}
	if empty, err := p.Empty(m, indexed); err != nil || empty != (len(want) == 0) {
		t.Fatal(empty, err)
	}
}
