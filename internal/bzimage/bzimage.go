// Package bzimage unpacks a Linux kernel of x86-64 to the ELF inside it, which a
// VMM can enter directly, and reads what that says of itself.
//
// Words: a bzImage is what a distribution ships, a small real-mode part and a
// compressed payload; the payload is the ELF, vmlinux. A VMM enters the ELF
// through PVH: a note in it names the 32-bit entry point.
//
// Sources: the kernel's Documentation/arch/x86/boot.rst (header),
// Documentation/arch/x86/pvh.rst, init/version.c (banner) and kernel/configs.c
// (configuration), Xen's public/elfnote.h (note).
package bzimage

import (
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/mikelolasagasti/xz"
	"github.com/pierrec/lz4/v4"
)

// MaxELF bounds the ELF, in bytes. Debian's cloud kernel has 57 MB.
const MaxELF = 512 << 20

// File is where the ELF goes; an [os.File] is one.
type File interface {
	io.Writer
	io.ReaderAt
}

// Format is what a kernel came as.
type Format string

// The formats.
const (
	BzImage Format = "bzImage"
	ELF     Format = "ELF"
)

// Extract writes the ELF inside the kernel src, of size bytes, to dst, which must
// be empty, and returns what src was. A src that is an ELF already is copied. The
// ELF is for x86-64 and has a PVH entry, or Extract fails.
func Extract(dst File, src io.ReaderAt, size int64) (Format, error) {
	plain, format, done, err := payload(src, size)
	if err != nil {
		return "", fmt.Errorf("cannot unpack the kernel: %w", err)
	}
	defer done()
	n, err := io.Copy(dst, io.LimitReader(plain, MaxELF+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("cannot unpack the kernel: %w", err)
	case n > MaxELF:
		return "", fmt.Errorf("cannot unpack the kernel: it is larger than %d MiB", MaxELF>>20)
	}
	if err := checkELF(dst, n); err != nil {
		return "", fmt.Errorf("cannot boot the kernel: %w", err)
	}
	return format, nil
}

// Offsets in the boot header.
const (
	offSetupSects    = 0x1f1
	offBootFlag      = 0x1fe
	offMagic         = 0x202
	offVersion       = 0x206
	offPayloadOffset = 0x248
	offPayloadLength = 0x24c
	headerLen        = 0x250
)

// payload returns the ELF as a stream, and what it was in. The caller calls done at
// the end.
func payload(src io.ReaderAt, size int64) (plain io.Reader, format Format, done func(), err error) {
	h := make([]byte, headerLen)
	n, err := src.ReadAt(h[:min(size, headerLen)], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, "", nil, err
	}
	if bytes.HasPrefix(h[:n], []byte(elf.ELFMAG)) {
		return io.NewSectionReader(src, 0, size), ELF, func() {}, nil
	}
	start, length, err := findPayload(h, size)
	if err != nil {
		return nil, "", nil, err
	}
	plain, done, err = decompress(io.NewSectionReader(src, start, length))
	return plain, BzImage, done, err
}

// findPayload returns where the payload of a bzImage of size bytes lies, whose first
// bytes are h.
func findPayload(h []byte, size int64) (start, length int64, err error) {
	le := binary.LittleEndian
	if size < headerLen || le.Uint16(h[offBootFlag:]) != 0xaa55 || string(h[offMagic:offMagic+4]) != "HdrS" {
		return 0, 0, unknown(h)
	}
	// The payload's fields came with version 2.08 of the protocol.
	if v := le.Uint16(h[offVersion:]); v < 0x208 {
		return 0, 0, fmt.Errorf("its boot protocol %d.%02d is too old", v>>8, v&0xff)
	}
	sectors := int64(h[offSetupSects])
	if sectors == 0 {
		sectors = 4
	}
	start = (sectors+1)*512 + int64(le.Uint32(h[offPayloadOffset:]))
	length = int64(le.Uint32(h[offPayloadLength:]))
	if length < 8 || start+length > size {
		return 0, 0, fmt.Errorf("its payload of %d bytes at %d lies outside the file of %d bytes", length, start, size)
	}
	return start, length, nil
}

// unknown says what a file that is no kernel of ours is, as far as it can be told.
// arm64's header: Documentation/arch/arm64/booting.rst.
func unknown(h []byte) error {
	const offArm64Magic = 56
	switch {
	case string(h[offArm64Magic:offArm64Magic+4]) == "ARM\x64":
		return errors.New("it is a kernel for arm64 (an Image), and VMs here are x86-64")
	case bytes.HasPrefix(h, []byte("\x1f\x8b")), bytes.HasPrefix(h, []byte("\x28\xb5\x2f\xfd")), bytes.HasPrefix(h, []byte("\xfd7zXZ\x00")):
		return errors.New("it is neither a bzImage nor an ELF, but a compressed file: decompress it first")
	}
	return errors.New("it is neither a bzImage nor an ELF")
}

// maxWindow bounds the memory of a decoder, in bytes. The kernel's build gives xz 128
// MiB, and zstd as much (scripts/xz_wrap.sh, scripts/Makefile.lib).
const maxWindow = 128 << 20

// decompress undoes the payload's compression. The kernel's build appends the
// plain size as four bytes to all formats but gzip, which ends with it anyway.
// Debian's 6.12 is zstd, its 6.1 lz4.
func decompress(p *io.SectionReader) (plain io.Reader, done func(), err error) {
	none := func() {}
	magic := make([]byte, 6)
	if _, err := p.ReadAt(magic, 0); err != nil {
		return nil, nil, err
	}
	sized := io.NewSectionReader(p, 0, p.Size()-4)
	is := func(s string) bool { return bytes.HasPrefix(magic, []byte(s)) }
	switch {
	case is("\x28\xb5\x2f\xfd"):
		z, err := zstd.NewReader(sized, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, nil, err
		}
		return z, z.Close, nil
	case is("\x02\x21\x4c\x18"):
		_, err := sized.Seek(4, io.SeekStart)
		return &legacyLZ4{r: sized}, none, err
	case is("\xfd7zXZ\x00"):
		z, err := xz.NewReader(sized, maxWindow)
		return z, none, err
	case is("BZh"):
		return bzip2.NewReader(sized), none, nil
	case is(elf.ELFMAG):
		return sized, none, nil
	case is("\x1f\x8b"):
		z, err := gzip.NewReader(p)
		if err == nil {
			z.Multistream(false)
		}
		return z, none, err
	}
	return nil, nil, fmt.Errorf("its payload is compressed in an unknown way (it begins with %x)", magic)
}

// maxLZ4Block is the plain length of a block of the legacy frame, the last one
// excepted (lz4_Frame_format.md, "Legacy frame").
const maxLZ4Block = 8 << 20

// legacyLZ4 reads blocks, each behind its packed length, until r ends.
type legacyLZ4 struct {
	r             io.Reader
	packed, plain []byte
	rest          []byte // of plain, not yet read
}

func (l *legacyLZ4) Read(p []byte) (int, error) {
	for len(l.rest) == 0 {
		if err := l.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

func (l *legacyLZ4) next() error {
	var length [4]byte
	if _, err := io.ReadFull(l.r, length[:]); err != nil {
		return err // io.EOF between two blocks is the end
	}
	n := int(binary.LittleEndian.Uint32(length[:]))
	if n == 0 || n > lz4.CompressBlockBound(maxLZ4Block) {
		return fmt.Errorf("an lz4 block of %d bytes is no good", n)
	}
	if l.plain == nil {
		l.packed, l.plain = make([]byte, lz4.CompressBlockBound(maxLZ4Block)), make([]byte, maxLZ4Block)
	}
	if _, err := io.ReadFull(l.r, l.packed[:n]); err != nil {
		return fmt.Errorf("an lz4 block breaks off: %w", io.ErrUnexpectedEOF)
	}
	n, err := lz4.UncompressBlock(l.packed[:n], l.plain)
	if err != nil {
		return err
	}
	l.rest = l.plain[:n]
	return nil
}
