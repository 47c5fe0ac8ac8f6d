package layers_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"banger/ext4"
	"banger/internal/base/testneed"
	"banger/internal/diskimage"
	"banger/internal/oci"
	"banger/internal/oci/unpack"
)

// packed compresses.
func packed(t testing.TB, format unpack.Format, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	var err error
	switch format {
	case unpack.Gzip:
		w = gzip.NewWriter(&out)
	case unpack.Zstd:
		w, err = zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(128<<10), zstd.WithLowerEncoderMem(true))
	case unpack.Xz:
		cmd := exec.CommandContext(t.Context(), testneed.Tool(t, "xz", "xz-utils"), "-0", "--stdout")
		cmd.Stdin = bytes.NewReader(b)
		b, err := cmd.Output()
		must(t, err)
		return b
	default:
		return b
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// formats are what layers come in; xz, whose program takes a while to start, seldom.
var formats = []unpack.Format{unpack.Gzip, unpack.Plain, unpack.Zstd, unpack.Gzip, unpack.Zstd, unpack.Plain, unpack.Gzip, unpack.Plain, unpack.Gzip, unpack.Zstd, unpack.Xz}

// makeDisk makes a disk of layers, each compressed in another way, as the images
// service does: decompressed, their digests verified, and written.
func makeDisk(t testing.TB, layers ...[]byte) (string, error) {
	t.Helper()
	blobs := make([]io.Reader, len(layers))
	diffIDs := make([]string, len(layers))
	for i, l := range layers {
		blobs[i] = bytes.NewReader(packed(t, formats[(len(l)/512+i)%len(formats)], l))
		diffIDs[i] = oci.Digest(l)
	}
	return diskOf(t, blobs, diffIDs, 1<<30)
}

// diskOf is makeDisk for blobs, of which each may have limit bytes when decompressed.
// Without digests nothing is verified.
func diskOf(t testing.TB, blobs []io.Reader, diffIDs []string, limit int64) (string, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.ext4")
	var layers []io.Reader
	for i, b := range blobs {
		l := &lazyLayer{ctx: t.Context(), blob: b, limit: limit}
		defer l.Close()
		if diffIDs != nil {
			l.diffID = diffIDs[i]
		}
		layers = append(layers, l)
	}
	_, err := diskimage.FromLayers(t.Context(), path, layers...)
	if err != nil {
		if _, statErr := os.Lstat(path); !errors.Is(statErr, os.ErrNotExist) {
			t.Errorf("after %v there is still a file: %v", err, statErr)
		}
	}
	return path, err
}

// lazyLayer opens its decompressor when it is read, as the images service does.
type lazyLayer struct {
	ctx    context.Context //nolint:containedctx // of a test
	blob   io.Reader
	limit  int64
	diffID string
	plain  io.ReadCloser
	r      io.Reader
}

func (l *lazyLayer) Read(p []byte) (n int, err error) {
	if l.r == nil {
		if l.plain, err = unpack.Decompress(l.ctx, l.blob, l.limit); err != nil {
			return 0, err
		}
		l.r = l.plain
		if l.diffID != "" {
			l.r = unpack.Terminate(unpack.Verify(l.plain, l.diffID))
		}
	}
	return l.r.Read(p)
}

func (l *lazyLayer) Close() {
	if l.plain != nil {
		_ = l.plain.Close()
	}
}

// openDisk opens a disk for reading until the end of the test.
func openDisk(t testing.TB, path string) *ext4.Image {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	im, err := ext4.Open(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	return im
}

// judge has e2fsck and our own check look at a disk, which must find nothing.
func judge(t testing.TB, path string) {
	t.Helper()
	runTool(t, "e2fsck", "e2fsprogs", "-fn", path)
	r, err := openDisk(t, path).Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !r.OK() {
		t.Errorf("our own check finds damage:\n%v", r)
	}
}

// runTool runs a program of a Debian package to its end, which must be a success.
func runTool(t testing.TB, name, pkg string, args ...string) string {
	t.Helper()
	out, err := tryTool(t, name, pkg, args...)
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return out
}

func tryTool(t testing.TB, name, pkg string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), testneed.Tool(t, name, pkg), args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TMPDIR="+t.TempDir())
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// needRoot is for tests that mount disks and unpack images with their owners.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting disks and unpacking with owners needs root") // no host's ability makes one root
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		testneed.Missing(t, testneed.Host, "there are no loop devices: %v", err)
	}
}

// mounted mounts a disk as the guest does, read-only, on a folder until f returns.
func mounted(t testing.TB, path string, f func(root string)) {
	t.Helper()
	root := t.TempDir()
	runTool(t, "mount", "mount", "-t", "ext4", "-o", "loop,ro", path, root)
	// Detached, since programs that other tests start may hold it for a moment.
	defer func() {
		if err := unix.Unmount(root, unix.MNT_DETACH); err != nil {
			t.Errorf("cannot unmount: %v", err)
		}
	}()
	f(root)
}
