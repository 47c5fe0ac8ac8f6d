package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime"
	"runtime/pprof"
	"sync"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"banger/internal/blobs"
	"banger/internal/diskimage"
	"banger/internal/oci/unpack"
)

// maxUnpacked bounds a layer when decompressed, as in the images service.
const maxUnpacked = 8 << 30

// runPart runs one part in this process.
func (b *bench) runPart(ctx context.Context, name string, out io.Writer) error {
	m, err := b.load()
	if err != nil {
		return err
	}
	switch name {
	case "ours":
		if err := b.ours(ctx, m); err != nil {
			return err
		}
		return peakMemory(out)
	case "floor":
		return b.floor(ctx, m, inflate)
	case "verified":
		return b.floor(ctx, m, inflateVerified)
	case "flatten":
		return b.flatten(out)
	}
	return fmt.Errorf("there is no part %q", name)
}

// profiled runs f with a CPU profile, if path is not empty.
func (*bench) profiled(path string, f func() error) error {
	if path == "" {
		return f()
	}
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(out); err != nil {
		return errors.Join(err, out.Close())
	}
	err = f()
	pprof.StopCPUProfile()
	return errors.Join(err, out.Close())
}

// ours makes a disk of the stored layers as the images service does: read from the
// store of downloads, decompressed, both digests verified, written and synced.
func (b *bench) ours(ctx context.Context, m *material) (err error) {
	store, err := blobs.Open(b.at("blobs"), blobs.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	var layers []io.Reader
	for _, l := range m.Layers {
		r := &layer{ctx: ctx, store: store, l: l}
		defer r.Close()
		layers = append(layers, r)
	}
	_, err = diskimage.FromLayers(ctx, b.at("disk.ext4"), layers...)
	return err
}

// layer is a layer's tar, opened when it is first read.
type layer struct {
	ctx         context.Context //nolint:containedctx // of one run
	store       *blobs.Store
	l           layerOf
	blob, plain io.ReadCloser
	r           io.Reader
}

func (r *layer) Read(p []byte) (n int, err error) {
	if r.r == nil {
		if r.blob, err = r.store.Open(r.ctx, blobs.Descriptor{Digest: r.l.Digest, Size: r.l.Size}, nil, nil); err != nil {
			return 0, err
		}
		if r.plain, err = unpack.Decompress(r.ctx, r.blob, maxUnpacked); err != nil {
			return 0, err
		}
		r.r = unpack.Terminate(unpack.Verify(r.plain, r.l.DiffID))
	}
	return r.r.Read(p)
}

func (r *layer) Close() {
	if r.plain != nil {
		_ = r.plain.Close()
	}
	if r.blob != nil {
		_ = r.blob.Close()
	}
}

// floor decompresses the layers, as many at a time as there are processors, as ours
// does and with the same library, and writes each to a file, which it syncs.
func (b *bench) floor(ctx context.Context, m *material, write func(ctx context.Context, l layerOf, from, to string) error) error {
	if err := os.Mkdir(b.at("root"), 0o755); err != nil {
		return err
	}
	failures := make([]error, len(m.Layers))
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	var group sync.WaitGroup
	for i, l := range m.Layers {
		slots <- struct{}{}
		group.Go(func() {
			failures[i] = write(ctx, l, b.blob(l.Digest), fmt.Sprintf("%s/%d", b.at("root"), i))
			<-slots
		})
	}
	group.Wait()
	return errors.Join(failures...)
}

func inflate(ctx context.Context, _ layerOf, from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	return inflateFrom(ctx, in, to, func(plain io.Reader) io.Reader { return plain })
}

// inflateVerified also adds up what the layer's two digests are of.
func inflateVerified(ctx context.Context, l layerOf, from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	return inflateFrom(ctx, unpack.Verify(in, l.Digest), to, func(plain io.Reader) io.Reader { return unpack.Verify(plain, l.DiffID) })
}

func inflateFrom(ctx context.Context, in io.Reader, to string, wrap func(io.Reader) io.Reader) error {
	plain, err := unpack.Decompress(ctx, in, maxUnpacked)
	if err != nil {
		return err
	}
	defer plain.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{out}, wrap(plain), make([]byte, 256<<10))
	return errors.Join(err, out.Sync(), out.Close())
}

// flatten writes the image as one tar.
func (b *bench) flatten(out io.Writer) error {
	p, err := layout.FromPath(b.at("layout"))
	if err != nil {
		return err
	}
	index, err := p.ImageIndex()
	if err != nil {
		return err
	}
	documents, err := index.IndexManifest()
	if err != nil {
		return err
	}
	img, err := index.Image(documents.Manifests[0].Digest)
	if err != nil {
		return err
	}
	r := mutate.Extract(img)
	_, err = io.Copy(out, r)
	return errors.Join(err, r.Close())
}

var highWater = regexp.MustCompile(`VmHWM:\s+\d+ kB`)

// peakMemory says how much memory this process has had at most. The kernel's count for
// getrusage(2) would begin with that of the process that started this one.
func peakMemory(out io.Writer) error {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, highWater.FindString(string(status)))
	return err
}
