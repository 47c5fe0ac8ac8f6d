package dir

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"
	"time"

	"banger/internal/base/testneed"
)

// fuzzDir makes a directory of any bytes. With mend, checksums are made good, so that
// the input reaches what lies behind them. form picks parameters.
func fuzzDir(data []byte, form uint8) (*Params, *mem, bool) {
	p := &Params{
		BlockSize: 1024, FileType: form&1 != 0, Checksums: form&2 != 0, LargeDir: form&4 != 0, Index: true,
		Seed: 3, HashVersion: form >> 6, HashUnsigned: form&8 != 0,
	}
	if form&16 != 0 && len(data) > 4096 {
		p.BlockSize = 65536
	}
	indexed, mend := form&32 != 0, len(data)%8 != 7
	m := &mem{}
	for i := 0; i == 0 || len(data) > 0 && i < 16; i++ {
		b := make([]byte, p.BlockSize)
		data = data[copy(b, data):]
		if mend {
			k := p.kindOf(uint32(i), b, indexed)
			if k == leaf {
				p.seal(b, k)
			} else if _, bad := p.indexOf(b, k); bad == "" {
				p.seal(b, k)
			}
		}
		m.blocks = append(m.blocks, b)
	}
	return p, m, indexed
}

func seeds(f *testing.F, add func(data []byte, form uint8)) {
	for form := range 256 {
		if form>>6 == 3 || form&16 != 0 && form>>6 > 0 {
			continue
		}
		p, _, indexed := fuzzDir(make([]byte, 5000), uint8(form))
		for _, n := range []int{0, 200} {
			name := short
			if form&1 == 0 && n < 1000 {
				n, name = n/8, long
			}
			pl := plan(f, p, entries(n, name), indexed, 70)
			var data []byte
			for _, b := range built(f, pl).blocks {
				data = append(data, b...)
			}
			add(data, uint8(form))
		}
	}
	// A root with a node below it.
	p, _, _ := fuzzDir(nil, 1|2|32|64)
	pl := plan(f, p, entries(20, long), true, 100)
	pl.nodes = []int{1}
	var data []byte
	for _, b := range built(f, pl).blocks {
		data = append(data, b...)
	}
	add(data, 1|2|32|64)
}

func bounded(t *testing.T, f func()) {
	start := testneed.CPUTime()
	f()
	if d := testneed.CPUTime() - start; d > 2*time.Second {
		t.Fatalf("took %v", d)
	}
}

// known says an error is one of those documented.
func known(t *testing.T, err error) {
	var c *CorruptError
	if err == nil || errors.As(err, &c) || errors.Is(err, ErrExist) || errors.Is(err, ErrNotExist) || errors.Is(err, ErrName) || errors.Is(err, ErrFull) {
		return
	}
	t.Fatal(err)
}

func FuzzWalk(f *testing.F) {
	seeds(f, func(data []byte, form uint8) { f.Add(data, form) })
	f.Fuzz(func(t *testing.T, data []byte, form uint8) {
		p, m, indexed := fuzzDir(data, form)
		bounded(t, func() {
			n := 0
			known(t, p.Walk(m, indexed, func(block uint32, e Entry) error {
				if e.Ino == 0 || e.Name == "" || len(e.Name) > MaxName || !plain(e.Name) || block >= m.Len() {
					t.Fatalf("block %d: %+v", block, e)
				}
				n++
				return nil
			}))
			if most := len(m.blocks) * p.BlockSize / minRec; n > most {
				t.Fatalf("%d entries, at most %d fit", n, most)
			}
			_, err := p.Empty(m, indexed)
			known(t, err)
			known(t, p.Walk(m, indexed, func(uint32, Entry) error { return fs.SkipAll }))
		})
	})
}

func FuzzLookup(f *testing.F) {
	seeds(f, func(data []byte, form uint8) { f.Add(data, form, "f7") })
	f.Fuzz(func(t *testing.T, data []byte, form uint8, name string) {
		p, m, indexed := fuzzDir(data, form)
		bounded(t, func() {
			for _, n := range []string{name, ".", ".."} {
				e, ok, err := p.Lookup(m, indexed, n)
				known(t, err)
				if ok && (e.Name != n || e.Ino == 0) {
					t.Fatalf("%+v", e)
				}
			}
		})
	})
}

func FuzzInsert(f *testing.F) {
	seeds(f, func(data []byte, form uint8) { f.Add(data, form, "new") })
	f.Fuzz(func(t *testing.T, data []byte, form uint8, name string) {
		p, m, indexed := fuzzDir(data, form)
		bounded(t, func() {
			for i := range 40 {
				n := name
				if i > 0 {
					n = fmt.Sprintf("%.200s%d", name, i)
				}
				now, err := p.Insert(m, indexed, Entry{9, 1, n})
				known(t, err)
				if err != nil {
					return
				}
				indexed = now
				if e, ok, err := p.Lookup(m, indexed, n); !ok || err != nil || e.Ino != 9 {
					t.Fatalf("%q after its insert: %v %v %v", n, e, ok, err)
				}
				if m.Len() > 100 {
					t.Fatal("grows too much")
				}
			}
		})
	})
}

func FuzzRemove(f *testing.F) {
	seeds(f, func(data []byte, form uint8) { f.Add(data, form, "f7") })
	f.Fuzz(func(t *testing.T, data []byte, form uint8, name string) {
		p, m, indexed := fuzzDir(data, form)
		bounded(t, func() {
			known(t, p.Set(m, indexed, name, 4, 1))
			known(t, p.Set(m, indexed, "..", 4, 1))
			_, err := p.Remove(m, indexed, name)
			known(t, err)
			// All that a walk gives can be removed, unless a lookup goes another way.
			var names []string
			known(t, p.Walk(m, indexed, func(_ uint32, e Entry) error {
				names = append(names, e.Name)
				if len(names) > 30 {
					return fs.SkipAll
				}
				return nil
			}))
			for _, n := range names {
				_, err := p.Remove(m, indexed, n)
				known(t, err)
			}
		})
	})
}
