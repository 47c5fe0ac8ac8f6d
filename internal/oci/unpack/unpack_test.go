package unpack_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"

	"banger/internal/base/errs"
	"banger/internal/base/testneed"
	"banger/internal/oci/unpack"
)

// text returns n bytes that compress as files of an image do, roughly.
func text(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	words := make([][]byte, 4096)
	for i := range words {
		words[i] = make([]byte, 2+r.IntN(14))
		for j := range words[i] {
			words[i][j] = byte(r.IntN(64) + 32)
		}
	}
	var b []byte
	for len(b) < n {
		b = append(b, words[int(r.ExpFloat64()*400)%len(words)]...)
	}
	return b[:n]
}

func packGzip(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := w.Write(b)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func packZstd(t testing.TB, b []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(b, nil)
}

func packXz(t testing.TB, b []byte) []byte {
	t.Helper()
	cmd := exec.Command(testneed.Tool(t, "xz", "xz-utils"), "--stdout", "--compress", "-1")
	cmd.Stdin = bytes.NewReader(b)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// samples are the same bytes in each format; there is more of them than a buffer holds.
var samples = struct {
	once   sync.Once
	plain  []byte
	packed map[string][]byte
}{}

func sample(t testing.TB) (plain []byte, packed map[string][]byte) {
	t.Helper()
	samples.once.Do(func() {
		p := text(270<<10 + 7)
		samples.plain = p
		samples.packed = map[string][]byte{"plain": p, "gzip": packGzip(t, p), "zstd": packZstd(t, p), "xz": packXz(t, p)}
	})
	return samples.plain, samples.packed
}

// read decompresses all of packed.
func read(ctx context.Context, packed io.Reader, limit int64) ([]byte, error) {
	r, err := unpack.Decompress(ctx, packed, limit)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	return b, errors.Join(err, r.Close())
}

func TestDecompress(t *testing.T) {
	plain, sample := sample(t)
	half := len(plain) / 2
	skippable := append([]byte{0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0}, "any"...)
	for name, packed := range map[string][]byte{
		"plain":             plain,
		"gzip":              sample["gzip"],
		"gzip members":      append(packGzip(t, plain[:half]), packGzip(t, plain[half:])...),
		"zstd":              sample["zstd"],
		"zstd frames":       append(packZstd(t, plain[:half]), packZstd(t, plain[half:])...),
		"zstd from pzstd":   append(skippable, sample["zstd"]...),
		"xz":                sample["xz"],
		"xz padded streams": append(append(packXz(t, plain[:half]), 0, 0, 0, 0), packXz(t, plain[half:])...),
	} {
		t.Run(name, func(t *testing.T) {
			for _, r := range []io.Reader{iotest.HalfReader(bytes.NewReader(packed)), iotest.DataErrReader(bytes.NewReader(packed))} {
				got, err := read(t.Context(), r, int64(len(plain)))
				if err != nil || !bytes.Equal(got, plain) {
					t.Fatalf("%d bytes of %d, %v", len(got), len(plain), err)
				}
			}
			// WriteTo after a Read goes on where it was.
			r, err := unpack.Decompress(t.Context(), bytes.NewReader(packed), 0)
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			if _, err := io.CopyN(&out, r, 1000); err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(&out, r); err != nil || !bytes.Equal(out.Bytes(), plain) {
				t.Errorf("copied %d bytes, %v", out.Len(), err)
			}
			if err := errors.Join(r.Close(), r.Close()); err != nil {
				t.Error(err)
			}
		})
	}
	if got, err := read(t.Context(), strings.NewReader(""), 1); err != nil || len(got) > 0 {
		t.Errorf("empty: %q, %v", got, err)
	}
}

func TestLimit(t *testing.T) {
	plain, sample := sample(t)
	limit := int64(len(plain) - 1)
	for name, packed := range sample {
		got, err := read(t.Context(), bytes.NewReader(packed), limit)
		if errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error(), "more than 276486 bytes") {
			t.Errorf("%s: %v", name, err)
		}
		if !bytes.Equal(got, plain[:limit]) {
			t.Errorf("%s: %d bytes before the limit", name, len(got))
		}
	}
}

// A bomb is not decompressed beyond its limit.
func TestBomb(t *testing.T) {
	packed := packZstd(t, make([]byte, 4<<20))
	bomb := &countingReader{r: io.MultiReader(bytes.NewReader(packed), &endless{again: packed})}
	_, err := read(t.Context(), bomb, 10<<20)
	if errs.KindOf(err) != errs.Invalid {
		t.Errorf("got %v", err)
	}
	if n := bomb.n.Load(); n > 2<<20 {
		t.Errorf("%d bytes of it were read", n)
	}
}

// endless repeats a stream.
type endless struct {
	again []byte
	at    int
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.again[e.at:])
	e.at = (e.at + n) % len(e.again)
	return n, nil
}

