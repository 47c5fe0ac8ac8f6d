package jbd2

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
)

// numbers returns n numbers of blocks in an order that is not theirs.
func numbers(n int) []uint64 {
	nums := make([]uint64, n)
	for i := range nums {
		nums[i] = uint64(i*7%397 + 1)
	}
	return nums
}

func set(nums []uint64, v int) map[uint64]int {
	m := map[uint64]int{}
	for _, n := range nums {
		m[n] = v
	}
	return m
}

func TestLogIsReplayed(t *testing.T) {
	each(t, func(t *testing.T, f features) {
		for _, n := range []int{1, 15, 130} { // 130: several descriptor blocks
			d, j := newJournal(t, 1024, 160, f)
			if err := j.Log(versions(1024, 1, numbers(n)...)); err != nil {
				t.Fatal(err)
			}
			if !j.Dirty() {
				t.Error("the log is empty")
			}
			want(t, d, nil) // not yet in place
			replay(t, d, 160, set(numbers(n), 1))
		}
	})
}

func TestLogAndClean(t *testing.T) {
	each(t, func(t *testing.T, f features) {
		d, j := newJournal(t, 1024, 64, f)
		for v := 1; v < 20; v++ {
			blocks := versions(1024, v, numbers(1+v%5)...)
			if err := j.Log(blocks); err != nil {
				t.Fatal(err)
			}
			if err := j.Log(blocks); !errors.Is(err, ErrDirty) {
				t.Errorf("log into a full log: %v", err)
			}
			if err := j.Upgrade(true); !errors.Is(err, ErrDirty) {
				t.Errorf("upgrade of a full log: %v", err)
			}
			if err := open(t, d, 64).Clean(); !errors.Is(err, ErrDirty) {
				t.Errorf("cleaning what was not logged here: %v", err)
			}
			if err := j.Clean(); err != nil {
				t.Fatal(err)
			}
			if j = open(t, d, 64); j.Dirty() {
				t.Fatal("not empty after Clean")
			}
		}
		want(t, d, nil)
		if n, err := j.Replay(); n != 0 || err != nil {
			t.Error(n, err)
		}
		if err := j.Clean(); err != nil {
			t.Error(err)
		}
	})
}

func TestLogFillsTheWholeLog(t *testing.T) {
	each(t, func(t *testing.T, f features) {
		for _, blocks := range []uint32{3, 4, 5, 31, 65, 66, 67, 68, 130, 200} {
			d, j := newJournal(t, 1024, blocks, f)
			c := j.Capacity()
			if err := j.Log(versions(1024, 1, numbers(c+1)...)); !errors.Is(err, ErrTooLarge) {
				t.Errorf("%d blocks into a log of %d: %v", c+1, blocks-1, err)
			}
			if c == 0 {
				continue
			}
			if c+(c+j.tagsPerBlock()-1)/j.tagsPerBlock()+1 > int(blocks-1) {
				t.Errorf("capacity %d of a log of %d", c, blocks-1)
			}
			if err := j.Log(versions(1024, 1, numbers(c)...)); err != nil {
				t.Fatal(err)
			}
			replay(t, d, blocks, set(numbers(c), 1))
		}
	})
}

func TestLogRefuses(t *testing.T) {
	d, j := newJournal(t, 1024, 64, features{})
	for _, blocks := range [][]Block{
		versions(1024, 1, 3, 4, 3),
		versions(1024, 1, 3, fsBlocks+64),
		versions(512, 1, 3),
	} {
		if err := j.Log(blocks); err == nil {
			t.Errorf("%d blocks were taken", len(blocks))
		}
	}
	j.c.FSBlocks = 1 << 40
	if err := j.Log(versions(1024, 1, 1<<32)); err == nil {
		t.Error("block 2^32 was taken without 64bit")
	}
	if err := j.Log(nil); err != nil || len(d.ops) > 0 || j.Dirty() {
		t.Errorf("%v after %d writes", err, len(d.ops))
	}
}

// A wide block number goes through a 64-bit journal.
func TestWideNumbers(t *testing.T) {
	for _, f := range []features{{incompat: incompat64Bit}, {incompat: incompat64Bit | incompatCsumV2}, {incompat: v3}} {
		_, j := newJournal(t, 1024, 64, f)
		j.c.FSBlocks = 1 << 40
		if err := j.Log(versions(1024, 1, 1<<39+5, 5)); err != nil {
			t.Fatal(err)
		}
		o, err := j.Scan()
		if err != nil || !o.Has(1<<39+5) || o.Len() != 2 {
			t.Error(o, err)
		}
	}
}

