package images

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"sync"

	"banger/internal/base/errs"
	"banger/internal/base/progress"
	"banger/internal/blobs"
	"banger/internal/oci"
	"banger/internal/oci/unpack"
)

// downloads is how many layers come at the same time before they are needed; Docker
// and containerd take three.
const downloads = 3

// What all layers of an image may have together when decompressed: fairBytes, or fairFactor
// times what comes of them. What is honest is below one of them, and a bomb, in however
// many layers, is caught before it fills the disk.
const (
	fairBytes  = 8 << 30
	fairFactor = 100
)

// budget is what one image, or one file that is imported, may unpack to.
func (s *Service) budget() *unpack.Budget { return unpack.NewBudget(s.fair, fairFactor) }

// parts are the layers that an image is made of.
type parts struct {
	layers []oci.Layer
	budget *unpack.Budget
	// earned says that the layers came out of an archive whose bytes the budget has counted.
	earned bool
}

// unpackLayers makes the base disk digest in dir of layers, while they come.
func (s *Service) unpackLayers(ctx context.Context, dir, name, digest string, of parts, p progress.Func) (made, error) {
	layers := of.layers
	within, cancel := context.WithCancelCause(ctx)
	t := newTally(p, "pulling "+name, layers)
	readers := make([]io.Reader, len(layers))
	for i, l := range layers {
		readers[i] = &layerReader{ctx: within, s: s, of: of, l: l, tally: t}
	}
	var ahead sync.WaitGroup
	ahead.Go(func() { s.fetchAhead(within, cancel, layers, t) })
	path := filepath.Join(dir, "disk.ext4")
	n, err := s.FromLayers(within, path, readers...)
	cause := context.Cause(within)
	cancel(nil)
	for _, r := range readers {
		err = errors.Join(err, r.(*layerReader).Close())
	}
	ahead.Wait()
	switch {
	case err == nil:
		return made{path: path, digest: digest, bytes: n}, nil
	case ctx.Err() != nil:
		return made{}, ctx.Err()
	case cause != nil && !errors.Is(cause, context.Canceled):
		return made{}, cause // the readers have only been told of it
	}
	return made{}, err
}

// fetchAhead downloads layers in their order, several at the same time, so that
// they are there, or are coming, when they are read. A failure ends all.
func (s *Service) fetchAhead(ctx context.Context, fail context.CancelCauseFunc, layers []oci.Layer, t *tally) {
	var group sync.WaitGroup
	defer group.Wait()
	slots := make(chan struct{}, downloads)
	for _, l := range layers {
		select {
		case <-ctx.Done():
			return
		case slots <- struct{}{}:
		}
		group.Go(func() {
			defer func() { <-slots }()
			if err := s.Blobs.Fetch(ctx, descriptor(l), blobs.Source(l.Source), t.of(l)); err != nil && ctx.Err() == nil {
				fail(layerError(l, err))
			}
		})
	}
}

func descriptor(l oci.Layer) blobs.Descriptor {
	return blobs.Descriptor{Digest: l.Digest, Size: l.Size}
}

func layerError(l oci.Layer, err error) error {
	return errs.New(errs.KindOf(err), "the layer %s: %w", l.Digest, err)
}

// layerReader is the tar of a layer, which is opened when it is first read. It ends
// with io.EOF only if both digests of the layer are right.
type layerReader struct {
	ctx   context.Context //nolint:containedctx // io.Reader has no room for it
	s     *Service
	of    parts
	l     oci.Layer
	tally *tally

	blob, plain io.ReadCloser
	r           io.Reader
	err         error
}

func (r *layerReader) Read(b []byte) (int, error) {
	if r.err == nil && r.r == nil {
		r.err = r.open()
	}
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.r.Read(b)
	if errors.Is(err, io.EOF) {
		r.err = io.EOF
		if closeErr := r.release(); closeErr != nil {
			r.err = closeErr
		}
		return n, r.err
	}
	if err != nil {
		r.err = layerError(r.l, err)
	}
	return n, r.err
}

func (r *layerReader) open() (err error) {
	if r.blob, err = r.s.Blobs.Open(r.ctx, descriptor(r.l), blobs.Source(r.l.Source), r.tally.of(r.l)); err != nil {
		return layerError(r.l, err)
	}
	var packed io.Reader = r.blob
	if !r.of.earned {
		packed = r.of.budget.Earn(packed)
	}
	if r.plain, err = unpack.Decompress(r.ctx, packed, 0); err != nil {
		return layerError(r.l, err)
	}
	r.r = unpack.Terminate(unpack.Verify(r.of.budget.Spend(r.plain), r.l.DiffID))
	return nil
}

func (r *layerReader) release() error {
	var err error
	if r.plain != nil {
		err = r.plain.Close()
	}
	if r.blob != nil {
		err = errors.Join(err, r.blob.Close())
	}
	r.plain, r.blob, r.r = nil, nil, nil
	return err
}

// Close ends the download, if nobody else follows it, and the decompression.
func (r *layerReader) Close() error {
	if r.err == nil {
		r.err = io.ErrClosedPipe
	}
	return r.release()
}

// tally adds up the downloads of an image's layers.
type tally struct {
	progress progress.Func
	what     string
	total    int64

	mu   sync.Mutex
	done map[string]int64
	sum  int64
}

func newTally(p progress.Func, what string, layers []oci.Layer) *tally {
	t := &tally{progress: p, what: what, done: map[string]int64{}}
	seen := map[string]bool{}
	for _, l := range layers {
		if !seen[l.Digest] {
			seen[l.Digest] = true
			t.total += l.Size
		}
	}
	return t
}

// of takes the reports of one layer's download.
func (t *tally) of(l oci.Layer) progress.Func {
	return func(r progress.Report) {
		t.mu.Lock()
		t.sum += r.Done - t.done[l.Digest]
		t.done[l.Digest] = r.Done
		sum := t.sum
		t.mu.Unlock()
		t.progress.Send(progress.Report{Phase: "image", Detail: t.what, Done: sum, Total: t.total})
	}
}
