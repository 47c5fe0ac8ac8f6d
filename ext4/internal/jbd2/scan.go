package jbd2

import "encoding/binary"

// walk is what one way through the log finds: the transactions that are complete.
type walk struct {
	tags    []tag    // in the order of the log
	revokes []revoke // likewise
	txns    uint32   // transactions
	end     uint32   // sequence number after the last of them
}

// revoke is a revoke block.
type revoke struct {
	block uint32 // of the journal
	txn   uint32
}

// walker is the state of a walk.
type walker struct {
	walk
	j   *Journal
	r   *reader
	pos uint32 // the next block
	// left is how many blocks of the log are unread: no writer laps itself.
	left uint32

	// What of tags and revokes belongs to complete transactions.
	doneTags, doneRevokes int

	sum     uint32 // of the transaction so far, first version of the checksums
	suspect bool   // a descriptor or revoke block of the transaction is not right
	time    uint64 // of the last commit
	// broken is set after a commit block that is not right with async_commit,
	// where it may have overtaken the blocks before it.
	broken bool
}

// walk goes through the log, from its start to the first block that does not belong
// to it, or once around. A transaction without a commit block is no error: it was
// being written when the system stopped.
func (j *Journal) walk(r *reader) (*walk, error) {
	w := &walker{j: j, r: r, pos: j.start(), left: j.last - j.first, sum: ^uint32(0)}
	w.end = j.Sequence()
	for more := true; more && w.left > 0; {
		pos := w.pos
		b, err := r.block(pos)
		if err != nil {
			return nil, err
		}
		w.skip(1)
		if !hasMagic(b) || be.Uint32(b[hSequence:]) != w.sequence() {
			break
		}
		switch be.Uint32(b[hBlocktype:]) {
		case typeDescriptor:
			more, err = w.descriptor(b)
		case typeRevoke:
			w.suspect = w.suspect || !j.tailOK(b)
			w.revokes = append(w.revokes, revoke{pos, w.txns})
		case typeCommit:
			more, err = w.commit(b)
		default:
			more = false
		}
		if err != nil {
			return nil, err
		}
	}
	w.tags, w.revokes = w.tags[:w.doneTags], w.revokes[:w.doneRevokes]
	return &w.walk, w.fastCommits()
}

// sequence is the number that the blocks to come must have: that of the one after
// the broken transaction, if there is one.
func (w *walker) sequence() uint32 {
	if w.broken {
		return w.end + 1
	}
	return w.end
}

func (w *walker) skip(n uint32) {
	w.left -= n
	w.pos += n
	if w.pos >= w.j.last {
		w.pos -= w.j.last - w.j.first
	}
}

// descriptor takes the tags of a descriptor block and steps over their blocks. More
// tags than the log has blocks end it.
func (w *walker) descriptor(b []byte) (more bool, err error) {
	j := w.j
	// Not yet an error: what is left of an older journal in a log that was never
	// zeroed looks the same. The commit block, if there is one, tells them apart.
	w.suspect = w.suspect || !j.tailOK(b)
	sum := j.compat&compatChecksum != 0 && !w.suspect && !w.broken
	if sum {
		w.sum = crcBE(w.sum, b)
	}
	n := uint32(0)
	pos := w.pos
	for off := headerSize; off != 0; n++ {
		if n == w.left {
			return false, nil
		}
		var t tag
		t, off = j.readTag(b, off)
		t.source, t.txn = pos, w.txns
		w.tags = append(w.tags, t)
		pos = j.next(pos)
	}
	for i := range n {
		if !sum {
			break
		}
		b, err := w.r.block(w.tags[len(w.tags)-int(n-i)].source)
		if err != nil {
			return false, err
		}
		w.sum = crcBE(w.sum, b)
	}
	w.skip(n)
	return true, nil
}

// commit ends a transaction. A wrong checksum is damage, with two exceptions: a
// commit that is older than the one before it is a remnant of an older journal, and
// with async_commit the last commit may be ahead of its blocks. Both end the log.
func (w *walker) commit(b []byte) (more bool, err error) {
	j := w.j
	time := be.Uint64(b[hCommitSec:])
	if w.broken && time < w.time {
		return false, nil
	}
	if w.broken {
		// Here the kernel goes on to the end and drops the broken transaction and
		// all after it, or, by the first version, refuses the journal. As nothing
		// is committed before the last commit block is safe, it is damage.
		return false, corrupt("transaction %d fails its checksum and %d was committed", w.end, w.end+1)
	}
	ok := !w.suspect && j.commitOK(b)
	if j.compat&compatChecksum != 0 {
		ok = ok && commitOK1(b, w.sum)
	}
	if !ok {
		if time < w.time {
			return false, nil
		}
		if w.suspect || j.incompat&incompatAsyncCommit == 0 {
			return false, corrupt("transaction %d fails its checksum", w.end)
		}
		w.broken = true
		return true, nil
	}
	w.time, w.sum = time, ^uint32(0)
	w.txns++
	w.end++
	w.doneTags, w.doneRevokes = len(w.tags), len(w.revokes)
	return true, nil
}

// fastCommits refuses a journal with fast commits after its last transaction. They
// hold changes of inodes and directories, not blocks: replaying them takes a file
// system. Older ones are void.
func (w *walker) fastCommits() error {
	if w.j.fcBlock == 0 {
		return nil
	}
	b, err := w.r.block(w.j.fcBlock)
	if err != nil {
		return err
	}
	le := binary.LittleEndian
	if le.Uint16(b) == fcTagHead && le.Uint32(b[fcTID:]) == w.end {
		return &UnsupportedError{"fast_commit"}
	}
	return nil
}
