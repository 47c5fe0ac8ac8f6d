package ext4

import "io"

const (
	// stageSize is how much is gathered for one write.
	stageSize = 1 << 20
	// bigWrite is from which size on data is written as it comes: there a copy costs
	// more than a system call.
	bigWrite = 128 << 10
)

// stage gathers small writes whose places follow one another into large ones. In a
// gap of less than a block it writes zeros: that is the unused end of a file's last
// block. Everything is written by the time flush returns.
type stage struct {
	f   io.WriterAt
	buf []byte
	off int64 // where buf goes
}

func (s *stage) write(off int64, b []byte) error {
	if s.buf == nil {
		s.buf = make([]byte, 0, stageSize)
	}
	end := s.off + int64(len(s.buf))
	if gap := off - end; gap < 0 || gap >= blockSize || len(s.buf) == 0 || len(s.buf)+int(gap) > stageSize || len(b) >= bigWrite {
		if err := s.flush(); err != nil {
			return err
		}
		s.off = off
	} else if gap > 0 {
		n := len(s.buf)
		s.buf = s.buf[:n+int(gap)]
		clear(s.buf[n:])
	}
	if len(b) >= bigWrite {
		_, err := s.f.WriteAt(b, off)
		s.off = off + int64(len(b))
		return err
	}
	for len(b) > 0 {
		n := copy(s.buf[len(s.buf):stageSize], b)
		s.buf, b = s.buf[:len(s.buf)+n], b[n:]
		if len(s.buf) == stageSize {
			if err := s.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *stage) flush() error {
	if len(s.buf) == 0 {
		return nil
	}
	_, err := s.f.WriteAt(s.buf, s.off)
	s.off += int64(len(s.buf))
	s.buf = s.buf[:0]
	return err
}
