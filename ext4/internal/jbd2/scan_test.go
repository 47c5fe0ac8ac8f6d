package jbd2

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
)

// each runs a test for all shapes of journals.
func each(t *testing.T, f func(t *testing.T, f features)) {
	for _, feat := range allFeatures {
		t.Run(feat.String(), func(t *testing.T) {
			t.Parallel()
			f(t, feat)
		})
	}
}

// replay opens the journal anew and replays it, and looks first by Scan.
func replay(t *testing.T, d *disk, blocks uint32, versions map[uint64]int) {
	t.Helper()
	j := open(t, d, blocks)
	o, err := j.Scan()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, d.size)
	for n := range o.Blocks() {
		if ok, err := o.Read(n, b); !ok || err != nil || !bytes.Equal(b, contents(d.size, n, versions[n])) {
			t.Errorf("block %d of the overlay is not version %d (%v, %v)", n, versions[n], ok, err)
		}
	}
	if ok, err := o.Read(fsBlocks-1, b); ok || err != nil {
		t.Errorf("a block that was never logged is in the overlay: %v, %v", ok, err)
	}
	d.ops = nil
	n, err := j.Replay()
	if err != nil {
		t.Fatal(err)
	}
	if n != o.Len() {
		t.Errorf("%d blocks replayed, %d scanned", n, o.Len())
	}
	want(t, d, versions)
	if j.Dirty() || open(t, d, blocks).Dirty() {
		t.Error("the log is not empty after the replay")
	}
	if n, err := j.Replay(); n != 0 || err != nil {
		t.Errorf("second replay: %d, %v", n, err)
	}
}

func TestReplaySeveralTransactions(t *testing.T) {
	each(t, func(t *testing.T, f features) {
		d, j := newJournal(t, 1024, 64, f)
		s := newScribe(t, j, 1, 7)
		s.desc(versions(1024, 1, 3, 4, 5)...)
		s.desc(versions(1024, 1, 6, 9)...)
		s.commit()
		s.desc(versions(1024, 2, 4, 9)...)
		s.desc(versions(1024, 2, 300)...)
		s.commit()
		replay(t, d, 64, map[uint64]int{3: 1, 4: 2, 5: 1, 6: 1, 9: 2, 300: 2})
		if got := open(t, d, 64).Sequence(); got != 10 {
			t.Errorf("sequence %d after transactions 7 and 8, want 10", got)
		}
	})
}

func TestReplayWrapsAround(t *testing.T) {
	each(t, func(t *testing.T, f features) {
		// The start goes over each block, so that every kind of block is the first
		// after the wrap once, and the sequence number wraps as well.
		for start := uint32(1); start < 20; start++ {
			d, j := newJournal(t, 1024, 20, f)
			s := newScribe(t, j, start, 0xFFFFFFFE)
			for v := 1; v <= 4; v++ {
				s.desc(versions(1024, v, 3, uint64(10+v))...)
				s.commit()
			}
			replay(t, d, 20, map[uint64]int{3: 4, 11: 1, 12: 2, 13: 3, 14: 4})
			if got := open(t, d, 20).Sequence(); got != 3 {
				t.Errorf("sequence %d, want 3", got)
			}
		}
	})
}

func TestFullLogIsReplayedOnce(t *testing.T) {
	d, j := newJournal(t, 1024, 5, features{})
	s := newScribe(t, j, 3, 1)
	s.desc(versions(1024, 1, 3, 4)...)
	s.commit()
	replay(t, d, 5, map[uint64]int{3: 1, 4: 1})
}

func TestRevoke(t *testing.T) {
	each(t, func(t *testing.T, f features) {
		d, j := newJournal(t, 1024, 64, f)
		s := newScribe(t, j, 40, 7)
		s.desc(versions(1024, 1, 3, 4, 5, 6)...)
		s.commit()
		s.revoke(3, 399, 5)
		s.desc(versions(1024, 2, 4, 5)...) // its own revoke hides 5
		s.commit()
		s.desc(versions(1024, 3, 3)...) // a later one does not
		s.revoke(6)
		s.commit()
		s.revoke(4) // never committed
		replay(t, d, 64, map[uint64]int{3: 3, 4: 2})
	})
}

