package archive_test

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
	"testing/iotest"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"banger/internal/base/errs"
	"banger/internal/base/testneed"
	"banger/internal/oci"
	"banger/internal/oci/archive"
	"banger/internal/oci/unpack"
)

func TestWriteFails(t *testing.T) {
	k := newKeeper()
	img := newImage(t, k, amd64, "hello")
	good := k.blobs[img.Layers[1].Digest]
	broken := errors.New("the cable is broken")
	for name, c := range map[string]struct {
		blob io.Reader
		want string
	}{
		"too short": {bytes.NewReader(good[1:]), "is damaged"},
		"too long":  {io.MultiReader(bytes.NewReader(good), strings.NewReader("x")), "is damaged"},
		"another":   {bytes.NewReader(append(good[1:len(good):len(good)], 1)), "is damaged"},
		"broken":    {io.MultiReader(bytes.NewReader(good), iotest.ErrReader(broken)), broken.Error()},
	} {
		err := archive.Write(t.Context(), io.Discard, img, nil, func(ctx context.Context, l oci.Layer) (io.ReadCloser, error) {
			if l.Digest == img.Layers[1].Digest {
				return io.NopCloser(c.blob), nil
			}
			return k.open(ctx, l)
		})
		if err == nil || !strings.Contains(err.Error(), c.want) || errors.Is(err, broken) != (name == "broken") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := archive.Write(t.Context(), io.Discard, img, refs(t, "x@"+img.Digest), k.open); errs.KindOf(err) != errs.Invalid {
		t.Errorf("a name without a tag: %v", err)
	}
	bad := *img
	bad.RawConfig = append([]byte(" "), img.RawConfig...)
	if err := archive.Write(t.Context(), io.Discard, &bad, nil, k.open); errs.KindOf(err) != errs.Invalid {
		t.Errorf("another config: %v", err)
	}
	whole := write(t, k, img)
	for n := 0; n < len(whole); n += 700 {
		if err := archive.Write(t.Context(), &narrow{left: n}, img, nil, k.open); !errors.Is(err, errNarrow) {
			t.Errorf("a disk of %d bytes: %v", n, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := archive.Write(ctx, io.Discard, img, nil, k.open); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// narrow is a writer for so many bytes.
type narrow struct{ left int }

var errNarrow = errors.New("it is full")

func (n *narrow) Write(p []byte) (int, error) {
	if len(p) > n.left {
		return 0, errNarrow
	}
	n.left -= len(p)
	return len(p), nil
}

func TestPack(t *testing.T) {
	plain := layerTar(t, "file", strings.Repeat("some text ", 1<<15))
	for format, mediaType := range map[unpack.Format]string{unpack.Plain: oci.LayerTar, unpack.Gzip: oci.LayerGzip} {
		var b, again bytes.Buffer
		l, err := archive.Pack(t.Context(), &b, iotest.HalfReader(bytes.NewReader(plain)), format)
		if err != nil {
			t.Fatal(err)
		}
		if l.Digest != oci.Digest(b.Bytes()) || l.Size != int64(b.Len()) || l.MediaType != mediaType || l.DiffID != oci.Digest(plain) || unpack.Detect(b.Bytes()) != format {
			t.Errorf("%s: %+v", format, l)
		}
		r, err := unpack.Decompress(t.Context(), bytes.NewReader(b.Bytes()), 0)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%s: %d bytes, %v", format, len(got), err)
		}
		_ = r.Close()
		if _, err := archive.Pack(t.Context(), &again, bytes.NewReader(plain), format); err != nil || !bytes.Equal(again.Bytes(), b.Bytes()) {
			t.Errorf("%s: another time it is another blob: %v", format, err)
		}
		if _, err := archive.Pack(t.Context(), &narrow{left: 10}, bytes.NewReader(plain), format); !errors.Is(err, errNarrow) {
			t.Errorf("%s to a full disk: %v", format, err)
		}
	}
	broken := errors.New("broken")
	if _, err := archive.Pack(t.Context(), io.Discard, iotest.ErrReader(broken), unpack.Gzip); !errors.Is(err, broken) {
		t.Errorf("a broken tar: %v", err)
	}
	if _, err := archive.Pack(t.Context(), io.Discard, bytes.NewReader(plain), unpack.Zstd); errs.KindOf(err) != errs.Invalid {
		t.Errorf("zstd: %v", err)
	}
}

func TestChoose(t *testing.T) {
	_, err := archive.Choose(nil, "x")
	if errs.KindOf(err) != errs.NotFound || !strings.Contains(err.Error(), "there is no image in the archive") {
		t.Errorf("none: %v", err)
	}
	img := newImage(t, newKeeper(), amd64, "hello")
	var many []*archive.Image
	for i := range 40 {
		many = append(many, &archive.Image{Image: img, Names: []string{fmt.Sprintf("docker.io/library/x:%02d", i), "\x1b[2J"}})
	}
	_, err = archive.Choose(many, "")
	if errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error(), "x:00 = \uFFFD[2J, x:01") || !strings.Contains(err.Error(), "16 more") || strings.ContainsRune(err.Error(), 0x1b) {
		t.Errorf("many: %v", err)
	}
}

func TestSniff(t *testing.T) {
	k := newKeeper()
	img := newImage(t, k, amd64, "hello")
	ours := write(t, k, img, "x:y")
	old := &saved{t: t}
	old.image(amd64, nil, []string{old.layer(layerTar(t, "a", strings.Repeat("a", 9000)))}, "x:y")
	l := newLayout(t)
	l.add(l.image(k, img))
	rootfs := tarOf(t, member{name: "./"}, member{name: "./bin", link: "usr/bin"}, member{name: "./etc/"})
	var global bytes.Buffer
	w := tar.NewWriter(&global)
	if err := errors.Join(w.WriteHeader(&tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "none"}}), w.Flush()); err != nil {
		t.Fatal(err)
	}
	global.Write(ours)
	pack := func(format string, b []byte) []byte {
		cmd := exec.Command(testneed.Tool(t, format, map[string]string{"xz": "xz-utils", "gzip": "gzip"}[format]), "-c", "-1")
		cmd.Stdin = bytes.NewReader(b)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	big := tarOf(t, member{name: "./"}, member{name: "usr/"}, member{name: "usr/big", content: bytes.Repeat([]byte("some text"), 1<<19)})
	for name, c := range map[string]struct {
		b    []byte
		want archive.Kind
	}{
		"ours":              {ours, archive.ImageArchive},
		"docker's":          {old.tar(), archive.ImageArchive},
		"a layout":          {l.tar(), archive.ImageArchive},
		"with a header":     {global.Bytes(), archive.ImageArchive},
		"ours, xz":          {pack("xz", ours), archive.ImageArchive},
		"ours, gzip":        {pack("gzip", ours), archive.ImageArchive},
		"a file system":     {rootfs, archive.RootFS},
		"one, gzip":         {pack("gzip", rootfs), archive.RootFS},
		"a big one":         {big, archive.RootFS},
		"a big one, xz":     {pack("xz", big), archive.RootFS},
		"a big one, gzip":   {pack("gzip", big), archive.RootFS},
		"blobs of a system": {tarOf(t, member{name: "blobs/"}, member{name: "blobs/data"}), archive.RootFS},
		"a system's list":   {tarOf(t, member{name: "manifest.json"}, member{name: "etc/"}), archive.RootFS},
		"an empty tar":      {tarOf(t), archive.Unknown},
		"nothing":           {nil, archive.Unknown},
		"text":              {[]byte(strings.Repeat("no tar ", 200)), archive.Unknown},
		"an ext4":           {append(make([]byte, 1080), 0x53, 0xef), archive.Unknown},
	} {
		r := bufio.NewReaderSize(bytes.NewReader(c.b), archive.SniffSize)
		got, err := archive.Sniff(t.Context(), r)
		if got != c.want || err != nil {
			t.Errorf("%s: %s, %v", name, got, err)
		}
		if rest, err := io.ReadAll(r); err != nil || !bytes.Equal(rest, c.b) {
			t.Errorf("%s: %d bytes of %d are left, %v", name, len(rest), len(c.b), err)
		}
	}
	broken := errors.New("broken")
	if _, err := archive.Sniff(t.Context(), bufio.NewReader(iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("broken: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	k := newKeeper()
	img := newImage(f, k, amd64, "hello")
	f.Add(write(f, k, img, "x:y"))
	old := &saved{t: f}
	a := layerTar(f, "a", "a")
	path := old.layer(a)
	old.image(amd64, []string{oci.Digest(a), oci.Digest(a)}, []string{path, old.link(path, tar.TypeSymlink)}, "x:y")
	f.Add(old.tar())
	f.Add(tarOf(f, member{name: "index.json", content: marshal(f, v1.IndexManifest{})}))
	f.Fuzz(func(t *testing.T, b []byte) {
		o := opts
		o.Budget = unpack.NewBudget(1<<20, 1)
		k := newKeeper()
		images, err := archive.Read(t.Context(), bytes.NewReader(b), o, k.put)
		if err != nil {
			if kind := errs.KindOf(err); kind != errs.Invalid && kind != errs.NotFound {
				t.Errorf("the error is of no kind: %v", err)
			}
			return
		}
		for _, i := range images {
			for _, l := range i.Layers {
				if int64(len(k.blobs[l.Digest])) != l.Size || k.blobs[l.Digest] == nil {
					t.Errorf("a layer %+v that was not kept", l)
				}
			}
			var out bytes.Buffer
			if err := archive.Write(t.Context(), &out, i.Image, nil, k.open); err != nil {
				t.Errorf("what was read cannot be written: %v", err)
			}
		}
	})
}

func FuzzSniff(f *testing.F) {
	k := newKeeper()
	f.Add(write(f, k, newImage(f, k, amd64, "hello"), "x:y"))
	f.Add(tarOf(f, member{name: "./"}, member{name: "etc/"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := archive.Sniff(t.Context(), bufio.NewReaderSize(bytes.NewReader(b), archive.SniffSize)); err != nil {
			t.Error(err)
		}
	})
}
