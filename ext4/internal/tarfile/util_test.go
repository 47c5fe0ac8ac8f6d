package tarfile

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
)

// read is what an archive holds: every member with its stored data.
type read struct {
	Entry
	data []byte
}

// readAll reads an archive to its end or to its first error.
func readAll(src io.Reader, bufSize int) ([]read, error) {
	r := newReader(src, bufSize)
	defer r.Close()
	var all []read
	for {
		e, err := r.Next()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		one := read{Entry: *e}
		// These are the reader's memory.
		one.Xattrs, one.Sparse = nil, nil
		for _, x := range e.Xattrs {
			one.Xattrs = append(one.Xattrs, Xattr{x.Name, bytes.Clone(x.Value)})
		}
		if e.Sparse != nil {
			one.Sparse = append([]Run{}, e.Sparse...)
		}
		for {
			b, err := r.Data(1 << 20)
			if err == io.EOF {
				break
			}
			if err != nil {
				return all, err
			}
			if len(b) == 0 {
				return all, errors.New("Data gave nothing")
			}
			one.data = append(one.data, b...)
		}
		all = append(all, one)
	}
}

// contents spreads the stored data over the file.
func (m *read) contents() []byte {
	if m.Sparse == nil {
		return m.data
	}
	out, data := make([]byte, m.Size), m.data
	for _, run := range m.Sparse {
		copy(out[run.Offset:run.Offset+run.Length], data)
		data = data[run.Length:]
	}
	return out
}

func mustRead(t *testing.T, archive []byte) []read {
	t.Helper()
	all, err := readAll(bytes.NewReader(archive), bufSize)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// mustReadOne is for an archive of one member.
func mustReadOne(t *testing.T, archive []byte) read {
	t.Helper()
	all := mustRead(t, archive)
	if len(all) != 1 {
		t.Fatalf("%d members, want 1", len(all))
	}
	return all[0]
}

func wantErr(t *testing.T, archive []byte, want error, says string) {
	t.Helper()
	_, err := readAll(bytes.NewReader(archive), bufSize)
	if !errors.Is(err, want) || !strings.Contains(fmt.Sprint(err), says) {
		t.Errorf("error %v, want %v that says %q", err, want, says)
	}
}

// raw builds archives by hand, block by block.
type raw struct{ bytes.Buffer }

// rawHeader is a header with the fields of a small regular file.
func rawHeader(flag byte, name string, size int64) *header {
	var h header
	copy(h[:100], name)
	copy(h[100:], "0000644\x000000001\x000000002\x00")
	copy(h[124:], fmt.Sprintf("%011o\x00%011o\x00", size, 1234567890))
	h[156] = flag
	copy(h[257:], "ustar\x0000")
	return &h
}

// gnu gives a header GNU tar's magic.
func (h *header) gnu() *header {
	copy(h[257:265], "ustar  \x00")
	return h
}

// sum sets the checksum.
func (h *header) sum() *header {
	copy(h[148:156], "        ")
	total := 0
	for _, c := range h {
		total += int(c)
	}
	copy(h[148:156], fmt.Sprintf("%06o\x00 ", total))
	return h
}

// add appends a header with its checksum set, and data filled up to a block.
func (w *raw) add(h *header, data string) *raw {
	w.Write(h.sum()[:])
	w.WriteString(data)
	w.Write(make([]byte, -w.Len()&(blockSize-1)))
	return w
}

// pax appends an extended header with pairs of keyword and value.
func (w *raw) pax(flag byte, pairs ...string) *raw {
	payload := paxPayload(pairs...)
	return w.add(rawHeader(flag, "PaxHeaders/x", int64(len(payload))), payload)
}

func paxPayload(pairs ...string) string {
	var b strings.Builder
	for i := 0; i < len(pairs); i += 2 {
		rest := " " + pairs[i] + "=" + pairs[i+1] + "\n"
		n := len(rest) + 1
		for len(fmt.Sprint(n))+len(rest) != n {
			n++
		}
		fmt.Fprintf(&b, "%d%s", n, rest)
	}
	return b.String()
}

// end returns the archive with its end.
func (w *raw) end() []byte {
	return append(bytes.Clone(w.Bytes()), make([]byte, 2*blockSize)...)
}

// base256 writes a number in binary.
func base256(field []byte, n int64) {
	var b [16]byte
	if n < 0 {
		copy(b[:], "\xff\xff\xff\xff\xff\xff\xff\xff")
	}
	binary.BigEndian.PutUint64(b[8:], uint64(n))
	copy(field, b[len(b)-len(field):])
	field[0] |= 0x80
}

// goTar writes headers, each with Size bytes of noise, with archive/tar.
func goTar(t testing.TB, headers ...*tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for i, h := range headers {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write(noise(uint64(i), h.Size)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func noise(seed uint64, n int64) []byte {
	b := make([]byte, n)
	rnd := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	rnd.Read(b)
	return b
}