func TestTornTailIsLeftOut(t *testing.T) {
	torn := map[string]func(s *scribe){
		"nothing":       func(s *scribe) {},
		"no commit":     func(s *scribe) { s.desc(versions(1024, 2, 3, 8)...) },
		"only a revoke": func(s *scribe) { s.revoke(3) },
		"no blocks": func(s *scribe) {
			at := s.pos
			s.desc(versions(1024, 2, 3, 8)...)
			for i := at + 1; i < s.pos; i++ {
				n, _ := s.j.place(i)
				clear(s.j.dev.(*disk).block(n))
			}
		},
		"torn descriptor": func(s *scribe) {
			at, _ := s.j.place(s.pos)
			s.desc(versions(1024, 2, 3, 8)...)
			clear(s.j.dev.(*disk).block(at)[16:])
		},
		"no descriptor": func(s *scribe) {
			at, _ := s.j.place(s.pos)
			s.desc(versions(1024, 2, 3, 8)...)
			s.commit()
			clear(s.j.dev.(*disk).block(at))
		},
		"old commit": func(s *scribe) {
			s.desc(versions(1024, 2, 3, 8)...)
			s.seq -= 2
			s.commit()
		},
		"unknown type": func(s *scribe) { s.put(s.head(9)); s.desc(versions(1024, 2, 3, 8)...); s.commit() },
		"endless revokes": func(s *scribe) {
			for range 100 {
				s.revoke(3)
			}
		},
		"endless descriptors": func(s *scribe) {
			for range 100 {
				s.desc(versions(1024, 2, 3)...)
			}
		},
	}
	each(t, func(t *testing.T, f features) {
		for name, tear := range torn {
			t.Run(name, func(t *testing.T) {
				d, j := newJournal(t, 1024, 64, f)
				s := newScribe(t, j, 20, 7)
				// What goes around the log overwrites all.
				endless := strings.HasPrefix(name, "endless")
				if !endless {
					s.desc(versions(1024, 1, 3, 4)...)
					s.commit()
				}
				tear(s)
				if endless {
					replay(t, d, 64, nil)
					return
				}
				replay(t, d, 64, map[uint64]int{3: 1, 4: 1})
			})
		}
	})
}

// A commit block of which only the first sector was written is whole.
func TestCommitBlockWithGarbageAfterItsHeader(t *testing.T) {
	d, j := newJournal(t, 1024, 64, features{incompat: v3})
	s := newScribe(t, j, 1, 7)
	s.desc(versions(1024, 1, 3)...)
	at, _ := j.place(s.pos)
	s.commit()
	copy(d.block(at)[512:], "what was there before")
	replay(t, d, 64, map[uint64]int{3: 1})
}

