package images

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os/exec"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"banger/internal/base/errs"
)

// maxWindow bounds a decompressor's memory for what it may refer back to: the most
// that zstd --long and xz -9 need without being told more.
const maxWindow = 128 << 20

// unpack copies r to w, decompressed according to its first bytes (RFC 1952, RFC
// 8878, the .xz file format).
func unpack(ctx context.Context, w io.Writer, r io.Reader) error {
	src := &source{r: r}
	in := bufio.NewReader(src)
	head, err := in.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	out := &sink{w: w}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		err = gunzip(out, in)
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		err = unzstd(out, in)
	case bytes.HasPrefix(head, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		err = unxz(ctx, out, in)
	default:
		_, err = io.Copy(out, in)
	}
	switch {
	case err == nil:
		return nil
	case out.err != nil:
		return out.err
	case src.err != nil:
		return src.err
	case errs.KindOf(err) != errs.Internal:
		return err
	}
	return errs.New(errs.Invalid, "cannot decompress the archive: %w", err)
}

func gunzip(w io.Writer, r io.Reader) error {
	z, err := gzip.NewReader(r)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, z)
	return errors.Join(err, z.Close())
}

func unzstd(w io.Writer, r io.Reader) error {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return err
	}
	defer z.Close()
	_, err = io.Copy(w, z)
	return err
}

// unxz runs xz(1), whose memory can be bounded. It ends with its input, and so
// with us.
func unxz(ctx context.Context, w io.Writer, r io.Reader) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	cmd := exec.CommandContext(ctx, "xz", "--decompress", "--stdout", "--memlimit-decompress=160MiB") // the window, and xz's own needs
	var said bytes.Buffer
	cmd.Stdin, cmd.Stderr = r, &said
	cmd.Env = []string{"LC_ALL=C"}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return errs.New(errs.Unavailable, "cannot decompress the archive: %w", err).WithHint("apt-get install xz-utils")
	}
	_, err = io.Copy(w, out)
	if err != nil {
		stop()
	}
	if waitErr := cmd.Wait(); waitErr != nil && err == nil {
		err = errors.New(string(bytes.TrimSpace(said.Bytes())))
	}
	return err
}

// source remembers how its reader failed, which a decompressor may hide.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// sink remembers how its writer failed.
type sink struct {
	w   io.Writer
	err error
}

func (s *sink) Write(b []byte) (int, error) {
	n, err := s.w.Write(b)
	if err != nil {
		s.err = err
	}
	return n, err
}
