package dir

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// clone lets a test damage a copy.
func (m *mem) clone() *mem {
	c := &mem{}
	for _, b := range m.blocks {
		c.blocks = append(c.blocks, bytes.Clone(b))
	}
	return c
}

func wantCorrupt(t *testing.T, err error, block uint32, reason string) {
	t.Helper()
	var c *CorruptError
	if !errors.As(err, &c) || c.Block != block || !strings.Contains(c.Reason, reason) {
		t.Errorf("got %v, want block %d: %s", err, block, reason)
	}
}

// An index that is damaged loses no names to readers, and is not edited.
func TestDamagedIndex(t *testing.T) {
	for _, sums := range []bool{true, false} {
		p := &Params{BlockSize: 1024, FileType: true, Checksums: sums, Seed: 5, HashVersion: HashHalfMD4}
		all := entries(1000, long)
		good := built(t, plan(t, p, all, true, 100))
		for _, c := range []struct {
			reason string
			block  uint32
			mend   bool
			damage func(m *mem)
		}{
			{"checksum of the index", 0, false, func(m *mem) { m.blocks[0][rootFirst+12]++ }},
			{"unknown hash version 6", 0, true, func(m *mem) { m.blocks[0][rootInfo+4] = 6 }},
			{"levels", 0, true, func(m *mem) { setLevels(m.blocks[0], 2) }},
			{"flags", 0, true, func(m *mem) { m.blocks[0][rootInfo+7] = 1 }},
			{"unknown form", 0, false, func(m *mem) { m.blocks[0][rootInfo] = 1 }},
			{"limit", 0, false, func(m *mem) { m.blocks[0][rootFirst]++ }},
			{"counts 0", 0, false, func(m *mem) { le.PutUint16(m.blocks[0][rootFirst+2:], 0) }},
			{"leads to block 99999", 0, true, func(m *mem) {
				for i := range 3 {
					le.PutUint32(m.blocks[0][rootFirst+8*i+4:], 99999)
				}
			}},
			{"not the node", 5, true, func(m *mem) {
				for i := range 3 {
					le.PutUint32(m.blocks[0][rootFirst+8*i+4:], 5)
				}
			}},
			{"leads back to block", 1, true, func(m *mem) {
				for b := uint32(1); b < 4; b++ {
					x := index{m.blocks[b], nodeFirst}
					for i := range x.count() {
						x.set(i, x.hash(i), b)
					}
					p.seal(m.blocks[b], node)
				}
			}},
		} {
			if !sums && c.reason == "checksum of the index" {
				continue
			}
			m := good.clone()
			c.damage(m)
			if c.mend {
				p.seal(m.blocks[0], root)
			}
			for _, e := range all[:50] {
				if l, ok, err := p.Lookup(m, true, e.Name); l != e || !ok || err != nil {
					t.Fatalf("%s: lookup of %q: %v %v %v", c.reason, e.Name, l, ok, err)
				}
			}
			n := 0
			err := p.Walk(m, true, func(uint32, Entry) error { n++; return nil })
			if n != len(all)+2 {
				t.Errorf("%s: %d entries, %v", c.reason, n, err)
			}
			if sums && !c.mend {
				wantCorrupt(t, err, c.block, c.reason)
			} else if err != nil {
				t.Errorf("%s: %v", c.reason, err)
			}
			_, err = p.Insert(m, true, Entry{1, 1, "new"})
			if c.reason == "leads back to block" { // of the three nodes the one of the name
				var e *CorruptError
				if !errors.As(err, &e) || !strings.Contains(e.Reason, c.reason) {
					t.Error(err)
				}
			} else {
				wantCorrupt(t, err, c.block, c.reason)
			}
			if m.writes != 0 {
				t.Errorf("%s: written", c.reason)
			}
			if _, err := p.Remove(m, true, all[7].Name); err != nil {
				t.Errorf("%s: remove: %v", c.reason, err)
			}
		}
	}
}

func TestDamagedLeaf(t *testing.T) {
	p := &Params{BlockSize: 4096, FileType: true, Seed: 5}
	q := *p
	q.Checksums = true
	all := entries(500, short)
	for _, c := range []struct {
		reason string
		p      *Params
		at     int
		to     []byte
	}{
		{"checksum is wrong", &q, 100, []byte{9}},
		{"has no checksum", &q, 4091, []byte{0}},
		{"too short", p, 4, []byte{0, 0}},
		{"too short", p, 4, []byte{8, 0}},
		{"multiple of 4", p, 4, []byte{13, 0}},
		{"leaves the block", p, 4, []byte{4, 16}},
		{"too near the end", p, 4, []byte{248, 15}},
		{"out of range", p, 6, []byte{0}},
		{"name leaves the record", p, 6, []byte{9}},
		{"slash", p, 8, []byte("/")},
		{"zero", p, 8, []byte{0}},
	} {
		m := built(t, plan(t, c.p, all, false, 100))
		copy(m.blocks[1][c.at:], c.to)
		wantCorrupt(t, c.p.Walk(m, false, func(uint32, Entry) error { return nil }), 1, c.reason)
		if _, _, err := c.p.Lookup(m, false, "none"); err == nil && !strings.Contains("slash zero", c.reason) {
			t.Errorf("%s: not seen by a lookup", c.reason)
		}
	}
	m := &mem{blocks: [][]byte{p.Init(2, 2), make([]byte, 1024)}}
	wantCorrupt(t, p.Walk(m, false, func(uint32, Entry) error { return nil }), 1, "1024 bytes")
	wantCorrupt(t, p.Walk(&mem{}, false, nil), 0, "0 blocks")
	wantCorrupt(t, p.Walk(&huge{}, false, nil), 0, "4294967295 blocks")
	p.Index = true
	if _, err := p.Insert(&mem{blocks: [][]byte{nil}}, false, Entry{1, 1, "a"}); err == nil {
		t.Error("an entry went into a hole")
	}
}

type huge struct{ mem }

func (*huge) Len() uint32 { return 1<<32 - 1 }

// lost+found as mke2fs makes it, and a hole, which holds nothing.
func TestBlank(t *testing.T) {
	allParams(func(name string, p *Params) {
		m := &mem{blocks: [][]byte{p.Init(11, 2), p.Blank(), nil, p.Blank()}}
		same(t, p, m, false, map[string]Entry{}, 2)
		want := map[string]Entry{}
		for i := range 400 {
			e := Entry{12, p.typ(1), long(i)}
			if indexed, err := p.Insert(m, false, e); indexed || err != nil {
				t.Fatal(name, err)
			}
			want[e.Name] = e
		}
		same(t, p, m, false, want, 2)
	})
}
