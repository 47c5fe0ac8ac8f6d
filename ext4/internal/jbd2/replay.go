package jbd2

// replayChunk is how many bytes of adjacent blocks are written at once.
const replayChunk = 128 << 10

// Replay writes all that complete transactions logged to its place, and then empties
// the log. It returns how many blocks it wrote. With an empty log it does nothing.
//
// The errors are those of Scan and of the Device. After one of Scan nothing was
// written. If it is stopped at any point, it can be run again, also by the kernel or
// e2fsck: the log is emptied only once the blocks are safe.
func (j *Journal) Replay() (n int, err error) {
	return j.ReplayThen(func() error { return nil })
}

// ReplayThen is Replay that calls settle once all blocks are written, also with an
// empty log. What settle writes to the Device is durable before the log is empty. Its
// error leaves the log as it is.
func (j *Journal) ReplayThen(settle func() error) (n int, err error) {
	if !j.Dirty() {
		return 0, settle()
	}
	o, err := j.Scan()
	if err != nil {
		return 0, err
	}
	if err := o.writeBack(); err != nil {
		return 0, err
	}
	if err := settle(); err != nil {
		return 0, err
	}
	if err := j.dev.Sync(); err != nil {
		return 0, err
	}
	// One number is left out, as the kernel and e2fsck do: blocks of a transaction
	// that was not committed may carry it.
	if err := j.empty(after(o.end, 1)); err != nil {
		return 0, err
	}
	return o.Len(), nil
}

// writeBack writes all blocks to their places, in ascending order.
func (o *Overlay) writeBack() error {
	size := o.j.c.BlockSize
	buf := make([]byte, 0, max(replayChunk, size))
	for i, e := range o.entries {
		buf = buf[:len(buf)+size]
		if err := o.read(e, buf[len(buf)-size:]); err != nil {
			return err
		}
		if i+1 < len(o.entries) && o.entries[i+1].block == e.block+1 && len(buf)+size <= cap(buf) {
			continue
		}
		first := e.block + 1 - uint64(len(buf)/size)
		if err := o.j.dev.WriteBlocks(first, buf); err != nil {
			return err
		}
		buf = buf[:0]
	}
	return nil
}

// empty marks the log as empty and makes that durable. If that fails, the log on the
// disk may be either: it counts as not empty, and replaying it again does no harm.
func (j *Journal) empty(sequence uint32) error {
	start, old := j.start(), j.Sequence()
	j.setLog(0, sequence)
	err := j.writeSuper()
	if err == nil {
		err = j.dev.Sync()
	}
	if err != nil {
		be.PutUint32(j.sb[sStart:], start)
		be.PutUint32(j.sb[sSequence:], old)
		return err
	}
	j.logged = false
	return nil
}
