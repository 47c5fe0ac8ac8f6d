package bzimage

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"banger/internal/base/testneed"
)

// kernelELF returns a small ELF of size bytes with one note of type kind.
func kernelELF(machine elf.Machine, kind uint32, size int) []byte {
	note := binary.LittleEndian.AppendUint32(nil, 4)
	note = binary.LittleEndian.AppendUint32(note, 8)
	note = binary.LittleEndian.AppendUint32(note, kind)
	note = append(note, "Xen\x00\x00\x00\x00\x01\x00\x00\x00\x00"...)
	// An unrelated note stands before it, as in real kernels.
	note = append([]byte("\x04\x00\x00\x00\x03\x00\x00\x00\x03\x00\x00\x00GNU\x00abc\x00"), note...)
	h := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: 1, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 2}
	copy(h.Ident[:], elf.ELFMAG+string([]byte{byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1}))
	var b bytes.Buffer
	for _, part := range []any{h, elf.Prog64{Type: uint32(elf.PT_LOAD)}, elf.Prog64{Type: uint32(elf.PT_NOTE), Off: 64 + 2*56, Filesz: uint64(len(note))}, note} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			panic(err)
		}
	}
	rest := make([]byte, max(size-b.Len(), 0))
	for i := range rest {
		rest[i] = byte(i * i >> 8)
	}
	return append(b.Bytes(), rest...)
}

// wrap returns a bzImage around a payload.
func wrap(payload []byte) []byte {
	const sectors = 3
	b := make([]byte, (sectors+1)*512+128)
	b[offSetupSects] = sectors
	binary.LittleEndian.PutUint16(b[offBootFlag:], 0xaa55)
	copy(b[offMagic:], "HdrS")
	binary.LittleEndian.PutUint16(b[offVersion:], 0x20f)
	binary.LittleEndian.PutUint32(b[offPayloadOffset:], 128)
	binary.LittleEndian.PutUint32(b[offPayloadLength:], uint32(len(payload)))
	return append(append(b, payload...), "code behind it"...)
}

func sized(packed []byte, n int) []byte { return binary.LittleEndian.AppendUint32(packed, uint32(n)) }

func zstdOf(data []byte) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	return sized(w.EncodeAll(data, nil), len(data))
}

func gzipOf(data []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(data)
	_ = w.Close()
	return b.Bytes()
}

func lz4Of(data []byte) []byte {
	var b bytes.Buffer
	w := lz4.NewWriter(&b)
	if err := w.Apply(lz4.LegacyOption(true)); err != nil {
		panic(err)
	}
	_, _ = w.Write(data)
	_ = w.Close()
	return sized(b.Bytes(), len(data))
}

// xzOf runs xz(1) with the filters of scripts/xz_wrap.sh.
func xzOf(t *testing.T, data []byte) []byte {
	t.Helper()
	return sized(filter(t, testneed.Tool(t, "xz", "xz-utils"), data, "--check=crc32", "--x86", "--lzma2=dict=32MiB"), len(data))
}

func bzip2Of(t *testing.T, data []byte) []byte {
	t.Helper()
	return sized(filter(t, testneed.Tool(t, "bzip2", "bzip2"), data, "-c"), len(data))
}

func filter(t *testing.T, tool string, data []byte, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), tool, args...)
	cmd.Stdin = bytes.NewReader(data)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func extract(t *testing.T, image []byte) ([]byte, error) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "elf"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // a test's
	format, err := Extract(f, bytes.NewReader(image), int64(len(image)))
	if err != nil {
		return nil, err
	}
	if want := map[bool]Format{true: ELF, false: BzImage}[bytes.HasPrefix(image, []byte(elf.ELFMAG))]; format != want {
		t.Errorf("the format is %q, want %q", format, want)
	}
	return io.ReadAll(io.NewSectionReader(f, 0, MaxELF))
}

