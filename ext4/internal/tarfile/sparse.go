package tarfile

import (
	"bytes"
	"fmt"
	"math"
)

// sparseRecords is what the records GNU.sparse.* of a member say (GNU tar's
// manual, "Storing Sparse Files"). There are three versions:
//
//	0.0: size, numblocks, and a pair of offset and numbytes for each region
//	0.1: size, numblocks, name, and all the pairs in map, with commas between
//	1.0: realsize, name, and the map in front of the data
//
// name is the file's real name in those where the header's is a made-up one.
// Only 1.0 says its version.
type sparseRecords struct {
	name         string
	major, minor optionalInt
	size         optionalInt // versions 0.0 and 0.1
	realSize     optionalInt // version 1.0
	count        optionalInt
	pairs        []Run // of version 0.0
	half         bool  // the last pair has no numbytes yet
	mapped       []Run // of version 0.1
}

// optionalInt is a number from 0 up, where a record gave one.
type optionalInt struct {
	n   int64
	set bool
}

// cleared returns no records, in the memory of s.
func (s *sparseRecords) cleared() sparseRecords {
	return sparseRecords{pairs: s.pairs[:0], mapped: s.mapped[:0]}
}

// record adds the record GNU.sparse.key.
func (s *sparseRecords) record(key, value []byte) (err error) {
	var number *optionalInt
	switch string(key) {
	case "name":
		s.name, err = pathString(value)
		return err
	case "map":
		s.mapped, err = parseMap(s.mapped[:0], value)
		return err
	case "offset":
		n, err := parseDecimal(value)
		if err != nil {
			return err
		}
		if s.half {
			return fmt.Errorf("an offset without its numbytes is before it")
		}
		s.pairs, s.half = append(s.pairs, Run{Offset: n}), true
		return nil
	case "numbytes":
		n, err := parseDecimal(value)
		if err != nil {
			return err
		}
		if !s.half {
			return fmt.Errorf("no offset is before it")
		}
		s.pairs[len(s.pairs)-1].Length, s.half = n, false
		return nil
	case "major":
		number = &s.major
	case "minor":
		number = &s.minor
	case "size":
		number = &s.size
	case "realsize":
		number = &s.realSize
	case "numblocks":
		number = &s.count
	default:
		return nil
	}
	number.set = len(value) > 0
	number.n, err = optional(value, 0, math.MaxInt64)
	return err
}

// parseMap reads "offset,length,offset,length...".
func parseMap(runs []Run, b []byte) ([]Run, error) {
	for len(b) > 0 {
		var pair [2]int64
		for i := range pair {
			field, rest, _ := bytes.Cut(b, []byte(","))
			n, err := parseDecimal(field)
			if err != nil {
				return runs, err
			}
			pair[i], b = n, rest
		}
		runs = append(runs, Run{pair[0], pair[1]})
	}
	return runs, nil
}

// sparseFile does what the records GNU.sparse.* of a regular file want: it sets
// Sparse, Size and Name, and consumes the map of version 1.0. GNU tar and
// archive/tar agree that records without a version and without a map mean
// nothing.
func (r *Reader) sparseFile(e *Entry) error {
	s := &r.local.sparse
	runs := s.mapped
	if len(s.pairs) > 0 {
		runs = s.pairs
	}
	inData := false
	switch {
	case s.major.set || s.minor.set:
		inData = s.major.n == 1
		if !s.major.set || !s.minor.set || s.major.n > 1 || s.minor.n > 1 || inData && s.minor.n != 0 {
			return r.bad("sparse format %d.%d is not known", s.major.n, s.minor.n)
		}
	case len(runs) == 0 && !s.half:
		return nil
	}
	if e.Type != TypeReg {
		return r.bad("%.100q of type %q has a sparse map", e.Name, e.Type)
	}
	if s.name != "" {
		e.Name = s.name
	}
	switch {
	case s.size.set:
		e.Size = s.size.n
	case s.realSize.set:
		e.Size = s.realSize.n
	default:
		return r.bad("a sparse file has no record of its size")
	}
	switch {
	case inData:
		var err error
		if runs, err = r.mapInData(r.runs[:0]); err != nil {
			return err
		}
		r.runs = runs
	case s.half:
		return r.bad("the sparse map's last offset has no numbytes")
	case !s.count.set || s.count.n != int64(len(runs)):
		return r.bad("the sparse map has %d regions, its header says %d", len(runs), s.count.n)
	}
	return r.setSparse(e, runs)
}

