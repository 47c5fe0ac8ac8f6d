// Package unpack undoes the compression of layers and archives, and judges what comes
// out of it.
//
// What is compressed is told by its first bytes and not by anybody's word. Memory is
// bounded whatever the input says, and decompression runs beside whoever reads.
package unpack

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/mikelolasagasti/xz"

	"banger/internal/base/errs"
)

// Format is a way to compress.
type Format string

// The formats: RFC 1952, RFC 8878, and the .xz file format.
const (
	Plain Format = "plain"
	Gzip  Format = "gzip"
	Zstd  Format = "zstd"
	Xz    Format = "xz"
)

// HeadLen is how many of the first bytes [Detect] needs.
const HeadLen = 6

// maxWindow bounds a decompressor's memory for what it may refer back to, in bytes: the
// most that zstd --long and xz -9 need without being told more.
const maxWindow = 128 << 20

// Detect returns the format of a stream that begins with head; fewer than [HeadLen]
// bytes are all of it.
func Detect(head []byte) Format {
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return Gzip
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}),
		// A skippable frame, with which pzstd begins (RFC 8878 section 3.1.2).
		len(head) >= 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:4], []byte{0x2a, 0x4d, 0x18}):
		return Zstd
	case bytes.HasPrefix(head, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		return Xz
	}
	return Plain
}

// Decompress returns what r is when decompressed, or r itself if it is not
// compressed; it reads the first bytes at once. Several gzip members, zstd frames or xz
// streams in a row are one stream. Nothing else may follow, as Docker has it: it would
// mean that something is wrong with the file. An empty r is an empty stream.
//
// If limit is positive, a stream of more bytes is an error in place of what is too
// much. Bad input is errs.Invalid; errors of r come as they are.
//
// The caller closes the stream, which ends the decompression and waits for the Read
// of r that is under way, if there is one; r's owner must end it, also when ctx ends.
// Nothing reads r after that. The stream is for one goroutine.
func Decompress(ctx context.Context, r io.Reader, limit int64) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancel(ctx)
	src := &source{ctx: ctx, r: r}
	in := bufio.NewReaderSize(src, bufferSize)
	head, err := in.Peek(HeadLen)
	if err != nil && !errors.Is(err, io.EOF) {
		defer cancel()
		return nil, src.judge(err)
	}
	var open func() (io.ReadCloser, error)
	switch Detect(head) {
	case Gzip:
		open = func() (io.ReadCloser, error) { return newGzip(in) }
	case Zstd:
		open = func() (io.ReadCloser, error) {
			z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
			if err != nil {
				return nil, err
			}
			return z.IOReadCloser(), nil
		}
	case Xz:
		open = func() (io.ReadCloser, error) {
			x, err := xz.NewReader(in, maxWindow)
			return io.NopCloser(x), err
		}
	default:
		return &bounded{r: in, src: src, cancel: cancel, left: limit, limit: limit}, nil
	}
	return readAhead(src, cancel, open, limit), nil
}

// source is a reader that ends with a context and remembers how it failed, which a
// decompressor may hide.
type source struct {
	ctx context.Context //nolint:containedctx // it ends with the stream
	r   io.Reader
	err error
}

func (s *source) Read(b []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		s.err = err
		return 0, err
	}
	n, err := s.r.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// judge returns err with its kind: what the source said, or that the input is bad.
func (s *source) judge(err error) error {
	switch {
	case err == nil || errors.Is(err, io.EOF):
		return err
	case s.err != nil:
		return s.err
	case s.ctx.Err() != nil:
		return s.ctx.Err()
	case errs.KindOf(err) != errs.Internal:
		return err
	}
	return errs.New(errs.Invalid, "cannot decompress it: %w", err)
}

// tooLarge is the error of a stream that is longer than its limit.
func tooLarge(limit int64) error {
	return errs.New(errs.Invalid, "it has more than %d bytes when decompressed, which is the limit", limit)
}

// bounded is a plain stream.
type bounded struct {
	r           io.Reader
	src         *source
	cancel      context.CancelFunc
	left, limit int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.limit <= 0 {
		n, err := b.r.Read(p)
		return n, b.src.judge(err)
	}
	if b.left < 0 {
		return 0, tooLarge(b.limit)
	}
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return n - 1, tooLarge(b.limit)
	}
	return n, b.src.judge(err)
}

func (b *bounded) Close() error {
	b.cancel()
	return nil
}

// gunzip names the error of what follows a member.
type gunzip struct{ *gzip.Reader }

func newGzip(r io.Reader) (io.ReadCloser, error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, err
	}
	return gunzip{z}, nil
}

func (g gunzip) Read(p []byte) (int, error) {
	n, err := g.Reader.Read(p)
	if errors.Is(err, gzip.ErrHeader) { // the first one was good
		err = errors.New("gzip: what follows its end is not gzip")
	}
	return n, err
}
