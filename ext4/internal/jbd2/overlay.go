package jbd2

import (
	"cmp"
	"iter"
	"slices"
	"sort"
)

// Overlay is what a replay of the log would write: the newest contents of the
// blocks of the file system that are in it. It holds their numbers, not the
// contents, which stay in the log: it is void once the log is replayed or written.
// It may be used from several goroutines if the Device and the Map may.
type Overlay struct {
	j       *Journal
	entries []entry // ascending
	txns    uint32
	end     uint32 // sequence number after the last transaction
}

type entry struct {
	block  uint64
	source uint32
	escape bool
}

// Scan goes through the log and returns what Replay would write. It writes nothing.
// An empty log gives an empty Overlay. Memory is some tens of bytes a logged block.
//
// A transaction that was not committed ends the log without an error, as in the
// kernel. ErrCorrupt is a checksum that fails in one that was, a block outside the
// file system or in the journal itself; the kernel then replays what it can and
// refuses the mount. A journal with live fast commits is an *UnsupportedError.
func (j *Journal) Scan() (*Overlay, error) {
	o := &Overlay{j: j, end: j.Sequence()}
	if !j.Dirty() {
		return o, nil
	}
	r := &reader{j: j}
	w, err := j.walk(r)
	if err != nil {
		return nil, err
	}
	o.txns, o.end = w.txns, w.end
	if err := j.dropRevoked(r, w); err != nil {
		return nil, err
	}
	if err := j.check(r, w.tags); err != nil {
		return nil, err
	}
	o.entries = newest(w.tags)
	return o, j.checkTargets(o)
}

// dropRevoked removes the tags of blocks that were freed after they were logged: a
// revoke hides what its own transaction and those before it logged.
func (j *Journal) dropRevoked(r *reader, w *walk) error {
	if len(w.revokes) == 0 {
		return nil
	}
	// Only revokes of logged blocks are kept: a log full of revoke blocks names
	// hundreds of times as many blocks as it has.
	until := make(map[uint64]uint32, len(w.tags)) // transactions before this are hidden
	for _, t := range w.tags {
		until[t.block] = 0
	}
	for _, v := range w.revokes {
		b, err := r.block(v.block)
		if err != nil {
			return err
		}
		size, wide := 4, j.incompat&incompat64Bit != 0
		if wide {
			size = 8
		}
		used := be.Uint32(b[rCount:])
		if used > uint32(j.tagRoom()) {
			return corrupt("revoke block %d has %d bytes", v.block, used)
		}
		for off := revokeHeaderSize; off+size <= int(used); off += size {
			var n uint64
			if wide {
				n = be.Uint64(b[off:])
			} else {
				n = uint64(be.Uint32(b[off:]))
			}
			if _, ok := until[n]; ok {
				until[n] = v.txn + 1 // revokes come in the order of the log
			}
		}
	}
	w.tags = slices.DeleteFunc(w.tags, func(t tag) bool { return t.txn < until[t.block] })
	return nil
}

// check compares the checksums of all logged blocks, also of those of which there
// are newer ones, as the kernel does.
func (j *Journal) check(r *reader, tags []tag) error {
	for _, t := range tags {
		if t.block >= j.c.FSBlocks {
			return corrupt("block %d logged in a file system of %d", t.block, j.c.FSBlocks)
		}
		if !j.csum23() {
			continue
		}
		b, err := r.block(t.source)
		if err != nil {
			return err
		}
		if !j.sumOK(t, j.Sequence()+t.txn, b) {
			return corrupt("block %d of the journal, for %d, fails its checksum", t.source, t.block)
		}
	}
	return nil
}

// newest returns the last tag of each block.
func newest(tags []tag) []entry {
	entries := make([]entry, len(tags))
	for i, t := range tags {
		entries[i] = entry{t.block, t.source, t.escape}
	}
	slices.SortStableFunc(entries, func(a, b entry) int { return cmp.Compare(a.block, b.block) })
	kept := entries[:0]
	for _, e := range entries {
		if n := len(kept); n > 0 && kept[n-1].block == e.block {
			kept[n-1] = e
			continue
		}
		kept = append(kept, e)
	}
	return kept
}

// checkTargets refuses a log that overwrites the journal: replaying it would destroy
// what is still to be replayed, and it could not be run again.
func (j *Journal) checkTargets(o *Overlay) error {
	if o.Len() == 0 {
		return nil
	}
	for i := range be.Uint32(j.sb[sMaxlen:]) {
		// A block that is nowhere is not overwritten.
		if n, err := j.at(i); err == nil && o.Has(n) {
			return corrupt("block %d of the journal is logged", i)
		}
	}
	return nil
}

// Len returns how many blocks there are.
func (o *Overlay) Len() int { return len(o.entries) }

// Transactions returns how many complete transactions are in the log.
func (o *Overlay) Transactions() int { return int(o.txns) }

// Blocks returns the numbers of the blocks in ascending order.
func (o *Overlay) Blocks() iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		for _, e := range o.entries {
			if !yield(e.block) {
				return
			}
		}
	}
}

// Has says whether a block of the file system is in the log.
func (o *Overlay) Has(block uint64) bool {
	_, ok := o.find(block)
	return ok
}

// Read fills b, which is one block long, with the contents that a replay would give
// a block of the file system. If the log has none it returns false and leaves b.
func (o *Overlay) Read(block uint64, b []byte) (bool, error) {
	e, ok := o.find(block)
	if !ok {
		return false, nil
	}
	return true, o.read(e, b)
}

func (o *Overlay) find(block uint64) (entry, bool) {
	i := sort.Search(len(o.entries), func(i int) bool { return o.entries[i].block >= block })
	if i == len(o.entries) || o.entries[i].block != block {
		return entry{}, false
	}
	return o.entries[i], true
}

func (o *Overlay) read(e entry, b []byte) error {
	n, err := o.j.place(e.source)
	if err != nil {
		return err
	}
	if err := o.j.dev.ReadBlocks(n, b[:o.j.c.BlockSize]); err != nil {
		return err
	}
	if e.escape {
		be.PutUint32(b, magic)
	}
	return nil
}
