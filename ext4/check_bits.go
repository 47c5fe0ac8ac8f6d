package ext4

import "math/bits"

// bitset is a set of numbers of blocks. Its pages exist where they are needed, and
// full ones take no room, so that it is bounded by what is in use and not by what an
// image claims to have. The zero value is empty.
type bitset struct {
	pages map[uint64]*bitPage
	// The page that was used last: numbers come in runs.
	last uint64
	page *bitPage
}

const (
	pageBytes = 512
	pageBits  = 8 * pageBytes
)

type bitPage [pageBytes]byte

var fullPage = func() *bitPage {
	p := new(bitPage)
	for i := range p {
		p[i] = 0xff
	}
	return p
}()

// writable returns the page with a number, to be changed.
func (s *bitset) writable(n uint64) *bitPage {
	if s.page != nil && s.last == n {
		return s.page
	}
	if s.pages == nil {
		s.pages = make(map[uint64]*bitPage)
	}
	p := s.pages[n]
	switch p {
	case nil:
		p = new(bitPage)
		s.pages[n] = p
	case fullPage:
		return p // nothing is ever taken out
	}
	s.last, s.page = n, p
	return p
}

// add adds the numbers from start on and calls again, if not nil, for each run of
// those that were in the set.
func (s *bitset) add(start, n uint64, again func(start, n uint64)) {
	var from, to uint64 // the run so far
	seen := func(a, b uint64) {
		if again == nil {
			return
		}
		if to != a {
			if to > from {
				again(from, to-from)
			}
			from = a
		}
		to = b
	}
	for end := start + n; start < end; {
		page, at := start/pageBits, int(start%pageBits)
		k := int(min(end-start, pageBits-uint64(at)))
		switch {
		case k == pageBits && s.pages[page] == nil:
			if s.pages == nil {
				s.pages = make(map[uint64]*bitPage)
			}
			s.pages[page] = fullPage
		default:
			p := s.writable(page)
			if p == fullPage {
				seen(start, start+uint64(k))
				break
			}
			addBits(p, at, k, func(i int) { seen(start+uint64(i-at), start+uint64(i-at)+1) })
		}
		start += uint64(k)
	}
	if to > from {
		again(from, to-from)
	}
}

// addBits sets bits of a page, and calls seen for those that were set.
func addBits(p *bitPage, at, n int, seen func(i int)) {
	for n > 0 {
		i, low := at/8, at%8
		k := min(n, 8-low)
		mask := byte(1<<k-1) << low
		for old := p[i] & mask; old != 0; old &= old - 1 {
			seen(8*i + bits.TrailingZeros8(old))
		}
		p[i] |= mask
		at, n = at+k, n-k
	}
}

// has says whether a number is in the set.
func (s *bitset) has(n uint64) bool {
	p := s.pages[n/pageBits]
	return p != nil && p[n%pageBits/8]>>(n%8)&1 != 0
}

// bitmap fills b with the bits from start on, which is a multiple of eight.
func (s *bitset) bitmap(start uint64, b []byte) {
	for len(b) > 0 {
		p, at := s.pages[start/pageBits], start%pageBits/8
		k := min(len(b), pageBytes-int(at))
		if p == nil {
			clear(b[:k])
		} else {
			copy(b[:k], p[at:])
		}
		b, start = b[k:], start+8*uint64(k)
	}
}