// mapInData consumes the map of version 1.0: decimal numbers that each end in a
// newline, first how many regions, then offset and length of each, filled up to
// a block's end.
func (r *Reader) mapInData(runs []Run) ([]Run, error) {
	want := int64(1) // how many numbers are to come
	counted := false
	var offset, n int64
	digits := 0
	for want > 0 {
		if r.remaining < blockSize {
			return runs, r.bad("the sparse map does not end within the member's data")
		}
		b, err := r.src.block()
		if err != nil {
			return runs, r.cut(err)
		}
		r.remaining -= blockSize
		for _, c := range b {
			if c != '\n' {
				d := int64(c) - '0'
				if d < 0 || d > 9 {
					return runs, r.bad("the sparse map: %w", errNumber)
				}
				if n > (math.MaxInt64-d)/10 {
					return runs, r.bad("the sparse map: %w", errRange)
				}
				n = 10*n + d
				digits++
				continue
			}
			if digits == 0 {
				return runs, r.bad("the sparse map: %w", errNumber)
			}
			want--
			switch {
			case !counted:
				if n > maxRuns {
					return runs, r.bad("the sparse map has %d regions, above the limit of %d", n, maxRuns)
				}
				counted, want = true, 2*n
			case want%2 == 1:
				offset = n
			default:
				runs = append(runs, Run{offset, n})
			}
			n, digits = 0, 0
			if want == 0 {
				break // the rest of the block fills it up
			}
		}
	}
	return runs, nil
}

// oldSparse is an old GNU sparse file, type flag 'S': its header, and blocks
// behind that which do not count in its size, have 24 bytes for each region. The
// header must be the current block; it is gone afterwards.
func (r *Reader) oldSparse(e *Entry, h *header) error {
	if h.format() != formatGNU {
		// star uses the letter too, with another layout.
		return r.bad("a sparse file of type 'S' has no GNU header")
	}
	size, err := parseNumber(h[483:495])
	if err != nil || size < 0 {
		return r.bad("the size of a sparse file: %w", errRange)
	}
	e.Size = size
	runs, err := appendRegions(r.runs[:0], h[386:482])
	more := h[482] != 0
	for err == nil && more {
		var b *[blockSize]byte
		if b, err = r.src.block(); err != nil {
			return r.cut(err)
		}
		runs, err = appendRegions(runs, b[:504])
		more = b[504] != 0
	}
	r.runs = runs
	if err != nil {
		return r.bad("the sparse map: %w", err)
	}
	return r.setSparse(e, runs)
}

// appendRegions reads regions of 12 bytes of offset and 12 of length, up to the
// first that is not used.
func appendRegions(runs []Run, b []byte) ([]Run, error) {
	for ; len(b) > 0 && b[0] != 0; b = b[24:] {
		offset, err := parseNumber(b[:12])
		if err != nil {
			return runs, err
		}
		length, err := parseNumber(b[12:24])
		if err != nil {
			return runs, err
		}
		if len(runs) == maxRuns {
			return runs, fmt.Errorf("more than %d regions", maxRuns)
		}
		runs = append(runs, Run{offset, length})
	}
	return runs, nil
}

// setSparse checks a map against the file's size and the stored data, drops its
// empty regions, with which GNU tar marks the file's end, and joins neighbours.
func (r *Reader) setSparse(e *Entry, runs []Run) error {
	out := runs[:0]
	var end, stored int64
	for _, run := range runs {
		switch {
		case run.Offset < 0 || run.Length < 0 || run.Offset > e.Size || run.Length > e.Size-run.Offset:
			return r.bad("the sparse map has %d bytes at %d of a file of %d", run.Length, run.Offset, e.Size)
		case run.Offset < end:
			return r.bad("the sparse map has bytes at %d before the end of the region in front of it, %d", run.Offset, end)
		}
		switch {
		case run.Length == 0:
		case len(out) > 0 && run.Offset == end && out[len(out)-1].Offset+out[len(out)-1].Length == end:
			out[len(out)-1].Length += run.Length
		default:
			out = append(out, run)
		}
		end = run.Offset + run.Length
		stored += run.Length
	}
	if stored != r.remaining {
		return r.bad("the sparse map has %d bytes of data, the member %d", stored, r.remaining)
	}
	if out == nil {
		out = []Run{} // nil would mean that the file is not sparse
	}
	e.Sparse = out
	return nil
}