func TestUpgrade(t *testing.T) {
	each(t, func(t *testing.T, f features) {
		d, j := newJournal(t, 1024, 64, f)
		if err := j.Upgrade(true); err != nil {
			t.Fatal(err)
		}
		if len(d.ops) > 0 {
			t.Error("Upgrade wrote")
		}
		if err := j.Log(versions(1024, 1, 3, 4)); err != nil {
			t.Fatal(err)
		}
		if j := open(t, d, 64); j.incompat&v3 != v3 || j.compat != 0 {
			t.Errorf("features %#x, %#x", j.compat, j.incompat)
		}
		replay(t, d, 64, map[uint64]int{3: 1, 4: 1})
	})
}

// A log that was never zeroed may have a commit block where ours comes, and a
// transaction after it, with just the numbers that fit.
func TestLogOverAnOlderJournal(t *testing.T) {
	each(t, func(t *testing.T, f features) {
		for _, n := range []int{1, 4} {
			d, j := newJournal(t, 1024, 64, f)
			s := newScribe(t, j, 1, 8)
			for range 10 {
				s.desc(versions(1024, 9, 30)...)
				s.commit()
			}
			for i := range uint32(20) { // transactions of one number at several places
				s.pos, s.seq = 2+i*2, 9
				s.desc(versions(1024, 9, 31)...)
				s.commit()
			}
			s.pos, s.seq = 1, 8
			s.desc(versions(1024, 9, 32, 33, 34)...)
			s.commit()
			newScribe(t, j, 0, 7)
			d.ops = nil
			old := d.clone()
			before, young := fsImage(1024, nil), fsImage(1024, set(numbers(n), 1))
			if err := j.Log(versions(1024, 1, numbers(n)...)); err != nil {
				t.Fatal(err)
			}
			states(old, d.ops, func(state *disk, _ int) {
				either(t, state, 64, before, young)
			})
			replay(t, d, 64, set(numbers(n), 1))
		}
	})
}

// states calls f with what a power failure can leave on the disk: after each write,
// all that was before the last Sync, and of the writes after it every one, none, or
// any selection. With it comes how many of the ops were safe.
func states(old *disk, ops []op, f func(state *disk, safe int)) {
	r := rand.New(rand.NewPCG(1, 2))
	base, safe := old.clone(), 0
	for i := 0; i <= len(ops); i++ {
		window := ops[safe:i]
		for try := range 1 + min(len(window), 3) {
			state := base.clone()
			for k, o := range window {
				if try == 0 || (try == 1 && k == len(window)-1) || (try > 1 && r.IntN(2) == 0) {
					copy(state.block(o.block), o.data)
				}
			}
			f(state, safe)
		}
		if i < len(ops) && ops[i].data == nil {
			for _, o := range window {
				copy(base.block(o.block), o.data)
			}
			safe = i + 1
		}
	}
}

// either replays and checks that the file system is all old or all new; it returns
// which.
func either(t *testing.T, d *disk, blocks uint32, old, young []byte) (isNew bool) {
	t.Helper()
	if _, err := open(t, d, blocks).Replay(); err != nil {
		t.Fatal(err)
	}
	got := d.data[:fsBlocks*d.size]
	isNew = bytes.Equal(got, young)
	if !isNew && !bytes.Equal(got, old) {
		t.Error("neither the old blocks nor the new ones")
	}
	return isNew
}

