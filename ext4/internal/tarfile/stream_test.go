package tarfile

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// An archive cut anywhere is never silently fine.
func TestTruncated(t *testing.T) {
	t.Parallel()
	archives := map[string][]byte{"sparse 1.0": sparseInData(), "old sparse": oldSparseArchive(30)}
	long := strings.Repeat("long/", 30)
	for _, f := range goFormats {
		archives[f.String()] = goTar(t,
			&tar.Header{Typeflag: tar.TypeDir, Name: "d/", Format: f},
			&tar.Header{Typeflag: tar.TypeReg, Name: long + "f", Size: 600, Format: f},
			&tar.Header{Typeflag: tar.TypeSymlink, Name: "l", Linkname: long[:100], Format: f},
		)
	}
	for name, archive := range archives {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			whole := mustRead(t, archive)
			// The end is two blocks; what archive/tar puts behind it is nothing.
			for n := range len(archive) {
				got, err := readAll(bytes.NewReader(archive[:n]), 4096)
				if !errors.Is(err, ErrTruncated) || !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, ErrFormat) {
					t.Fatalf("%d of %d bytes: %d members, error %v", n, len(archive), len(got), err)
				}
				if len(got) > len(whole) {
					t.Fatalf("%d of %d bytes: %d members", n, len(archive), len(got))
				}
			}
		})
	}
	// The same where Next skips the data.
	archive := goTar(t, &tar.Header{Typeflag: tar.TypeReg, Name: "f", Size: 600})
	for n := 512; n < len(archive); n++ {
		r := newReader(bytes.NewReader(archive[:n]), 4096)
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Next(); !errors.Is(err, ErrTruncated) {
			t.Fatalf("%d of %d bytes: %v", n, len(archive), err)
		}
		r.Close()
	}
	wantErr(t, nil, ErrTruncated, "byte 0")
	wantErr(t, make([]byte, 512), ErrTruncated, "byte 512")
}

func TestEnd(t *testing.T) {
	t.Parallel()
	archive := mixed(t, tar.FormatUSTAR)
	if got := mustRead(t, make([]byte, 1024)); len(got) != 0 {
		t.Errorf("an empty archive has %d members", len(got))
	}
	for _, zeros := range []int{1, 511, 512, 9000, 3 << 20} {
		padded := append(bytes.Clone(archive), make([]byte, zeros)...)
		mustRead(t, padded)
		padded[len(padded)-1] = 1
		wantErr(t, padded, ErrTrailing, "byte ")
	}
	// A whole second archive.
	wantErr(t, append(bytes.Clone(archive), archive...), ErrTrailing, "byte ")

	var w raw
	w.add(rawHeader('0', "a", 0), "")
	w.Write(make([]byte, 512))
	w.add(rawHeader('0', "b", 0), "")
	wantErr(t, w.end(), ErrFormat, "byte 1024: one zero block alone")

	wantErr(t, new(raw).pax('x', "path", "a").end(), ErrFormat, "without its member")
	if got := mustRead(t, new(raw).pax('g', "comment", "a").end()); len(got) != 0 {
		t.Errorf("a global header alone makes %d members", len(got))
	}
	wantErr(t, bytes.Repeat([]byte("not a tar archive"), 100), ErrFormat, "byte 0: a header's checksum")
}

// The source's error comes as it is, behind all that was before it; also if the
// archive has ended by then.
func TestSourceError(t *testing.T) {
	t.Parallel()
	own := errors.New("the source's own")
	archive := mixed(t, tar.FormatPAX)
	for _, n := range []int{0, 100, 512, 513, 3000, len(archive) - 1024, len(archive) - 1, len(archive)} {
		for _, bufSize := range []int{100, bufSize} {
			got, err := readAll(io.MultiReader(bytes.NewReader(archive[:n]), iotest.ErrReader(own)), bufSize)
			if err != own {
				t.Errorf("after %d bytes: %v", n, err)
			}
			if all := mustRead(t, archive); n >= len(archive)-1024 && len(got) != len(all) {
				t.Errorf("after %d bytes: %d members of %d", n, len(got), len(all))
			}
		}
	}
}

