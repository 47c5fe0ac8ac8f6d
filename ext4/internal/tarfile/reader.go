package tarfile

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Reader reads an archive from a stream. It is for one goroutine at a time.
type Reader struct {
	src *source
	err error // what every call returns from now on
	at  int64 // offset of the last header

	remaining int64 // stored bytes of the entry that Data has not given yet
	padding   int64 // bytes behind them, up to a block's end

	entry         Entry
	local, global records
	// longName and longLink are of GNU tar's headers 'L' and 'K'.
	longName, longLink string

	// Memory that entries share.
	known  internedNames
	values arena
	xattrs []Xattr
	runs   []Run
}

// NewReader reads r from a goroutine that runs ahead of the parser by up to 4 MiB
// and ends with r's first error, io.EOF included, or with Close. Whoever calls
// NewReader must call Close. Besides the 4 MiB, a Reader needs memory for the
// header data of one member: usually some KiB, at most about 10 MiB for pax records
// and 40 MiB for the largest sparse map.
func NewReader(r io.Reader) *Reader { return newReader(r, bufSize) }

func newReader(r io.Reader, bufSize int) *Reader {
	return &Reader{src: newSource(r, bufSize)}
}

// Close stops the goroutine and waits for it, so also for a Read of the source
// that is under way: with a source that may block for ever, such as a pipe or a
// connection, close that first. It does not close the source. Pieces that Data
// gave are the caller's no longer. Further calls do nothing.
func (r *Reader) Close() {
	if r.err != ErrClosed {
		r.err = ErrClosed
		r.src.stop()
	}
}

// Next skips what is left of the entry and returns the next one. At the end of
// the archive it reads the stream to its end and returns io.EOF. Any other error
// is either the source's own, as it is, or wraps ErrFormat, ErrTruncated or
// ErrTrailing and says at which byte of the stream, counted from 0; after it
// there is no more to read, and every call returns it again.
func (r *Reader) Next() (*Entry, error) {
	if r.err != nil {
		return nil, r.err
	}
	if err := r.next(); err != nil {
		r.err = err
		r.remaining = 0
		return nil, err
	}
	return &r.entry, nil
}

// Data returns the next piece of the entry's stored data, straight out of the read
// buffer, which the caller may write to: between 1 and max bytes, valid until the
// next call of any method. At the end of the data it returns io.EOF. Of a sparse
// file it gives the data of the regions in Entry.Sparse, one after the other
// without the holes. max must be at least 1. Errors are those of Next.
func (r *Reader) Data(max int) ([]byte, error) {
	if r.err != nil {
		return nil, r.err
	}
	if r.remaining == 0 {
		return nil, io.EOF
	}
	if max < 1 {
		return nil, fmt.Errorf("tarfile: data in pieces of up to %d bytes was asked for", max)
	}
	b, err := r.src.next(min(int64(max), r.remaining))
	if err != nil {
		r.err = r.cut(err)
		return nil, r.err
	}
	r.remaining -= int64(len(b))
	return b, nil
}

// next reads headers up to that of a member.
func (r *Reader) next() error {
	if err := r.src.skip(r.remaining); err != nil {
		return r.cut(err)
	}
	if err := r.src.skip(r.padding); err != nil {
		return r.cut(err)
	}
	r.remaining, r.padding = 0, 0
	r.local.reset()
	r.longName, r.longLink = "", ""
	for announced := false; ; {
		r.at = r.src.off
		b, err := r.src.block()
		if err != nil {
			return r.cut(err)
		}
		h := (*header)(b)
		switch h.check() {
		case isBad:
			return r.bad("a header's checksum does not match")
		case isZero:
			if announced {
				return r.bad("the archive ends behind an extended header, without its member")
			}
			return r.end()
		}
		switch flag := h.typeflag(); flag {
		case 'x', 'X', 'g', 'L', 'K':
			if err := r.extended(flag, h); err != nil {
				return err
			}
			announced = announced || flag != 'g'
		default:
			return r.member(flag, h)
		}
	}
}

// extended reads a header that says something about members behind it: of pax 'x'
// (Solaris: 'X') and global 'g', of GNU tar 'L' and 'K'. A second header of one
// type for one member replaces the first. The header must be the current block.
func (r *Reader) extended(flag byte, h *header) error {
	size, err := h.size()
	if err != nil {
		return r.bad("the size of an extended header %q: %w", flag, err)
	}
	if size > maxPayload {
		return r.bad("an extended header %q of %d bytes, above the limit of %d", flag, size, maxPayload)
	}
	start := r.src.off
	b, err := r.src.payload(int(size))
	if err != nil {
		return r.cut(err)
	}
	switch flag {
	case 'L':
		r.longName = string(cString(b))
	case 'K':
		r.longLink = string(cString(b))
	case 'g':
		// The member's own records may be here already, so those go elsewhere.
		var global records
		var values arena
		offset, err := global.parse(b, &r.known, &values)
		if err == nil {
			err = r.global.override(&global)
		}
		if err != nil {
			return badAt(start+int64(offset), err)
		}
	default:
		r.local.reset()
		r.values.reserve(len(b))
		if offset, err := r.local.parse(b, &r.known, &r.values); err != nil {
			return badAt(start+int64(offset), err)
		}
	}
	if err := r.src.skip(-size & (blockSize - 1)); err != nil {
		return r.cut(err)
	}
	return nil
}

// record returns the records that have a field, the member's own before global
// ones, or nil: the header's field counts.
func (r *Reader) record(f fields) *records {
	switch {
	case r.local.set&f != 0:
		return &r.local
	case r.local.deleted&f == 0 && r.global.set&f != 0:
		return &r.global
	}
	return nil
}

// end reads what follows the first of the two zero blocks, to the stream's end.
func (r *Reader) end() error {
	r.at = r.src.off
	b, err := r.src.block()
	if err != nil {
		return r.cut(err)
	}
	if nonZero(b[:]) >= 0 {
		return r.bad("one zero block alone is before it; two end an archive")
	}
	for {
		at := r.src.off
		b, err := r.src.next(bufSize)
		if err != nil {
			return err
		}
		if i := nonZero(b); i >= 0 {
			return fmt.Errorf("%w: byte %d", ErrTrailing, at+int64(i))
		}
	}
}

// cut returns the error for a stream that ended where more was to come.
func (r *Reader) cut(err error) error {
	if err == io.EOF {
		return fmt.Errorf("%w: it ends at byte %d", ErrTruncated, r.src.off)
	}
	return err
}

// bad is an error of the last header.
func (r *Reader) bad(format string, args ...any) error {
	return badAt(r.at, fmt.Errorf(format, args...))
}

func badAt(offset int64, err error) error {
	return fmt.Errorf("%w: byte %d: %w", ErrFormat, offset, err)
}

// nonZero returns the index of the first byte that is not 0, or -1.
func nonZero(b []byte) int {
	i := 0
	for ; len(b)-i >= 8 && binary.LittleEndian.Uint64(b[i:]) == 0; i += 8 {
	}
	for ; i < len(b); i++ {
		if b[i] != 0 {
			return i
		}
	}
	return -1
}
