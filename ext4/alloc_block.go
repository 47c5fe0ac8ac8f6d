package ext4

import (
	"fmt"
	"syscall"

	"banger/ext4/internal/disk"
)

// run is a run of blocks of the file system.
type run struct {
	start uint64
	n     uint32
}

// goodRun is a run that is long enough not to look for a longer one, in blocks.
const goodRun = 2048

// alloc takes one to want free blocks that lie together. If the block goal is free
// the run begins there, so that contents grow in one piece; else it is the first of
// full length from there on, or a long one. No free block is syscall.ENOSPC.
func (t *Tx) alloc(goal uint64, want uint32) (run, error) {
	sb := t.v.sb
	if goal < uint64(sb.FirstDataBlock) || goal >= sb.Blocks() {
		goal = uint64(sb.FirstDataBlock)
	}
	first, index := sb.GroupOf(goal)
	var best run
	searched := 0
	for i := range t.v.groups {
		n := (first + i) % t.v.groups
		if best.n > 0 && searched > 32 {
			break // the rest of a large image is not read for a better place
		}
		if t.groups[n] == nil {
			if d, err := t.v.group(n); err != nil {
				return run{}, err
			} else if d.FreeBlocks == 0 {
				continue
			}
		}
		g, err := t.group(n)
		if err != nil {
			return run{}, err
		}
		searched++
		end := sb.GroupBlocks(n)
		from := g.next
		if i == 0 {
			if index < end && !bitSet(g.busy, index) {
				stop := nextBit(g.busy, index, min(end, index+min(want, end-index)), true)
				return t.take(g, n, index, stop)
			}
			from = index
		}
		at, length := g.search(from, end, want)
		if length > best.n {
			best = run{sb.GroupStart(n) + uint64(at), length}
		}
		if best.n == want || best.n >= goodRun {
			break
		}
	}
	if best.n == 0 {
		return run{}, t.noSpace()
	}
	n, at := sb.GroupOf(best.start)
	return t.take(t.groups[n], n, at, at+best.n)
}

// search looks for a free run of want blocks in a group, from a place on and then
// from the start. If there is none it returns the longest.
func (g *allocGroup) search(from, end, want uint32) (at, length uint32) {
	look := func(n, end uint32) bool {
		for n < end {
			start := nextBit(g.busy, n, end, false)
			if start == end {
				break
			}
			n = nextBit(g.busy, start, min(end, start+min(want, end-start)), true)
			if n-start > length {
				at, length = start, n-start
			}
			if length == want {
				return true
			}
		}
		return false
	}
	if from >= end || !look(from, end) {
		look(0, end)
	}
	return at, length
}

func (t *Tx) take(g *allocGroup, n, from, end uint32) (run, error) {
	if err := t.markBlocks(n, from, end, true); err != nil {
		return run{}, err
	}
	setBits(g.busy, from, end)
	g.next = end
	return run{t.v.sb.GroupStart(n) + uint64(from), end - from}, nil
}

// allocOne takes a block for metadata.
func (t *Tx) allocOne(goal uint64) (uint64, error) {
	r, err := t.alloc(goal, 1)
	return r.start, err
}

func (t *Tx) noSpace() error {
	hidden := uint64(0)
	for n, g := range t.groups {
		d, err := t.v.group(n)
		if err != nil {
			return err
		}
		free := uint32(0)
		end := t.v.sb.GroupBlocks(n)
		for at := nextBit(g.busy, 0, end, false); at < end; {
			stop := nextBit(g.busy, at, end, true)
			free += stop - at
			at = nextBit(g.busy, stop, end, false)
		}
		hidden += uint64(d.FreeBlocks - min(free, d.FreeBlocks))
	}
	if hidden > 0 {
		return fmt.Errorf("%w: %d blocks that this transaction freed can be used after its commit", syscall.ENOSPC, hidden)
	}
	return syscall.ENOSPC
}

// free gives back blocks of a file. They can be used again after the commit.
func (t *Tx) free(start uint64, count uint32) error {
	sb := t.v.sb
	for count > 0 {
		if start < uint64(sb.FirstDataBlock) || start >= sb.Blocks() {
			return disk.Corrupt("a file has block %d", start)
		}
		n, at := sb.GroupOf(start)
		end := min(at+min(count, sb.BlocksPerGroup), sb.GroupBlocks(n))
		g, err := t.group(n)
		if err != nil {
			return err
		}
		if bad := nextBit(g.fixed, at, end, true); bad != end {
			return disk.Corrupt("a file has block %d, which is metadata", sb.GroupStart(n)+uint64(bad))
		}
		if err := t.markBlocks(n, at, end, false); err != nil {
			return err
		}
		if len(t.v.dirty) < int(end-at) {
			for b := range t.v.dirty {
				if b >= start && b-start < uint64(end-at) {
					t.forget(b)
				}
			}
		} else {
			for i := range uint64(end - at) {
				t.forget(start + i)
			}
		}
		start, count = start+uint64(end-at), count-(end-at)
	}
	return nil
}

// giveBack frees blocks that were allocated in this session and that nothing refers
// to: they can be used again after the operation.
func (t *Tx) giveBack(r run) error {
	if r.n == 0 {
		return nil
	}
	if err := t.free(r.start, r.n); err != nil {
		return err
	}
	t.unused = append(t.unused, r)
	return nil
}

// reuse lets what was given back be used again.
func (t *Tx) reuse() {
	for _, r := range t.unused {
		n, at := t.v.sb.GroupOf(r.start) // alloc never goes beyond one group
		g := t.groups[n]
		clearBits(g.busy, at, at+r.n)
		g.next = at
	}
}

func (t *Tx) freeExtents(list []disk.Extent) error {
	for _, e := range list {
		if err := t.free(e.Physical, e.Len); err != nil {
			return err
		}
	}
	return nil
}

func (t *Tx) freeBlocks(list []uint64) error {
	for _, n := range list {
		if err := t.free(n, 1); err != nil {
			return err
		}
	}
	return nil
}
