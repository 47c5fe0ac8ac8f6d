package unpack

import (
	"errors"
	"io"
)

// tarBlock is the unit of tar, in bytes; two blocks of zeros end an archive.
const tarBlock = 512

// Terminate returns r with the end of a tar archive behind it: zeros up to the end of a
// block, and two blocks more. Where there is an end already, this adds nothing to it.
//
// Layers of umoci insert (0.4.7) and of others who forget to close their writer have
// none, and the tools in Go, which most are, take that. Use it on what is
// verified: elsewhere an end that is missing says that the rest is, too.
func Terminate(r io.Reader) io.Reader { return &terminated{r: r} }

type terminated struct {
	r    io.Reader
	n    int64 // bytes of r
	left int   // zeros to come, once r has ended
	over bool  // whether it has
}

func (t *terminated) Read(p []byte) (int, error) {
	if !t.over {
		n, err := t.r.Read(p)
		t.n += int64(n)
		if !errors.Is(err, io.EOF) {
			return n, err
		}
		t.over, t.left = true, int(-t.n&(tarBlock-1))+2*tarBlock
		if n > 0 {
			return n, nil
		}
	}
	if t.left == 0 {
		return 0, io.EOF
	}
	n := min(len(p), t.left)
	clear(p[:n])
	t.left -= n
	return n, nil
}