func TestDamageOfCommittedTransactions(t *testing.T) {
	// The log is: 1 descriptor, 2 and 3 blocks, 4 revoke, 5 commit, 6 descriptor,
	// 7 block, 8 commit.
	for name, c := range map[string]struct {
		f     features
		block uint32
		off   int
		fails bool
		left  map[uint64]int
	}{
		"v3 block": {features{incompat: v3}, 2, 99, true, nil},
		"v2 block": {features{incompat: incompatCsumV2}, 2, 99, true, nil},
		// A revoked block is not looked at.
		"v3 revoked block":    {features{incompat: v3}, 3, 99, false, map[uint64]int{3: 1, 8: 2}},
		"v3 descriptor":       {features{incompat: v3}, 1, 900, true, nil},
		"v3 revoke":           {features{incompat: v3}, 4, 900, true, nil},
		"v3 commit":           {features{incompat: v3}, 5, hChksum, true, nil},
		"v3 last commit":      {features{incompat: v3}, 8, hChksum, true, nil},
		"v1 block":            {features{compat: compatChecksum}, 2, 99, true, nil},
		"v1 last block":       {features{compat: compatChecksum}, 7, 99, true, nil},
		"v1 async block":      {features{compat: compatChecksum, incompat: incompatAsyncCommit}, 2, 99, true, nil},
		"v1 async last block": {features{compat: compatChecksum, incompat: incompatAsyncCommit}, 7, 99, false, map[uint64]int{3: 1}},
		"v3 async commit":     {features{incompat: v3 | incompatAsyncCommit}, 5, hChksum, true, nil},
		"v3 async last":       {features{incompat: v3 | incompatAsyncCommit}, 8, hChksum, false, map[uint64]int{3: 1}},
		"no checksum":         {features{}, 4, 900, false, map[uint64]int{3: 1, 8: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			d, j := newJournal(t, 1024, 64, c.f)
			s := newScribe(t, j, 1, 7)
			s.desc(versions(1024, 1, 3, 4)...)
			s.revoke(4)
			s.commit()
			s.desc(versions(1024, 2, 8)...)
			s.commit()
			n, _ := j.place(c.block)
			d.block(n)[c.off] ^= 0x10
			if !c.fails {
				replay(t, d, 64, c.left)
				return
			}
			j = open(t, d, 64)
			d.ops = nil
			if _, err := j.Scan(); !errors.Is(err, ErrCorrupt) {
				t.Errorf("scan: %v", err)
			}
			if _, err := j.Replay(); !errors.Is(err, ErrCorrupt) || len(d.ops) > 0 {
				t.Errorf("replay: %v after %d writes", err, len(d.ops))
			}
		})
	}
}

// What an older journal left behind in a log that was never zeroed ends it, if its
// commit is older than the last one.
func TestRemnantsOfAnOlderJournal(t *testing.T) {
	d, j := newJournal(t, 1024, 64, features{incompat: v3})
	s := newScribe(t, j, 1, 7)
	s.desc(versions(1024, 1, 3)...)
	s.commit()
	s.time = 1
	j.seed ^= 1 // another UUID
	s.desc(versions(1024, 2, 3)...)
	s.commit()
	replay(t, d, 64, map[uint64]int{3: 1})
}

func TestBlocksOutsideTheFileSystem(t *testing.T) {
	each(t, func(t *testing.T, f features) {
		for _, n := range []uint64{fsBlocks + 64, 1<<32 - 1, fsBlocks + 5 /* in the journal */} {
			_, j := newJournal(t, 1024, 64, f)
			s := newScribe(t, j, 1, 7)
			s.desc(Block{n, make([]byte, 1024)})
			if _, err := j.Scan(); err != nil {
				t.Errorf("block %d, not committed: %v", n, err)
			}
			s.commit()
			if _, err := j.Scan(); !errors.Is(err, ErrCorrupt) {
				t.Errorf("block %d: %v", n, err)
			}
		}
	})
}

func TestRevokeBlockThatClaimsTooMuch(t *testing.T) {
	d, j := newJournal(t, 1024, 64, features{})
	s := newScribe(t, j, 1, 7)
	s.desc(versions(1024, 1, 3)...)
	n, _ := j.place(s.pos)
	s.revoke(3)
	s.commit()
	be.PutUint32(d.block(n)[rCount:], 1025)
	if _, err := j.Scan(); !errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
}