func TestExtract(t *testing.T) {
	small := kernelELF(elf.EM_X86_64, noteEntry, 10_000)
	large := kernelELF(elf.EM_X86_64, noteEntry, 17<<20) // three blocks of lz4
	for name, test := range map[string]struct{ image, want []byte }{
		"elf":        {small, small},
		"zstd":       {wrap(zstdOf(small)), small},
		"gzip":       {wrap(gzipOf(small)), small},
		"lz4":        {wrap(lz4Of(small)), small},
		"plain":      {wrap(sized(bytes.Clone(small), len(small))), small},
		"xz":         {wrap(xzOf(t, small)), small},
		"bzip2":      {wrap(bzip2Of(t, small)), small},
		"larger xz":  {wrap(xzOf(t, large[:3<<20])), large[:3<<20]},
		"large lz4":  {wrap(lz4Of(large)), large},
		"large zstd": {wrap(zstdOf(large)), large},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := extract(t, test.image)
			if err != nil || !bytes.Equal(got, test.want) {
				t.Errorf("got %d bytes, %v; want %d", len(got), err, len(test.want))
			}
		})
	}
}

func TestExtractRefuses(t *testing.T) {
	good := wrap(zstdOf(kernelELF(elf.EM_X86_64, noteEntry, 10_000)))
	change := func(off int, with string) []byte {
		b := bytes.Clone(good)
		copy(b[off:], with)
		return b
	}
	for name, test := range map[string]struct {
		image []byte
		want  string
	}{
		"empty":         {nil, "neither a bzImage nor an ELF"},
		"text":          {bytes.Repeat([]byte("text"), 1000), "neither a bzImage nor an ELF"},
		"old protocol":  {change(offVersion, "\x07\x02"), "boot protocol 2.07 is too old"},
		"long payload":  {change(offPayloadLength, "\xff\xff\xff\xff"), "lies outside the file"},
		"far payload":   {change(offPayloadOffset, "\xff\xff\xff\xff"), "lies outside the file"},
		"short payload": {change(offPayloadLength, "\x04\x00\x00\x00"), "lies outside the file"},
		"cut off":       {good[:len(good)-100], "lies outside the file"},
		"unknown":       {wrap([]byte("\x5d\x00\x00\x00\x01\x00\x00\x00\x00")), "compressed in an unknown way"},
		"damaged":       {change(len(good)-60, "################"), "cannot unpack the kernel"},
		"arm64 Image":   {append(append(make([]byte, 56), "ARM\x64"...), make([]byte, 1000)...), "for arm64 (an Image), and VMs here are x86-64"},
		"packed":        {gzipOf(bytes.Repeat([]byte("text, "), 1000)), "decompress it first"},
		"no ELF inside": {wrap(zstdOf(bytes.Repeat([]byte("x"), 100))), "no ELF"},
		"tiny inside":   {wrap(zstdOf([]byte("x"))), "ends before byte 64"},
		"arm":           {wrap(zstdOf(kernelELF(elf.EM_AARCH64, noteEntry, 0))), "not for x86-64, but for EM_AARCH64"},
		"no PVH":        {wrap(zstdOf(kernelELF(elf.EM_X86_64, 17, 0))), "no PVH entry"},
		"bad lz4":       {wrap([]byte("\x02\x21\x4c\x18\xff\xff\xff\x7f\x00\x00\x00\x00")), "an lz4 block of 2147483647 bytes"},
		"cut lz4":       {wrap([]byte("\x02\x21\x4c\x18\x10\x00\x00\x00\x00\x00\x00\x00\x00")), "breaks off"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := extract(t, test.image); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("err = %v, want %q", err, test.want)
			}
		})
	}
}

// memory is a File that takes no more than a fuzzer should produce.
type memory struct{ bytes.Buffer }

func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(m.Bytes()).ReadAt(p, off)
}

func (m *memory) Write(p []byte) (int, error) {
	if m.Len()+len(p) > 64<<20 {
		return 0, io.ErrShortWrite
	}
	return m.Buffer.Write(p)
}

func FuzzExtract(f *testing.F) {
	small := kernelELF(elf.EM_X86_64, noteEntry, 400)
	for _, seed := range [][]byte{small, wrap(zstdOf(small)), wrap(gzipOf(small)), wrap(lz4Of(small)), nil} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, image []byte) {
		var out memory
		if _, err := Extract(&out, bytes.NewReader(image), int64(len(image))); err == nil && !bytes.HasPrefix(out.Bytes(), []byte(elf.ELFMAG)) {
			t.Error("took what is no ELF")
		}
	})
}
