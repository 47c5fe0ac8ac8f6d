package tarfile

import (
	"fmt"
	"io"
	"slices"
)

const (
	blockSize = 512
	// bufSize and ringSize bound the read-ahead: one buffer is with the parser,
	// one is being filled, the others even out the pace of the two.
	bufSize  = 1 << 20
	ringSize = 4
	// maxEmptyReads is how many reads in a row may give neither bytes nor an
	// error, as io.Reader permits but discourages.
	maxEmptyReads = 100
)

// chunk is a piece of the stream, and the error that came after it.
type chunk struct {
	b   []byte
	err error
}

// source is a stream that a goroutine reads ahead of its consumer.
//
// A buffer has one owner at a time: the goroutine from free to full, the consumer
// from full to free. The consumer gives a buffer back only when it asks for bytes
// behind it (fill), so what it handed out of that buffer stays untouched until
// then.
type source struct {
	full chan chunk    // filled buffers, in order
	free chan []byte   // buffers to fill
	quit chan struct{} // closed to stop the goroutine
	done chan struct{} // closed by the goroutine as it ends

	buf []byte // the consumer's buffer
	pos int    // what of it is consumed
	off int64  // offset in the stream of buf[pos]
	err error  // what follows buf

	straddle [blockSize]byte // a block that lies in two buffers
	joined   []byte          // a payload that does
}

// newSource starts reading. The caller has to call stop.
func newSource(r io.Reader, size int) *source {
	s := &source{
		full: make(chan chunk, ringSize),
		free: make(chan []byte, ringSize),
		quit: make(chan struct{}),
		done: make(chan struct{}),
	}
	go func() {
		defer close(s.done)
		s.readAhead(r, size)
	}()
	return s
}

// stop ends the goroutine and waits for it, so also for a Read under way.
func (s *source) stop() {
	close(s.quit)
	<-s.done
}

// readAhead fills buffers until the source's first error, which io.EOF is too.
func (s *source) readAhead(r io.Reader, size int) {
	for made := 0; ; {
		var b []byte
		select {
		case b = <-s.free:
		default:
			// Small archives never need the whole ring.
			if made < ringSize {
				b = make([]byte, size)
				made++
				break
			}
			select {
			case b = <-s.free:
			case <-s.quit:
				return
			}
		}
		n, err := s.fillBuffer(r, b)
		select {
		case s.full <- chunk{b[:n], err}: // there is room for every buffer
		case <-s.quit:
			return
		}
		if err != nil {
			return
		}
	}
}

// fillBuffer reads until b is full; if the consumer would otherwise wait, a
// sixteenth of it is enough: a slow source keeps both sides busy, and one that
// gives single bytes does not cost a handover for each.
func (s *source) fillBuffer(r io.Reader, b []byte) (n int, err error) {
	for empty := 0; n < len(b); {
		if n > 0 && n >= len(b)/16 && len(s.full) == 0 {
			return n, nil
		}
		select {
		case <-s.quit:
			return n, ErrClosed
		default:
		}
		m, err := r.Read(b[n:])
		if m < 0 || m > len(b)-n {
			return n, fmt.Errorf("%T: Read returned %d for a buffer of %d bytes", r, m, len(b)-n)
		}
		n += m
		if err != nil {
			return n, err
		}
		if m > 0 {
			empty = 0
		} else if empty++; empty == maxEmptyReads {
			return n, io.ErrNoProgress
		}
	}
	return n, nil
}

// fill makes at least one byte available in buf[pos:]. At the end of the stream
// it returns io.EOF or the source's error, again at every call.
func (s *source) fill() error {
	for s.pos == len(s.buf) {
		if s.err != nil {
			return s.err
		}
		if s.buf != nil {
			s.free <- s.buf[:cap(s.buf)]
		}
		c := <-s.full
		s.buf, s.pos, s.err = c.b, 0, c.err
	}
	return nil
}

// next consumes between 1 and max bytes, as many as lie in one piece. They are
// valid until the next call of any method.
func (s *source) next(max int64) ([]byte, error) {
	if err := s.fill(); err != nil {
		return nil, err
	}
	n := int(min(max, int64(len(s.buf)-s.pos)))
	// The capacity ends with the slice: an append to it must not reach the bytes
	// behind.
	b := s.buf[s.pos : s.pos+n : s.pos+n]
	s.pos += n
	s.off += int64(n)
	return b, nil
}

// skip consumes n bytes. The stream's end before that is io.EOF.
func (s *source) skip(n int64) error {
	for n > 0 {
		b, err := s.next(n)
		if err != nil {
			return err
		}
		n -= int64(len(b))
	}
	return nil
}

// block consumes one block, which is valid until the next call of any method. If
// the stream ends within it, that is io.EOF.
func (s *source) block() (*[blockSize]byte, error) {
	if len(s.buf)-s.pos >= blockSize {
		b := (*[blockSize]byte)(s.buf[s.pos:])
		s.pos += blockSize
		s.off += blockSize
		return b, nil
	}
	if err := s.copyTo(s.straddle[:]); err != nil {
		return nil, err
	}
	return &s.straddle, nil
}

// payload consumes n bytes in one piece, valid until the next call of any method.
// n is at most maxPayload.
func (s *source) payload(n int) ([]byte, error) {
	if len(s.buf)-s.pos >= n {
		if n == 0 {
			return nil, nil
		}
		return s.next(int64(n))
	}
	s.joined = slices.Grow(s.joined[:0], n)[:n]
	return s.joined, s.copyTo(s.joined)
}

func (s *source) copyTo(dst []byte) error {
	for len(dst) > 0 {
		b, err := s.next(int64(len(dst)))
		if err != nil {
			return err
		}
		dst = dst[copy(dst, b):]
	}
	return nil
}