// Every tag may have a UUID of its own, and a descriptor block may be full without a
// last tag.
func TestTagsWithUUIDs(t *testing.T) {
	each(t, func(t *testing.T, f features) {
		d, j := newJournal(t, 1024, 128, f)
		s := newScribe(t, j, 1, 7)
		b := s.head(typeDescriptor)
		left := map[uint64]int{}
		var blocks []Block
		for off := headerSize; off+j.tagBytes() <= j.tagRoom(); {
			n := uint64(3*len(blocks) + 1)
			p := Block{n, contents(1024, n, 1)}
			room := make([]byte, 2048)
			end := j.writeTag(room, off, tag{block: n, sum: j.blockSum(7, p.Data)}, 0)
			copy(b[off:j.tagRoom()], room[off:])
			off, left[n] = end, 1
			blocks = append(blocks, p)
		}
		s.put(s.tail(b))
		s.sum = crcBE(s.sum, b)
		for _, p := range blocks {
			s.put(p.Data)
			s.sum = crcBE(s.sum, p.Data)
		}
		s.commit()
		replay(t, d, 128, left)
	})
}

func TestFastCommits(t *testing.T) {
	const blocks = MinBlocks + 100
	for name, c := range map[string]struct {
		tid   uint32
		fails bool
	}{"live": {8, true}, "void": {7, false}, "none": {0, false}} {
		t.Run(name, func(t *testing.T) {
			d, j := newJournal(t, 1024, blocks, features{incompat: v3})
			be.PutUint32(j.sb[sFeatureIncompat:], incompatFastCommit|v3)
			be.PutUint32(j.sb[sNumFCBlks:], 90)
			be.PutUint32(j.sb[sChecksum:], superSum(j.sb))
			if err := j.load(); err != nil {
				t.Fatal(err)
			}
			// The log ends before the fast commits.
			s := &scribe{t, j, MinBlocks + 8, 7, 1, 0}
			s.desc(versions(1024, 1, 3, 4)...)
			s.commit()
			be.PutUint32(j.sb[sStart:], MinBlocks+8)
			be.PutUint32(j.sb[sSequence:], 7)
			if err := j.writeSuper(); err != nil {
				t.Fatal(err)
			}
			if c.tid != 0 {
				n, _ := j.place(MinBlocks + 11)
				copy(d.block(n), []byte{fcTagHead, 0, 8, 0, 0, 0, 0, 0, byte(c.tid)})
			}
			if !c.fails {
				replay(t, d, blocks, map[uint64]int{3: 1, 4: 1})
				if j := open(t, d, blocks); j.incompat&incompatFastCommit != 0 {
					t.Error("the empty journal still has fast_commit")
				}
				return
			}
			var u *UnsupportedError
			if _, err := open(t, d, blocks).Scan(); !errors.As(err, &u) || u.Feature != "fast_commit" {
				t.Error(err)
			}
		})
	}
}

func TestOverlayIsInOrder(t *testing.T) {
	_, j := newJournal(t, 1024, 64, features{})
	s := newScribe(t, j, 1, 7)
	s.desc(versions(1024, 1, 9, 3, 200, 4)...)
	s.commit()
	o, err := j.Scan()
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Collect(o.Blocks()); !slices.Equal(got, []uint64{3, 4, 9, 200}) || o.Len() != 4 || o.Transactions() != 1 {
		t.Errorf("%v, %d, %d", got, o.Len(), o.Transactions())
	}
	for range o.Blocks() {
		break
	}
}

// A log full of revoke blocks names far more blocks than the journal has; only
// those of the logged ones may be kept. And no log costs more than going around it.
func TestHostileLogsAreCheap(t *testing.T) {
	d, j := newJournal(t, 4096, 2000, features{})
	s := newScribe(t, j, 1, 7)
	s.desc(versions(4096, 1, 3)...)
	nums := make([]uint64, 1000)
	for i := range uint64(1990) {
		for k := range nums {
			nums[k] = 1000 + i*1000 + uint64(k)
		}
		s.revoke(nums...)
	}
	s.commit()
	d.reads = 0
	var o *Overlay
	n := testing.AllocsPerRun(1, func() { o, _ = j.Scan() })
	if o.Len() != 1 || n > 100 {
		t.Errorf("%d blocks, %v allocations", o.Len(), n)
	}
	if d.reads > 2*3*2000 { // two runs of at most three passes
		t.Errorf("%d blocks read of a log of 2000", d.reads)
	}
}
