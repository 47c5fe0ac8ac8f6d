package ext4

import (
	"errors"
	"math/bits"
	"slices"

	"banger/ext4/internal/disk"
	"banger/ext4/internal/jbd2"
)

// The order of the writes of a change of size, and what an interruption leaves:
//
//  1. What lies behind the present end of the file system: bitmaps, descriptors and
//     backups of new groups; and descriptors behind the last in its block. Nobody looks
//     at it.
//  2. The transaction, with all that changes before that end, the superblock among it:
//     the old size or the new one (see Tx.Commit). So no block of the transaction lies
//     outside the file system, whichever superblock the one who replays it sees.
//  3. The backups of superblock and descriptors in the groups there were: they tell of
//     the old size until then, as after the kernel's own resizing
//     (fs/ext4/resize.c, update_backups).

// stageChange makes the changes of metadata in memory. change finds the volume with
// its new size; all that it does is for the transaction.
func (r *resizer) stageChange(change func() error) error {
	t := r.t
	err := t.atomically(func() error {
		*t.v.sb, t.v.groups = r.sb, r.sb.Groups()
		if err := change(); err != nil {
			return err
		}
		// What a smaller file system has no more must not be in its journal.
		for n := range t.v.dirty {
			if n >= r.sb.Blocks() {
				t.forget(n)
			}
		}
		_, err := t.touch(t.superblockBlock())
		return err
	})
	if err != nil {
		t.v.groups = r.old.Groups()
		return err
	}
	r.sb = *t.v.sb
	return nil
}

// commit makes the changes that were staged, then the backups.
func (r *resizer) commit() error {
	r.committing = true
	if err := r.t.commit(r.superApart); err != nil {
		r.committing = !errors.Is(err, ErrTooLarge)
		return err
	}
	if err := r.writeCopies(0, min(r.old.Blocks(), r.sb.Blocks())); err != nil {
		return err
	}
	return txDevice{r.t}.Sync()
}

// superApart divides the blocks of the transaction for their way to their places. Kernel
// and e2fsck look at all descriptors before they replay the journal (fs/ext4/super.c,
// ext4_check_descriptors). So the superblock of a larger file system comes after the
// descriptors, and that of a smaller one before what takes the place of some.
func (r *resizer) superApart(blocks []jbd2.Block) [][]jbd2.Block {
	i := slices.IndexFunc(blocks, func(b jbd2.Block) bool { return b.Number == r.t.superblockBlock() })
	super := []jbd2.Block{blocks[i]}
	parts := [][]jbd2.Block{super, slices.Delete(blocks, i, i+1)}
	if r.sb.Blocks() > r.old.Blocks() {
		slices.Reverse(parts)
	}
	return parts
}

// writeCopies writes superblocks and descriptors, past the transaction, to those of
// their places that lie in blocks from start to before end: at the start of the file
// system only the backups, behind its old end also the first place of the descriptors of
// a meta group.
func (r *resizer) writeCopies(start, end uint64) error {
	sb, bs, w := &r.sb, r.t.v.bs, &r.w
	b := make([]byte, bs)
	_, firstMeta := r.tableEnd()
	for _, g := range backupGroups(sb) {
		at := sb.GroupStart(g)
		if at < start || at >= end {
			continue
		}
		c := *sb
		c.BlockGroupNr = uint16(g)
		c.Encode(b)
		if err := w.write(at, b); err != nil {
			return err
		}
		if g/sb.DescriptorsPerBlock() >= firstMeta {
			continue // its descriptors are those of its meta group
		}
		from := r.first
		if at >= r.old.Blocks() {
			from = 0 // there is nothing yet
		}
		for i := from; i < firstMeta; i++ {
			block, err := r.tableBlock(i)
			if err != nil {
				return err
			}
			if err := w.write(at+1+uint64(i), block); err != nil {
				return err
			}
		}
	}
	if err := r.writeMeta(start, end); err != nil {
		return err
	}
	return w.flush()
}

// gather joins writes of adjacent blocks.
type gather struct {
	dev txDevice
	buf *[]byte // from buffers
	at  uint64  // the block where buf goes
}

// gatherBytes is how much is gathered.
const gatherBytes = 64 << 10

func (w *gather) write(at uint64, b []byte) error {
	if w.buf == nil {
		w.buf = buffers.Get().(*[]byte) //nolint:forcetypeassert // nothing else is in it
		*w.buf = slices.Grow((*w.buf)[:0], max(gatherBytes, len(b)))
	}
	if n := len(*w.buf); at != w.at+uint64(n/len(b)) || n+len(b) > cap(*w.buf) {
		if err := w.flush(); err != nil {
			return err
		}
		w.at = at
	}
	*w.buf = append(*w.buf, b...)
	return nil
}

func (w *gather) flush() error {
	if w.buf == nil || len(*w.buf) == 0 {
		return nil
	}
	err := w.dev.WriteBlocks(w.at, *w.buf)
	*w.buf = (*w.buf)[:0]
	return err
}

