package tarfile

import (
	"archive/tar"
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// mixed is a small archive with everything that archive/tar writes in a format.
func mixed(t testing.TB, format tar.Format) []byte {
	t.Helper()
	long := strings.Repeat("directory/", 14) + "file" // 144 bytes: a prefix or a long name
	when := time.Unix(1_700_000_000, 0)
	headers := []*tar.Header{
		{Typeflag: tar.TypeDir, Name: "d/", Mode: 0o40755},
		{Typeflag: tar.TypeReg, Name: "d/empty", Mode: 0o644, Uid: 1000, Gid: 1001},
		{Typeflag: tar.TypeReg, Name: "d/f", Mode: 0o4755, Size: 1000},
		{Typeflag: tar.TypeReg, Name: long, Mode: 0o600, Size: 512},
		{Typeflag: tar.TypeLink, Name: "hard", Linkname: "d/f"},
		{Typeflag: tar.TypeSymlink, Name: "soft", Linkname: "../d/f", Mode: 0o777},
		{Typeflag: tar.TypeChar, Name: "null", Devmajor: 1, Devminor: 3},
		{Typeflag: tar.TypeBlock, Name: "sda", Devmajor: 8, Devminor: 1 << 18},
		{Typeflag: tar.TypeFifo, Name: "pipe"},
	}
	for _, h := range headers {
		h.Format, h.ModTime = format, when
	}
	if format != tar.FormatUSTAR {
		deep := strings.Repeat("x/", 500)
		headers = append(headers,
			&tar.Header{Typeflag: tar.TypeReg, Name: deep + "\u00e9", Size: 3, Format: format, ModTime: when},
			&tar.Header{Typeflag: tar.TypeSymlink, Name: deep + "l", Linkname: deep, Format: format, ModTime: when},
			&tar.Header{Typeflag: tar.TypeReg, Name: "big id", Uid: 1<<32 - 1, Gid: 1 << 31, Format: format, ModTime: when},
			&tar.Header{Typeflag: tar.TypeReg, Name: "before 1970", Format: format, ModTime: time.Unix(-5_000_000_000, 0),
				AccessTime: time.Unix(-1, 0), ChangeTime: time.Unix(1<<40, 0)},
		)
	}
	if format == tar.FormatPAX {
		headers = append(headers,
			&tar.Header{Typeflag: tar.TypeReg, Name: "fraction", Format: format, ModTime: time.Unix(-2, 250_000_000)},
			&tar.Header{Typeflag: tar.TypeReg, Name: "xattrs", Format: format, Size: 7, ModTime: when, PAXRecords: map[string]string{
				"SCHILY.xattr.user.a":              "1",
				"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\n= \xff",
			}},
		)
	}
	return goTar(t, headers...)
}

var goFormats = []tar.Format{tar.FormatUSTAR, tar.FormatGNU, tar.FormatPAX}

// Whatever pieces the source comes in, and wherever the buffers' ends fall, the
// archive is the same, and what archive/tar makes of it.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, format := range goFormats {
		t.Run(format.String(), func(t *testing.T) {
			t.Parallel()
			archive := mixed(t, format)
			want := mustRead(t, archive)
			if compared, err := compareWithGo(archive, want); err != nil || !compared {
				t.Fatalf("archive/tar compared: %v: %v", compared, err)
			}
			src := func() *bytes.Reader { return bytes.NewReader(archive) }
			for name, all := range map[string]func() ([]read, error){
				"one byte":   func() ([]read, error) { return readAll(iotest.OneByteReader(src()), bufSize) },
				"half":       func() ([]read, error) { return readAll(iotest.HalfReader(src()), bufSize) },
				"data error": func() ([]read, error) { return readAll(iotest.DataErrReader(src()), bufSize) },
				"1":          func() ([]read, error) { return readAll(src(), 1) },
				"511":        func() ([]read, error) { return readAll(src(), 511) },
				"512":        func() ([]read, error) { return readAll(src(), 512) },
				"1300":       func() ([]read, error) { return readAll(iotest.DataErrReader(src()), 1300) },
			} {
				got, err := all()
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
				if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
					t.Errorf("%s:\n got %.2000s\nwant %.2000s", name, g, w)
				}
			}
		})
	}
}

// What the comparison with archive/tar does not see.
func TestRoundTripOfMore(t *testing.T) {
	t.Parallel()
	for _, format := range []tar.Format{tar.FormatGNU, tar.FormatPAX} {
		for _, m := range mustRead(t, mixed(t, format)) {
			switch m.Name {
			case "before 1970":
				want := [3]Time{{-5_000_000_000, 0, true}, {-1, 0, true}, {1 << 40, 0, true}}
				if got := [3]Time{m.Mtime, m.Atime, m.Ctime}; got != want {
					t.Errorf("%v: times %v, want %v", format, got, want)
				}
			case "fraction":
				if m.Mtime != (Time{-2, 250_000_000, true}) || m.Atime.Set || m.Ctime.Set {
					t.Errorf("%v: times %v %v %v", format, m.Mtime, m.Atime, m.Ctime)
				}
			case "xattrs":
				got := map[string]string{}
				for _, x := range m.Xattrs {
					got[x.Name] = string(x.Value)
				}
				if len(m.Xattrs) != 2 || got["user.a"] != "1" || got["security.capability"] != "\x01\x00\x00\x02\x00\n= \xff" {
					t.Errorf("%v: xattrs %q", format, got)
				}
			default:
				if len(m.Xattrs) > 0 || m.Sparse != nil {
					t.Errorf("%v: %q has xattrs %v, sparse %v", format, m.Name, m.Xattrs, m.Sparse)
				}
			}
		}
	}
}

// The slice that Data gave stays as it is until the next call, however far the
// goroutine has read ahead, and cannot be appended into what follows.
func TestDataIsNotOverwritten(t *testing.T) {
	t.Parallel()
	const size = 100_000
	archive := goTar(t, &tar.Header{Typeflag: tar.TypeReg, Name: "f", Size: size}, &tar.Header{Typeflag: tar.TypeReg, Name: "g", Size: size})
	r := newReader(bytes.NewReader(archive), 1000)
	defer r.Close()
	for i := range uint64(2) {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
		want := noise(i, size)
		for n := 0; n < size; {
			b, err := r.Data(1 + n%1500)
			if err != nil {
				t.Fatal(err)
			}
			if n%9 == 0 {
				runtime.Gosched() // let the goroutine overtake
			}
			if len(b) > 1+n%1500 || cap(b) != len(b) || !bytes.Equal(b, want[n:n+len(b)]) {
				t.Fatalf("at %d: %d bytes, capacity %d, not what was written", n, len(b), cap(b))
			}
			n += len(b)
		}
	}
}

// Next skips what was not read.
func TestSkip(t *testing.T) {
	t.Parallel()
	archive := mixed(t, tar.FormatPAX)
	want := mustRead(t, archive)
	r := newReader(bytes.NewReader(archive), 700)
	defer r.Close()
	for i := range want {
		e, err := r.Next()
		if err != nil || e.Name != want[i].Name {
			t.Fatalf("member %d: %v %v, want %q", i, e, err, want[i].Name)
		}
		if i%2 == 0 && e.Size > 1 {
			if b, err := r.Data(1); len(b) != 1 || err != nil {
				t.Fatalf("Data(1): %d bytes, %v", len(b), err)
			}
		}
	}
}
