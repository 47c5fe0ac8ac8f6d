package dir

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// mem is a directory in memory. It checks that nobody changes what it handed out.
type mem struct {
	blocks [][]byte
	most   uint32 // blocks it may have; 0: any number
	writes int
}

func (m *mem) Len() uint32 { return uint32(len(m.blocks)) }

func (m *mem) Read(i uint32) ([]byte, error) {
	if i >= m.Len() {
		return nil, fmt.Errorf("block %d of %d read", i, m.Len())
	}
	return m.blocks[i], nil
}

func (m *mem) Write(i uint32, b []byte) error {
	if i >= m.Len() {
		return fmt.Errorf("block %d of %d written", i, m.Len())
	}
	m.blocks[i] = b
	m.writes++
	return nil
}

func (m *mem) Append(b []byte) (uint32, error) {
	if m.most != 0 && m.Len() >= m.most {
		return 0, fmt.Errorf("no more than %d blocks", m.most)
	}
	m.blocks = append(m.blocks, b)
	m.writes++
	return m.Len() - 1, nil
}

// built is a plan written to memory.
func built(t testing.TB, pl *Plan) *mem {
	t.Helper()
	m := &mem{}
	if err := pl.Write(func(i uint32, b []byte) error {
		if i != m.Len() {
			t.Fatalf("block %d emitted after %d", i, m.Len())
		}
		m.blocks = append(m.blocks, append([]byte(nil), b...))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if m.Len() != pl.Blocks() {
		t.Fatalf("%d blocks written, %d planned", m.Len(), pl.Blocks())
	}
	return m
}

func allParams(f func(name string, p *Params)) {
	for _, bs := range []int{1024, 4096, 65536} {
		for _, sum := range []bool{false, true} {
			p := &Params{
				BlockSize: bs, FileType: true, Checksums: sum, Index: true,
				Seed: 0x1234567, HashVersion: HashHalfMD4, HashSeed: [4]uint32{1, 2, 3, 4},
			}
			f(fmt.Sprintf("%d/csum=%v", bs, sum), p)
			q := *p
			q.FileType, q.HashVersion, q.HashUnsigned = false, HashTEA, true
			f(fmt.Sprintf("%d/csum=%v/tea,notype", bs, sum), &q)
			r := *p
			r.HashVersion = HashLegacy
			f(fmt.Sprintf("%d/csum=%v/legacy", bs, sum), &r)
		}
	}
}

// someName gives names of all lengths, short ones more often, of any bytes allowed.
func someName(r *rand.Rand) string {
	n := 1 + r.IntN(20)
	if r.IntN(10) == 0 {
		n = 1 + r.IntN(MaxName)
	}
	b := make([]byte, n)
	for {
		for i := range b {
			for b[i] = 0; b[i] == 0 || b[i] == '/'; {
				b[i] = byte(r.Uint32())
			}
		}
		if !isDot(string(b)) {
			return string(b)
		}
	}
}

// list reads a directory and requires "." and ".." in front.
func list(t testing.TB, p *Params, bl Blocks, indexed bool) map[string]Entry {
	t.Helper()
	got, n := map[string]Entry{}, 0
	if err := p.Walk(bl, indexed, func(block uint32, e Entry) error {
		if want := []string{".", ".."}; n < 2 && (e.Name != want[n] || block != 0) {
			t.Fatalf("entry %d is %q in block %d", n, e.Name, block)
		}
		if _, twice := got[e.Name]; twice {
			t.Fatalf("%q is there twice", e.Name)
		}
		n++
		got[e.Name] = e
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return got
}

// sound checks what must hold of every directory we write, beyond what Walk checks:
// the index is sorted, every name is in the range of its leaf, every block belongs to
// the tree once.
func sound(t testing.TB, p *Params, m *mem, indexed bool) {
	t.Helper()
	if !indexed {
		return
	}
	seen := map[uint32]bool{0: true}
	version := m.blocks[0][rootInfo+4]
	var visit func(b []byte, k kind, depth int, low, high uint32)
	visit = func(b []byte, k kind, depth int, low, high uint32) {
		x, bad := p.indexOf(b, k)
		if bad != "" {
			t.Fatal(bad)
		}
		for i := range x.count() {
			from, to := low, high
			if i > 0 {
				from = x.hash(i)
			}
			if i+1 < x.count() {
				to = x.hash(i + 1)
			}
			if from > to || from < low || to > high {
				t.Fatalf("range %x-%x of an index within %x-%x", from, to, low, high)
			}
			c := x.block(i)
			if seen[c] {
				t.Fatalf("block %d is in the index twice", c)
			}
			seen[c] = true
			cb, ck, err := p.read(m, c, true)
			if err != nil {
				t.Fatal(err)
			}
			if depth > 0 {
				if ck != node {
					t.Fatalf("block %d is no node", c)
				}
				visit(cb, ck, depth-1, from, to)
				continue
			}
			if err := p.scan(c, cb, p.leafEnd(), func(d dirent) bool {
				h, _ := Hash(version, p.HashUnsigned, p.HashSeed, string(cb[d.off+8:][:d.name]))
				if h < from&^1 || h > to {
					t.Fatalf("hash %x in the leaf of %x-%x", h, from, to)
				}
				if h == to && to&1 == 0 {
					t.Fatalf("hash %x is the next leaf's", h)
				}
				return true
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	visit(m.blocks[0], root, levels(m.blocks[0]), 0, 1<<32-1)
	if len(seen) != len(m.blocks) {
		t.Fatalf("index has %d of %d blocks", len(seen), len(m.blocks))
	}
}
