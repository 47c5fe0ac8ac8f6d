package ext4

import (
	"cmp"
	"fmt"
	"slices"
	"syscall"
)

// span is a run of blocks, [start, end).
type span struct{ start, end uint64 }

func (s span) len() uint64 { return s.end - s.start }

// space hands out the blocks of an image that is being built: each once, in
// ascending order, past what is taken by metadata with a place of its own. The zero
// value has no blocks taken and no end.
type space struct {
	next  uint64
	end   uint64 // where the image ends; 0: nowhere
	taken []span // sorted, apart from one another
	skip  int    // the spans of taken that lie before next
	freed []span // given back; used again for metadata only
}

// take hands out up to n blocks in one run, and at least one.
func (s *space) take(n uint64) (span, error) {
	for s.skip < len(s.taken) && s.next >= s.taken[s.skip].start {
		s.next = max(s.next, s.taken[s.skip].end)
		s.skip++
	}
	end := s.next + n
	if s.skip < len(s.taken) {
		end = min(end, s.taken[s.skip].start)
	}
	if s.end != 0 {
		end = min(end, s.end)
	}
	if end <= s.next {
		return span{}, fmt.Errorf("the image is full: %w", syscall.ENOSPC)
	}
	got := span{s.next, end}
	s.next = end
	return got, nil
}

// give takes back a run that was handed out and is not used any more.
func (s *space) give(old span) {
	if n := len(s.freed); n > 0 && s.freed[n-1].end == old.start {
		s.freed[n-1].end = old.end
		return
	}
	s.freed = append(s.freed, old)
}

// takeAll hands out n blocks, in as many runs as it takes: first of those that
// were given back, in runs of at least least blocks. Call settle before.
func (s *space) takeAll(n, least uint64) (runs []span, err error) {
	for i := 0; i < len(s.freed) && n > 0; i++ {
		f := &s.freed[i]
		if got := min(f.len(), n); got >= min(least, n) && got > 0 {
			runs = append(runs, span{f.start, f.start + got})
			f.start += got
			n -= got
		}
	}
	s.freed = slices.DeleteFunc(s.freed, func(f span) bool { return f.len() == 0 })
	for n > 0 {
		got, err := s.take(n)
		if err != nil {
			return nil, err
		}
		runs = append(runs, got)
		n -= got.len()
	}
	return runs, nil
}

// settle sorts and joins what was given back, and takes back the end of what was
// handed out if nothing there is used.
func (s *space) settle() {
	s.freed = joinSpans(s.freed)
	for n := len(s.freed); n > 0 && s.freed[n-1].end == s.next; n-- {
		s.next = s.freed[n-1].start
		s.freed = s.freed[:n-1]
	}
	s.skip = 0
	for s.skip < len(s.taken) && s.taken[s.skip].end <= s.next {
		s.skip++
	}
}

// used lists what is in use, ascending.
func (s *space) used() (list []span) {
	all := append(slices.Clone(s.taken), span{0, s.next})
	all = joinSpans(all)
	freed := s.freed
	for _, u := range all {
		for len(freed) > 0 && freed[0].end <= u.start {
			freed = freed[1:]
		}
		at := u.start
		for _, f := range freed {
			if f.start >= u.end {
				break
			}
			if f.start > at {
				list = append(list, span{at, f.start})
			}
			at = max(at, f.end)
		}
		if at < u.end {
			list = append(list, span{at, u.end})
		}
	}
	return list
}

// joinSpans sorts spans and joins those that touch or overlap.
func joinSpans(all []span) []span {
	slices.SortFunc(all, func(a, b span) int { return cmp.Compare(a.start, b.start) })
	out := all[:0]
	for _, s := range all {
		if s.len() == 0 {
			continue
		}
		if n := len(out); n > 0 && out[n-1].end >= s.start {
			out[n-1].end = max(out[n-1].end, s.end)
			continue
		}
		out = append(out, s)
	}
	return out
}