// close gives the buffer back.
func (w *gather) close() {
	if w.buf != nil {
		*w.buf = (*w.buf)[:cap(*w.buf)]
		buffers.Put(w.buf)
	}
	w.buf = nil
}

// writeMeta is writeCopies for the descriptors of meta groups: a block of them is in the
// first, the second and the last group of those that it describes
// (Documentation/filesystems/ext4/blockgroup.rst).
func (r *resizer) writeMeta(start, end uint64) error {
	sb, per := &r.sb, r.sb.DescriptorsPerBlock()
	tableEnd, firstMeta := r.tableEnd()
	for i := max(r.first, firstMeta); i < tableEnd; i++ {
		block, err := r.tableBlock(i)
		if err != nil {
			return err
		}
		for _, in := range []uint32{0, 1, per - 1} {
			g := i*per + in
			if in >= per || g >= sb.Groups() {
				continue
			}
			at := sb.GroupStart(g)
			if in == 0 && at < r.old.Blocks() {
				continue // in the transaction
			}
			if sb.HasSuper(g) {
				at++
			}
			if at < start || at >= end {
				continue
			}
			if err := r.w.write(at, block); err != nil {
				return err
			}
		}
	}
	return nil
}

// tableEnd is how many blocks of descriptors there are, and the first of them that
// describes a meta group.
func (r *resizer) tableEnd() (end, firstMeta uint32) {
	end = r.sb.GDTBlocks()
	if r.sb.FeatureIncompat&disk.IncompatMetaBG == 0 {
		return end, end
	}
	return end, r.sb.FirstMetaBG
}

// tableBlock is block i of the new table of descriptors.
func (r *resizer) tableBlock(i uint32) ([]byte, error) {
	if i < r.first {
		return r.t.v.block(r.sb.GDTBlock(i))
	}
	bs := r.t.v.bs
	return r.table[int(i-r.first)*bs:][:bs], nil
}

// backupGroups lists the groups behind the first that have a superblock, ascending;
// see disk.Superblock.HasSuper.
func backupGroups(sb *disk.Superblock) (list []uint32) {
	groups := sb.Groups()
	add := func(g uint32) {
		if g > 0 && g < groups {
			list = append(list, g)
		}
	}
	switch {
	case sb.FeatureCompat&disk.CompatSparseSuper2 != 0:
		add(sb.BackupBGs[0])
		add(sb.BackupBGs[1])
	case sb.FeatureROCompat&disk.ROCompatSparseSuper == 0:
		for g := range groups {
			add(g)
		}
	default:
		add(1)
		for _, base := range []uint64{3, 5, 7} {
			for n := base; n < uint64(groups); n *= base {
				add(uint32(n))
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// release frees blocks of metadata that have no use any more.
func (r *resizer) release(at, n uint64) error {
	t := r.t
	sb := t.v.sb
	for n > 0 {
		g, index := sb.GroupOf(at)
		count := uint32(min(n, uint64(sb.GroupBlocks(g)-index)))
		d, err := t.v.group(g)
		if err != nil {
			return err
		}
		if t.groupFlag(&d, disk.GroupBlockUninit) {
			// What its bitmap would be follows from the layout.
			d.FreeBlocks += count
			sb.SetFreeBlocks(sb.FreeBlocks() + uint64(count))
			err = t.putGroup(g, &d)
		} else if _, err = t.blockBitmap(g, &d, nil); err == nil {
			err = t.markBlocks(g, index, index+count, false)
		}
		if err != nil {
			return err
		}
		at, n = at+uint64(count), n-uint64(count)
	}
	return nil
}

// releaseHeads frees what the copies of the descriptors, with the room behind them, take
// less than before.
func (r *resizer) releaseHeads() error {
	sb := r.t.v.sb
	for _, g := range append([]uint32{0}, backupGroups(&r.old)...) {
		if g >= sb.Groups() {
			break
		}
		now, before := sb.GroupHead(g), r.old.GroupHead(g)
		if now < before {
			if err := r.release(sb.GroupStart(g)+uint64(now), uint64(before-now)); err != nil {
				return err
			}
			r.addOverhead(-int64(before - now))
		}
	}
	return nil
}

// addOverhead adds to s_overhead_clusters, blocks of metadata, where that is kept: zero
// is "not known" (fs/ext4/super.c, ext4_calculate_overhead).
func (r *resizer) addOverhead(n int64) {
	sb := r.t.v.sb
	if r.old.OverheadBlocks != 0 {
		sb.OverheadBlocks = uint32(min(max(int64(sb.OverheadBlocks)+n, 0), 1<<32-1))
	}
}

// scaleReserved keeps the share of the blocks that are reserved for root.
func (r *resizer) scaleReserved() {
	hi, lo := bits.Mul64(min(r.old.ReservedBlocks(), r.old.Blocks()), r.sb.Blocks())
	n, _ := bits.Div64(hi, lo, r.old.Blocks())
	r.sb.SetReservedBlocks(n)
}