// The whole life of a transaction, stopped anywhere: all or nothing, and all once
// Log has returned. What was left behind must not disturb the next one either.
func TestCrash(t *testing.T) {
	for _, f := range allFeatures {
		for _, n := range []int{4, 70} {
			if n > 4 && f.incompat != incompatCsumV3 {
				continue // with small tags they fit into one descriptor block
			}
			t.Run(fmt.Sprint(f, n), func(t *testing.T) {
				t.Parallel()
				const blocks = 90
				d, j := newJournal(t, 1024, blocks, f)
				old := d.clone()
				nums := numbers(n)
				logged := life(t, d, j, versions(1024, 1, nums...))
				before, young := fsImage(1024, nil), fsImage(1024, set(nums, 1))
				found := map[bool]int{}
				count := 0
				states(old, d.ops, func(state *disk, safe int) {
					count++
					var crashed *disk
					if count%(7*n) == 0 {
						crashed = state.clone()
					}
					isNew := either(t, state, blocks, before, young)
					found[isNew]++
					if safe >= logged && !isNew {
						t.Errorf("the transaction is gone after %d operations of %d", safe, logged)
					}
					if crashed != nil && !isNew {
						again(t, state, blocks)
						if j := open(t, crashed, blocks); !j.Dirty() {
							again(t, crashed, blocks)
						}
					}
				})
				if found[false] == 0 || found[true] == 0 {
					t.Errorf("the same after every crash: %v", found)
				}
				want(t, d, set(nums, 1))
			})
		}
	}
}

// life logs the blocks, writes them to their places and cleans the log. It returns
// how many operations Log took.
func life(t *testing.T, d *disk, j *Journal, blocks []Block) int {
	t.Helper()
	if err := j.Log(blocks); err != nil {
		t.Fatal(err)
	}
	logged := len(d.ops)
	for _, b := range blocks {
		if err := d.WriteBlocks(b.Number, b.Data); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(d.Sync(), j.Clean()); err != nil {
		t.Fatal(err)
	}
	return logged
}

// again crashes in a shorter transaction, over what the first one left.
func again(t *testing.T, d *disk, blocks uint32) {
	t.Helper()
	old := d.clone()
	d.ops = nil
	j := open(t, d, blocks)
	life(t, d, j, versions(1024, 2, 2, 3))
	before, young := fsImage(1024, nil), fsImage(1024, map[uint64]int{2: 2, 3: 2})
	states(old, d.ops, func(state *disk, _ int) {
		either(t, state, blocks, before, young)
	})
}

// A replay that is stopped anywhere can be run again.
func TestCrashInReplay(t *testing.T) {
	each(t, func(t *testing.T, f features) {
		d, j := newJournal(t, 1024, 64, f)
		s := newScribe(t, j, 55, 7)
		s.desc(versions(1024, 1, 3, 4, 5)...)
		s.commit()
		s.desc(versions(1024, 2, 5, 6, 10)...)
		s.commit()
		d.ops = nil
		old := d.clone()
		if _, err := j.Replay(); err != nil {
			t.Fatal(err)
		}
		left := fsImage(1024, map[uint64]int{3: 1, 4: 1, 5: 2, 6: 2, 10: 2})
		states(old, d.ops, func(state *disk, _ int) { either(t, state, 64, left, left) })
	})
}

// After each failure of the device the journal is still all or nothing, in the same
// Journal and in a new one.
func TestDeviceFails(t *testing.T) {
	before, young := fsImage(1024, nil), fsImage(1024, map[uint64]int{3: 1, 4: 1})
	for n := 1; ; n++ {
		d, j := newJournal(t, 1024, 64, features{incompat: v3})
		d.fail = n
		err := j.Log(versions(1024, 1, 3, 4))
		if err == nil {
			break
		}
		if !errors.Is(err, errDisk) {
			t.Fatal(err)
		}
		either(t, d.clone(), 64, before, young)
		if j.Dirty() {
			if err := j.Clean(); !errors.Is(err, ErrDirty) {
				t.Errorf("cleaned after a failed Log: %v", err)
			}
			d.fail = 1
			if _, err := j.Replay(); !errors.Is(err, errDisk) {
				t.Error(err)
			}
			if _, err := j.Replay(); err != nil {
				t.Fatal(err)
			}
		}
		if err := j.Log(versions(1024, 2, 9)); err != nil {
			t.Fatal(err)
		}
		if _, err := j.Replay(); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(d.block(9), contents(1024, 9, 2)) {
			t.Error("the transaction after the failed one is lost")
		}
	}
}

// A Log of few blocks neither reads the log nor writes it block by block.
func BenchmarkLog(b *testing.B) {
	d, j := newJournal(b, 4096, 100, features{incompat: v3})
	blocks := versions(4096, 1, numbers(15)...)
	b.ReportAllocs()
	for b.Loop() {
		d.ops = d.ops[:0]
		if err := j.Log(blocks); err != nil {
			b.Fatal(err)
		}
		if err := j.Clean(); err != nil {
			b.Fatal(err)
		}
	}
}
