package blobs_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"banger/internal/base/errs"
	"banger/internal/blobs"
)

// errCut is how an origin's connections break.
var errCut = errors.New("the connection is cut")

// errDenied is an error of a Read that stays.
var errDenied = errs.New(errs.Invalid, "there is more than there should be")

// origin is a server of one blob whose answers follow a plan.
type origin struct {
	data []byte
	// plan has a trouble for each call, in turn; further calls are honest.
	plan []trouble

	mu      sync.Mutex
	offsets []int64 // what was asked for
	open    int     // bodies that are not closed
}

// trouble is what is wrong with one answer.
type trouble struct {
	refuse  error         // the call fails
	noRange bool          // it begins at 0 whatever was asked
	ahead   int64         // it begins so many bytes too late, and says so
	after   int           // so many good bytes come before what is below
	cut     bool          // then errCut
	denied  bool          // then an Invalid error
	end     bool          // then EOF
	hang    bool          // then nothing, until ctx ends
	other   bool          // then other bytes than the blob's
	extra   []byte        // what follows the blob's last byte
	drip    int           // bytes of one Read; 0 is as many as are asked for
	every   time.Duration // pause before each Read
}

func (o *origin) source(ctx context.Context, offset int64) (io.ReadCloser, int64, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := len(o.offsets)
	o.offsets = append(o.offsets, offset)
	var tr trouble
	if n < len(o.plan) {
		tr = o.plan[n]
	}
	switch {
	case tr.refuse != nil:
		return nil, 0, tr.refuse
	case tr.noRange || offset > int64(len(o.data)):
		offset = 0
	}
	o.open++
	body := append(slices.Clone(o.data[offset:]), tr.extra...)
	if tr.other {
		for i := min(tr.after, len(body)); i < len(body); i++ {
			body[i] ^= 1
		}
	}
	left := len(body)
	if tr.cut || tr.denied || tr.end || tr.hang {
		left = min(tr.after, left)
	}
	return &answer{o: o, ctx: ctx, tr: tr, body: body[:left]}, offset + tr.ahead, nil
}

// asked returns the offsets of all calls.
func (o *origin) asked() []int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.offsets)
}

func (o *origin) unclosed() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.open
}

type answer struct {
	o    *origin
	ctx  context.Context
	tr   trouble
	body []byte
}

func (a *answer) Read(b []byte) (int, error) {
	if a.tr.every > 0 {
		select {
		case <-time.After(a.tr.every):
		case <-a.ctx.Done():
		}
	}
	if err := a.ctx.Err(); err != nil {
		return 0, err
	}
	switch {
	case len(a.body) > 0:
		if a.tr.drip > 0 {
			b = b[:min(len(b), a.tr.drip)]
		}
		n := copy(b, a.body)
		a.body = a.body[n:]
		return n, nil
	case a.tr.cut:
		return 0, errCut
	case a.tr.denied:
		return 0, errDenied
	case a.tr.hang:
		<-a.ctx.Done()
		return 0, a.ctx.Err()
	}
	return 0, io.EOF
}

func (a *answer) Close() error {
	a.o.mu.Lock()
	defer a.o.mu.Unlock()
	a.o.open--
	return nil
}

// pipe is a source whose bytes the test writes.
func pipe(r io.ReadCloser) blobs.Source {
	return func(context.Context, int64) (io.ReadCloser, int64, error) { return r, 0, nil }
}

// random returns n bytes that depend on seed alone.
func random(seed uint64, n int) []byte {
	b := make([]byte, n)
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	_, _ = rand.NewChaCha8(key).Read(b) // never fails
	return b
}

func describe(data []byte) blobs.Descriptor {
	sum := sha256.Sum256(data)
	return blobs.Descriptor{Digest: "sha256:" + hex.EncodeToString(sum[:]), Size: int64(len(data))}
}

func newStore(t *testing.T, dir string, o blobs.Options) *blobs.Store {
	t.Helper()
	s, err := blobs.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// blobFile and partFile are where the store is to keep a blob and its partial.
func blobFile(dir string, d blobs.Descriptor) string {
	return filepath.Join(dir, d.Digest[:6], d.Digest[7:])
}

func partFile(dir string, d blobs.Descriptor) string { return blobFile(dir, d) + ".part" }

// plant puts a file below the store's folder.
func plant(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, data, 0o600)); err != nil {
		t.Fatal(err)
	}
}

// wantStored fails unless the blob is there, whole, and has left no partial.
func wantStored(t *testing.T, dir string, data []byte) {
	t.Helper()
	d := describe(data)
	got, err := os.ReadFile(blobFile(dir, d))
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("the stored blob: %d of %d bytes, %v", len(got), len(data), err)
	}
	wantGone(t, partFile(dir, d))
}

func wantGone(t *testing.T, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is there: %v", path, err)
		}
	}
}

// readAll opens a blob and reads it to the end.
func readAll(t *testing.T, s *blobs.Store, d blobs.Descriptor, src blobs.Source) ([]byte, error) {
	t.Helper()
	r, err := s.Open(t.Context(), d, src, nil)
	if err != nil {
		return nil, err
	}
	got, err := io.ReadAll(r)
	if closeErr := r.Close(); closeErr != nil {
		t.Errorf("Close: %v", closeErr)
	}
	return got, err
}
