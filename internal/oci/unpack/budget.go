package unpack

import (
	"io"
	"sync/atomic"

	"banger/internal/base/errs"
	"banger/internal/vm"
)

// Budget bounds how many bytes the streams of one image have together when they are
// decompressed: floor bytes, or factor times what has been read of the compressed ones,
// whichever is more. What an image says of its size does not count, only what has come
// of it: who wants to fill a disk has to send a part of it. The streams of a Budget may
// be read at the same time.
type Budget struct {
	floor, factor int64
	in, out       atomic.Int64 // bytes
}

// NewBudget returns a budget from which nothing has been taken.
func NewBudget(floor, factor int64) *Budget { return &Budget{floor: floor, factor: factor} }

// Earn returns r, of which each byte that is read gives factor bytes to spend.
func (b *Budget) Earn(r io.Reader) io.Reader { return earning{b, r} }

// Spend returns r, whose bytes are taken from the budget as they are read. Once there is
// no more, errs.Invalid comes in place of what is too much, on all streams.
func (b *Budget) Spend(r io.Reader) io.Reader { return spending{b, r} }

type earning struct {
	b *Budget
	r io.Reader
}

func (e earning) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	e.b.in.Add(int64(n))
	return n, err
}

type spending struct {
	b *Budget
	r io.Reader
}

func (s spending) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	// What a decompressor gives is made of bytes that have been counted before.
	if out := s.b.out.Add(int64(n)); out > max(s.b.floor, s.b.factor*s.b.in.Load()) {
		return 0, errs.New(errs.Invalid, "the image unpacks to more than %s, and to more than %d times what has come of it, which is the bound for an image",
			vm.Size(s.b.floor), s.b.factor)
	}
	return n, err
}