// broken breaks the contract of io.Reader.
type broken int

func (n broken) Read([]byte) (int, error) { return int(n), nil }

func TestBrokenSource(t *testing.T) {
	t.Parallel()
	for n, want := range map[broken]string{
		0:           io.ErrNoProgress.Error(),
		-1:          "Read returned -1",
		bufSize + 1: "Read returned 1048577 for a buffer of 1048576",
	} {
		if _, err := readAll(n, bufSize); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d: %v, want %q", n, err, want)
		}
	}
}

// Errors and the end stay.
func TestStaysAtItsEnd(t *testing.T) {
	t.Parallel()
	for _, archive := range [][]byte{make([]byte, 1024), make([]byte, 512), []byte("x")} {
		r := NewReader(bytes.NewReader(archive))
		_, first := r.Next()
		_, second := r.Next()
		_, data := r.Data(1)
		if first == nil || first != second || first != data {
			t.Errorf("%v, then %v, then %v", first, second, data)
		}
		r.Close()
		r.Close()
		if _, err := r.Next(); err != ErrClosed {
			t.Errorf("after Close: %v", err)
		}
		if _, err := r.Data(1); err != ErrClosed {
			t.Errorf("after Close: %v", err)
		}
	}
}

// endless gives full buffers for ever, and says when it has given some.
type endless struct {
	reads, after int
	enough       chan struct{}
}

func (e *endless) Read(b []byte) (int, error) {
	if e.reads++; e.reads == e.after {
		close(e.enough)
	}
	return len(b), nil
}

// Close ends the goroutine wherever it is, also where it waits for a free buffer:
// it does not read the source afterwards, which the race detector would see.
func TestClose(t *testing.T) {
	t.Parallel()
	for after := 1; after <= ringSize; after++ {
		src := &endless{after: after, enough: make(chan struct{})}
		r := newReader(src, 1000)
		<-src.enough
		r.Close()
		src.reads++
	}
}

// gated gives a byte for each that the test sends.
type gated struct {
	entered, leave chan struct{}
	reads          int
}

func (g *gated) Read(b []byte) (int, error) {
	g.reads++
	g.entered <- struct{}{}
	<-g.leave
	return 1, nil
}

// Close waits for one Read, not for a buffer to be full.
func TestCloseWaitsForOneRead(t *testing.T) {
	t.Parallel()
	src := &gated{entered: make(chan struct{}, 10), leave: make(chan struct{})}
	r := NewReader(src)
	closed := make(chan struct{})
	<-src.entered
	go func() { r.Close(); close(closed) }()
	<-r.src.quit
	select {
	case <-closed:
		t.Error("Close did not wait")
	default:
	}
	close(src.leave)
	<-closed
	if src.reads != 1 {
		t.Errorf("%d reads", src.reads)
	}
}

// A member is there as soon as the source has given it: nobody waits for a buffer
// to be full for longer than it takes the source to give a sixteenth of it.
func TestSlowSource(t *testing.T) {
	t.Parallel()
	in, out := io.Pipe()
	r := newReader(in, 4096)
	defer r.Close()
	defer out.Close()
	h := rawHeader('0', "a", 0).sum()
	go out.Write(h[:])
	if e, err := r.Next(); err != nil || e.Name != "a" {
		t.Errorf("%v %v", e, err)
	}
}

func TestDataMax(t *testing.T) {
	t.Parallel()
	r := NewReader(bytes.NewReader(mixed(t, tar.FormatUSTAR)))
	defer r.Close()
	if _, err := r.Data(1); err != io.EOF {
		t.Errorf("before Next: %v", err)
	}
	for e := new(Entry); e.Size == 0; {
		var err error
		if e, err = r.Next(); err != nil {
			t.Fatal(err)
		}
	}
	for _, max := range []int{0, -1} {
		if _, err := r.Data(max); err == nil {
			t.Errorf("Data(%d) is no error", max)
		}
	}
	if b, err := r.Data(1); len(b) != 1 || err != nil {
		t.Errorf("after that: %d bytes, %v", len(b), err)
	}
}