type countingReader struct {
	r io.Reader
	n atomic.Int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

func TestBadInput(t *testing.T) {
	_, sample := sample(t)
	gz, zs, x := sample["gzip"], sample["zstd"], sample["xz"]
	flip := func(b []byte) []byte {
		b = bytes.Clone(b)
		b[len(b)/2] ^= 0xff
		return b
	}
	for name, c := range map[string]struct {
		packed []byte
		want   string
	}{
		"gzip cut":           {gz[:len(gz)-1], "unexpected EOF"},
		"gzip cut in half":   {gz[:len(gz)/2], "unexpected EOF"},
		"gzip header only":   {gz[:3], "unexpected EOF"},
		"gzip damaged":       {flip(gz), "cannot decompress it"},
		"gzip and rubbish":   {append(bytes.Clone(gz), "rubbish and more rubbish"...), "what follows its end is not gzip"},
		"gzip and zeros":     {append(bytes.Clone(gz), make([]byte, 512)...), "what follows its end is not gzip"},
		"gzip of no member":  {[]byte{0x1f, 0x8b, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0}, "gzip"},
		"zstd cut":           {zs[:len(zs)-1], "unexpected EOF"},
		"zstd damaged":       {flip(zs), "cannot decompress it"},
		"zstd and rubbish":   {append(bytes.Clone(zs), "rubbish and more rubbish"...), "magic"},
		"zstd, a big window": {[]byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x90, 1, 0, 0}, "window"},
		"xz cut":             {x[:len(x)-1], "truncated or corrupt"},
		"xz damaged":         {flip(x), "corrupt"},
		"xz and rubbish":     {append(bytes.Clone(x), "rubbish and more rubbish"...), "not recognized"},
		"xz, a big window":   {bigXz(t), "dictionary size exceeds max"},
	} {
		got, err := read(t.Context(), bytes.NewReader(c.packed), 0)
		if errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

// bigXz returns an xz file that asks for a dictionary of 1.5 GiB (.xz file format
// 1.0.4, sections 3.1 and 5.3.1).
func bigXz(t *testing.T) []byte {
	b := packXz(t, []byte("small"))
	const header = 12 // behind the stream header
	size := (int(b[header]) + 1) * 4
	i := bytes.Index(b[header:header+size], []byte{0x21, 0x01})
	if i < 0 {
		t.Fatal("no LZMA2 filter in the block header")
	}
	b[header+i+2] = 37
	binary.LittleEndian.PutUint32(b[header+size-4:], crc32.ChecksumIEEE(b[header:header+size-4]))
	return b
}

func TestSourceErrorsComeAsTheyAre(t *testing.T) {
	_, sample := sample(t)
	broken := errors.New("the cable is broken")
	for name, packed := range sample {
		for _, n := range []int{0, 3, len(packed) / 2} {
			r := io.MultiReader(bytes.NewReader(packed[:n]), iotest.ErrReader(broken))
			if _, err := read(t.Context(), r, 0); !errors.Is(err, broken) || err.Error() != broken.Error() {
				t.Errorf("%s after %d bytes: %v", name, n, err)
			}
		}
	}
}

func TestCloseWaitsForTheSource(t *testing.T) {
	_, sample := sample(t)
	for name, packed := range sample {
		t.Run(name, func(t *testing.T) {
			src := &countingReader{r: &endless{again: packed}}
			r, err := unpack.Decompress(t.Context(), src, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.CopyN(io.Discard, r, 1000); err != nil {
				t.Fatal(err)
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			before := src.n.Load()
			if n, err := r.Read(make([]byte, 1)); name != "plain" && (n != 0 || err == nil) {
				t.Errorf("a Read after Close: %d, %v", n, err)
			}
			if after := src.n.Load(); name != "plain" && after != before {
				t.Errorf("%d bytes were read after Close", after-before)
			}
		})
	}
}

func TestCancel(t *testing.T) {
	_, sample := sample(t)
	for name, packed := range sample {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			r, err := unpack.Decompress(ctx, &endless{again: packed}, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.CopyN(io.Discard, r, 1000); err != nil {
				t.Fatal(err)
			}
			cancel()
			if _, err := io.Copy(io.Discard, r); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestVerify(t *testing.T) {
	sum := sha256.Sum256([]byte("layer"))
	want := "sha256:" + hex.EncodeToString(sum[:])
	if got, err := io.ReadAll(unpack.Verify(iotest.DataErrReader(strings.NewReader("layer")), want)); string(got) != "layer" || err != nil {
		t.Errorf("good: %q, %v", got, err)
	}
	for _, bad := range []string{"", "laye", "layerr", "Layer"} {
		_, err := io.ReadAll(unpack.Verify(strings.NewReader(bad), want))
		if errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	broken := errors.New("broken")
	if _, err := io.ReadAll(unpack.Verify(io.MultiReader(strings.NewReader("layer"), iotest.ErrReader(broken)), want)); !errors.Is(err, broken) {
		t.Errorf("broken: %v", err)
	}
}

func FuzzDecompress(f *testing.F) {
	plain := text(3000)
	f.Add(plain, 100)
	f.Add(packGzip(f, plain), 4000)
	f.Add(packZstd(f, plain), 2999)
	f.Add(packXz(f, plain), 3000)
	f.Fuzz(func(t *testing.T, packed []byte, limit int) {
		most := int64(min(max(limit, 1), 1<<20))
		got, err := read(t.Context(), bytes.NewReader(packed), most)
		if int64(len(got)) > most {
			t.Errorf("%d bytes with a limit of %d", len(got), most)
		}
		if err != nil && errs.KindOf(err) != errs.Invalid {
			t.Errorf("the error is of no kind: %v", err)
		}
	})
}
