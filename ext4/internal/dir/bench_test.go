package dir

import (
	"fmt"
	"testing"
)

func benchParams() *Params {
	return &Params{BlockSize: 4096, FileType: true, Checksums: true, Index: true, Seed: 1, HashVersion: HashHalfMD4, HashSeed: [4]uint32{1, 2, 3, 4}}
}

func benchEntries(n int) []Entry {
	return entries(n, func(i int) string { return fmt.Sprintf("file-name-%d.txt", i*7919) })
}

func BenchmarkBuild(b *testing.B) {
	p := benchParams()
	for _, n := range []int{10, 1000, 200_000} {
		all := benchEntries(n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				pl := plan(b, p, all, true, 100)
				if err := pl.Write(func(uint32, []byte) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkWalk(b *testing.B) {
	p := benchParams()
	m := built(b, plan(b, p, benchEntries(200_000), true, 100))
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		if err := p.Walk(m, true, func(uint32, Entry) error { n++; return nil }); err != nil || n != 200_002 {
			b.Fatal(n, err)
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	p := benchParams()
	all := benchEntries(200_000)
	m := built(b, plan(b, p, all, true, 100))
	i := 0
	for b.Loop() {
		if _, ok, err := p.Lookup(m, true, all[i%len(all)].Name); !ok || err != nil {
			b.Fatal(err)
		}
		i += 7919
	}
}

func BenchmarkInsert(b *testing.B) {
	p := benchParams()
	all := benchEntries(200_000)
	for b.Loop() {
		m, indexed := &mem{blocks: [][]byte{p.Init(11, 2)}}, false
		for _, e := range all {
			var err error
			if indexed, err = p.Insert(m, indexed, e); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/200_000, "ns/entry")
}
