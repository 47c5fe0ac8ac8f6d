package jbd2

// readAhead is how much of the log is read at once, in bytes.
const readAhead = 128 << 10

// reader reads blocks of the journal, mostly one after the other.
type reader struct {
	j     *Journal
	buf   []byte
	first uint32 // buf begins with this block
	n     uint32 // blocks in buf
}

// block returns block i of the journal, valid until the next call.
func (r *reader) block(i uint32) ([]byte, error) {
	size := r.j.c.BlockSize
	if i < r.first || i-r.first >= r.n {
		if err := r.fill(i); err != nil {
			return nil, err
		}
	}
	off := int(i-r.first) * size
	return r.buf[off : off+size : off+size], nil
}

// fill reads block i and those after it that lie next to it on the device.
func (r *reader) fill(i uint32) error {
	j, size := r.j, r.j.c.BlockSize
	if r.buf == nil {
		r.buf = make([]byte, max(readAhead, size))
	}
	r.n = 0
	at, err := j.place(i)
	if err != nil {
		return err
	}
	end := max(j.last, i+1)
	n := uint32(1)
	for ; i+n < end && int(n+1)*size <= len(r.buf); n++ {
		// That a later block cannot be had matters only once it is asked for.
		if next, err := j.place(i + n); err != nil || next != at+uint64(n) {
			break
		}
	}
	if n > 1 && j.dev.ReadBlocks(at, r.buf[:int(n)*size]) == nil {
		r.first, r.n = i, n
		return nil
	}
	if err := j.dev.ReadBlocks(at, r.buf[:size]); err != nil {
		return err
	}
	r.first, r.n = i, 1
	return nil
}
