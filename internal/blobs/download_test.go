package blobs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"banger/internal/base/errs"
	"banger/internal/blobs"
)

// refusal is an error that says itself that it stays.
type refusal struct{}

func (refusal) Error() string   { return "the password is wrong" }
func (refusal) Permanent() bool { return true }

var (
	err500     = errors.New("500 Internal Server Error")
	errMissing = errs.New(errs.NotFound, "404")
)

// TestTroubles: what a source does, what is asked of it, and how it ends.
func TestTroubles(t *testing.T) {
	const size = 1_000_000
	data := random(10, size)
	for _, c := range []struct {
		name    string
		part    []byte // what is there before
		unknown bool   // the size is not announced
		plan    []trouble
		asked   []int64
		want    error     // nil: the blob is stored
		kind    errs.Kind // of the error
		kept    int64     // bytes of the partial after the error
		took    time.Duration
	}{
		{name: "honest", asked: []int64{0}},
		{name: "slow", plan: []trouble{{drip: 300_000, every: blobs.DefaultStall - time.Second}}, asked: []int64{0}, took: 9 * (blobs.DefaultStall - time.Second)},
		{name: "cut", plan: []trouble{{after: 300_000, cut: true}, {after: 200_000, cut: true}}, asked: []int64{0, 300_000, 500_000}},
		{name: "short", plan: []trouble{{after: 300_000, end: true}}, asked: []int64{0, 300_000}},
		{name: "500", plan: []trouble{{refuse: err500}, {after: 1, cut: true}, {refuse: err500}}, asked: []int64{0, 0, 1, 1}},
		{name: "stall", plan: []trouble{{after: 300_000, hang: true}}, asked: []int64{0, 300_000}},
		{name: "no resuming", plan: []trouble{{after: 300_000, cut: true}, {noRange: true}}, asked: []int64{0, 300_000}},
		{name: "no resuming, and cut before there is news", plan: []trouble{{after: 300_000, cut: true}, {noRange: true, after: 100_000, end: true}}, asked: []int64{0, 300_000, 300_000}},
		{name: "all came, then a cut", plan: []trouble{{after: size, cut: true}}, asked: []int64{0}},
		{name: "all came, then a stall", plan: []trouble{{after: size, hang: true}}, asked: []int64{0}},
		{name: "all came, then a refusal", plan: []trouble{{after: size, denied: true}}, asked: []int64{0}, want: errDenied, kind: errs.Invalid, kept: size},
		{name: "refused on the way", plan: []trouble{{after: 300_000, denied: true}}, asked: []int64{0}, want: errDenied, kind: errs.Invalid, kept: 300_000},
		{name: "dead", plan: slices.Repeat([]trouble{{refuse: err500}}, 9), asked: []int64{0, 0, 0, 0, 0}, want: err500, kind: errs.Unavailable, took: 3 * time.Second},
		{name: "dies", plan: append([]trouble{{after: 400_000, cut: true}}, slices.Repeat([]trouble{{cut: true}}, 9)...), asked: slices.Concat([]int64{0}, slices.Repeat([]int64{400_000}, 4)), want: errCut, kind: errs.Unavailable, kept: 400_000},
		{name: "hangs for ever", plan: slices.Repeat([]trouble{{hang: true}}, 9), asked: []int64{0, 0, 0, 0, 0}, want: nil, kind: errs.Timeout},
		{name: "a drip", plan: slices.Repeat([]trouble{{after: 1000, cut: true}}, 99), asked: []int64{0, 1000, 2000, 3000, 4000}, want: errCut, kind: errs.Unavailable, kept: 5000},
		{name: "many cuts with headway", plan: slices.Repeat([]trouble{{after: 100_000, cut: true}}, 9), asked: []int64{0, 100_000, 200_000, 300_000, 400_000, 500_000, 600_000, 700_000, 800_000, 900_000}},
		{name: "missing", plan: []trouble{{refuse: fmt.Errorf("%w", errMissing)}}, asked: []int64{0}, want: errMissing, kind: errs.NotFound},
		{name: "missing on resuming", part: data[:500], plan: []trouble{{refuse: errMissing}}, asked: []int64{500}, want: errMissing, kind: errs.NotFound, kept: 500},
		{name: "refused", plan: []trouble{{refuse: errs.New(errs.Unavailable, "cannot log in: %w", refusal{})}}, asked: []int64{0}, want: refusal{}, kind: errs.Unavailable},
		{name: "cancelled by itself", plan: []trouble{{refuse: context.Canceled}}, asked: []int64{0}, want: context.Canceled, kind: errs.Canceled},
		{name: "its own timeout", plan: []trouble{{refuse: context.DeadlineExceeded}}, asked: []int64{0, 0}},
		{name: "begins too late", plan: []trouble{{ahead: 5}}, asked: []int64{0}, kind: errs.Invalid},
		{name: "begins before the start", plan: []trouble{{ahead: -5}}, asked: []int64{0}, kind: errs.Invalid},
		{name: "too long", plan: []trouble{{extra: []byte("x")}}, asked: []int64{0}, want: blobs.ErrMismatch, kind: errs.Unavailable},
		{name: "other bytes", plan: []trouble{{other: true, after: 999_999}}, asked: []int64{0}, want: blobs.ErrMismatch, kind: errs.Unavailable},
		{name: "other bytes after resuming", plan: []trouble{{after: 300_000, cut: true}, {other: true}}, asked: []int64{0, 300_000, 0}},
		{name: "other bytes twice", plan: []trouble{{after: 300_000, cut: true}, {other: true}, {other: true}}, asked: []int64{0, 300_000, 0}, want: blobs.ErrMismatch, kind: errs.Unavailable},
		{name: "cut again when fresh", plan: []trouble{{after: 300_000, cut: true}, {other: true}, {after: 200_000, cut: true}}, asked: []int64{0, 300_000, 0, 200_000}},

		{name: "partial", part: data[:123_456], asked: []int64{123_456}},
		{name: "whole partial", part: data},
		{name: "empty partial", part: []byte{}, asked: []int64{0}},
		{name: "partial too long", part: append(slices.Clone(data), 'x'), asked: []int64{0}},
		{name: "damaged partial", part: make([]byte, 300_000), asked: []int64{300_000, 0}},
		{name: "damaged whole partial", part: make([]byte, size), asked: []int64{0}},
		{name: "damaged partial, no resuming", part: make([]byte, 300_000), plan: []trouble{{noRange: true}}, asked: []int64{300_000, 0}},
		{name: "damaged partial, bad source", part: make([]byte, 300_000), plan: []trouble{{}, {other: true}}, asked: []int64{300_000, 0}, want: blobs.ErrMismatch, kind: errs.Unavailable},

		{name: "unknown size", unknown: true, asked: []int64{0}},
		{name: "unknown size, cut", unknown: true, plan: []trouble{{after: 300_000, cut: true}}, asked: []int64{0, 300_000}},
		{name: "unknown size, short", unknown: true, plan: []trouble{{after: 300_000, end: true}}, asked: []int64{0}, want: blobs.ErrMismatch, kind: errs.Unavailable},
		{name: "unknown size, whole partial", unknown: true, part: data},
		{name: "unknown size, partial too long", unknown: true, part: append(slices.Clone(data), 'x'), asked: []int64{size + 1, 0}},
		{name: "unknown size, refused at that offset", unknown: true, part: append(slices.Clone(data), 'x'), plan: []trouble{{refuse: errs.New(errs.Invalid, "416")}}, asked: []int64{size + 1, 0}},
		{name: "unknown size, endless", unknown: true, plan: []trouble{{extra: make([]byte, size)}}, asked: []int64{0}, want: blobs.ErrMismatch, kind: errs.Unavailable},
	} {
		dir := t.TempDir()
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := describe(data)
				if c.unknown {
					d.Size = -1
				}
				if c.part != nil {
					plant(t, partFile(dir, d), c.part)
				}
				s := newStore(t, dir, blobs.Options{MaxUnknown: size + size/2})
				o := &origin{data: data, plan: c.plan}
				began := time.Now()
				err := s.Fetch(t.Context(), d, o.source, nil)
				if took := time.Since(began); c.took != 0 && took != c.took {
					t.Errorf("it took %s, want %s", took, c.took)
				}
				if asked := o.asked(); !slices.Equal(asked, c.asked) || o.unclosed() != 0 {
					t.Errorf("asked for %v, want %v; %d bodies are open", asked, c.asked, o.unclosed())
				}
				if c.want == nil && c.kind == "" {
					if err != nil {
						t.Fatal(err)
					}
					wantStored(t, dir, data)
					return
				}
				if err == nil {
					t.Fatalf("no error, want %v (%s)", c.want, c.kind)
				}
				if !errors.Is(err, c.want) && c.want != nil || errs.KindOf(err) != c.kind {
					t.Errorf("%v (%s), want %v (%s)", err, errs.KindOf(err), c.want, c.kind)
				}
				if c.want != context.Canceled && !strings.Contains(err.Error(), d.Digest) { //nolint:errorlint // the very one
					t.Errorf("%v: does not say of what", err)
				}
				wantGone(t, blobFile(dir, d))
				if info, err := os.Stat(partFile(dir, d)); c.kept == 0 && err == nil || c.kept > 0 && (err != nil || info.Size() != c.kept) {
					t.Errorf("the partial: %v, %v; want %d bytes", info, err, c.kept)
				}
				// Nothing is spoilt: an honest source brings it.
				if got, err := readAll(t, s, d, (&origin{data: data}).source); err != nil || !bytes.Equal(got, data) {
					t.Errorf("then: %d bytes, %v", len(got), err)
				}
			})
		})
	}
}

// TestWrongBytesNeverEnd: each reader of a bad download has an error instead of the
// last byte.
func TestWrongBytesNeverEnd(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, dir, blobs.Options{})
		data := random(11, 50_000)
		for name, tr := range map[string]trouble{"flipped": {other: true, after: 49_999}, "too long": {extra: []byte("and more")}} {
			tr.drip, tr.every = 1000, time.Millisecond
			bad := &origin{data: data, plan: slices.Repeat([]trouble{tr}, 9)}
			done := make(chan struct{})
			for range 3 {
				go func() {
					got, err := readAll(t, s, describe(data), bad.source)
					if !errors.Is(err, blobs.ErrMismatch) && !errors.Is(err, blobs.ErrDamaged) || len(got) >= len(data) {
						t.Errorf("%s: %d bytes, %v", name, len(got), err)
					}
					done <- struct{}{}
				}()
			}
			for range 3 {
				<-done
			}
			wantGone(t, blobFile(dir, describe(data)), partFile(dir, describe(data)))
		}
	})
}

// TestEndlessSourceIsCutOff: no more than the announced bytes reach the disk, or
// even leave the source.
func TestEndlessSourceIsCutOff(t *testing.T) {
	dir := t.TempDir()
	s := newStore(t, dir, blobs.Options{MaxUnknown: 1 << 20})
	d := describe(random(12, 1<<19))
	for _, size := range []int64{d.Size, -1} {
		var sent int64
		src := func(context.Context, int64) (io.ReadCloser, int64, error) {
			return io.NopCloser(readerFunc(func(b []byte) (int, error) {
				sent += int64(len(b))
				clear(b)
				return len(b), nil
			})), 0, nil
		}
		err := s.Fetch(t.Context(), blobs.Descriptor{Digest: d.Digest, Size: size}, src, nil)
		if limit := map[int64]int64{d.Size: d.Size, -1: 1 << 20}[size]; !errors.Is(err, blobs.ErrMismatch) || sent != limit+1 {
			t.Errorf("size %d: %d bytes were taken, %v", size, sent, err)
		}
	}
	if u, err := s.Usage(); u.Bytes != 0 || err != nil {
		t.Errorf("%+v, %v", u, err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// TestSilentReaderIsNoLoop: a source whose reads bring neither bytes nor an error is
// one that stalls.
func TestSilentReaderIsNoLoop(t *testing.T) {
	dir := t.TempDir()
	s := newStore(t, dir, blobs.Options{Stall: time.Millisecond})
	src := func(context.Context, int64) (io.ReadCloser, int64, error) {
		return io.NopCloser(readerFunc(func([]byte) (int, error) { return 0, nil })), 0, nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.Fetch(ctx, describe([]byte("x")), src, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// TestDamagedPartialUnderReaders: who has read wrong bytes is told so, who has not
// goes on, whether they read while the download begins again or afterwards.
func TestDamagedPartialUnderReaders(t *testing.T) {
	for _, late := range []time.Duration{0, 9 * time.Second, time.Minute} {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			data := random(13, 200_000)
			d := describe(data)
			plant(t, partFile(dir, d), make([]byte, 100_000))
			s := newStore(t, dir, blobs.Options{})
			slow := trouble{drip: 30_000, every: time.Second}
			o := &origin{data: data, plan: []trouble{slow, slow}}
			open := func() io.ReadCloser {
				r, err := s.Open(t.Context(), d, o.source, nil)
				if err != nil {
					t.Fatal(err)
				}
				return r
			}
			hasty, patient := open(), open()
			if _, err := io.ReadFull(hasty, make([]byte, 99_999)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(late) // the download begins again after 4 and ends after 11 seconds
			if _, err := io.Copy(io.Discard, hasty); !errors.Is(err, blobs.ErrDamaged) || errs.HintOf(err) == "" {
				t.Errorf("the hasty reader: %v", err)
			}
			for name, r := range map[string]io.ReadCloser{"patient": patient, "new": open()} {
				if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data) {
					t.Errorf("the %s reader: %d bytes, %v", name, len(got), err)
				}
				if err := r.Close(); err != nil {
					t.Error(err)
				}
			}
			if err := hasty.Close(); err != nil {
				t.Error(err)
			}
			if asked := o.asked(); !slices.Equal(asked, []int64{100_000, 0}) {
				t.Errorf("asked for %v", asked)
			}
			wantStored(t, dir, data)
		})
	}
}

// TestGivenUpBlobOfUnknownSize: that its readers have gone is not the partial's fault.
func TestGivenUpBlobOfUnknownSize(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, dir, blobs.Options{})
		data := random(16, 1000)
		d := blobs.Descriptor{Digest: describe(data).Digest, Size: -1}
		o := &origin{data: data, plan: []trouble{{after: 300, hang: true}, {after: 400, hang: true}}}
		for range 2 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if err := s.Fetch(ctx, d, o.source, nil); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			cancel()
		}
		if err := s.Fetch(t.Context(), d, o.source, nil); err != nil || !slices.Equal(o.asked(), []int64{0, 300, 700}) {
			t.Errorf("%v, asked for %v", err, o.asked())
		}
	})
}

// TestPutDuringDownload: both bring the same.
func TestPutDuringDownload(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, dir, blobs.Options{})
		data := random(17, 1000)
		pr, pw := io.Pipe()
		r, err := s.Open(t.Context(), describe(data), pipe(pr), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close() //nolint:errcheck // it was only read
		if _, err := pw.Write(data[:500]); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Put(t.Context(), bytes.NewReader(data), 1000); err != nil {
			t.Fatal(err)
		}
		if _, err := pw.Write(data[500:]); err != nil {
			t.Fatal(err)
		}
		if err := pw.Close(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		wantStored(t, dir, data)
	})
}

// TestWrongSizeInDescriptor: the digest is right, and the size is not; whoever has
// the right size is not disturbed.
func TestWrongSizeInDescriptor(t *testing.T) {
	data := random(14, 100_000)
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, dir, blobs.Options{})
		lie := func(size int64) {
			t.Helper()
			d := describe(data)
			d.Size = size
			o := &origin{data: data}
			got, err := readAll(t, s, d, o.source)
			if !errors.Is(err, blobs.ErrMismatch) || len(got) >= len(data) {
				t.Errorf("size %d: %d bytes, %v", size, len(got), err)
			}
			if err := s.Fetch(t.Context(), d, o.source, nil); !errors.Is(err, blobs.ErrMismatch) {
				t.Errorf("size %d: Fetch says %v", size, err)
			}
			if s.Has(d) {
				t.Errorf("Has it with size %d", size)
			}
		}
		lie(99_999)
		lie(100_001)
		wantGone(t, blobFile(dir, describe(data)))
		if err := s.Fetch(t.Context(), describe(data), (&origin{data: data}).source, nil); err != nil {
			t.Fatal(err)
		}
		lie(99_999)
		lie(100_001)
		wantStored(t, dir, data)

		// Two at once, of which the second lies: the first does not know the size.
		for _, size := range []int64{99_999, 100_001} {
			if err := s.Delete(describe(data).Digest); err != nil {
				t.Fatal(err)
			}
			hold := &origin{data: data, plan: []trouble{{drip: 1000, every: time.Second}}}
			done := make(chan error, 1)
			go func() {
				done <- s.Fetch(t.Context(), blobs.Descriptor{Digest: describe(data).Digest, Size: -1}, hold.source, nil)
			}()
			synctest.Wait()
			if err := s.Fetch(t.Context(), blobs.Descriptor{Digest: describe(data).Digest, Size: size}, hold.source, nil); !errors.Is(err, blobs.ErrMismatch) {
				t.Errorf("size %d: %v", size, err)
			}
			if err := <-done; err != nil {
				t.Errorf("the honest one: %v", err)
			}
		}

		// Two at once, of which the first lies.
		if err := s.Delete(describe(data).Digest); err != nil {
			t.Fatal(err)
		}
		slow := &origin{data: data, plan: []trouble{{drip: 1000, every: time.Second}}}
		failed := make(chan error, 1)
		go func() {
			failed <- s.Fetch(t.Context(), blobs.Descriptor{Digest: describe(data).Digest, Size: 50_000}, slow.source, nil)
		}()
		synctest.Wait()
		if err := s.Fetch(t.Context(), describe(data), slow.source, nil); err != nil {
			t.Errorf("the honest one: %v", err)
		}
		if err := <-failed; !errors.Is(err, blobs.ErrMismatch) {
			t.Errorf("the liar: %v", err)
		}
	})
}

// TestLongerThanOneKnows: who knows the size does not get the last byte unverified
// either where the download, which another began, has gone on beyond it.
func TestLongerThanOneKnows(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, dir, blobs.Options{})
		data := random(18, 1000)
		o := &origin{data: data, plan: []trouble{{drip: 1100, every: time.Second, extra: make([]byte, 500)}}}
		failed := make(chan error, 1)
		go func() {
			failed <- s.Fetch(t.Context(), blobs.Descriptor{Digest: describe(data).Digest, Size: -1}, o.source, nil)
		}()
		synctest.Wait()
		r, err := s.Open(t.Context(), describe(data), pipe(io.NopCloser(iotest.ErrReader(errDenied))), nil)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.ReadFull(r, make([]byte, 1000)); n != 999 || !errors.Is(err, errDenied) && !errors.Is(err, blobs.ErrDamaged) {
			t.Errorf("%d bytes, %v", n, err)
		}
		if err := <-failed; !errors.Is(err, blobs.ErrMismatch) {
			t.Errorf("who began: %v", err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestNoRoom(t *testing.T) {
	dir := t.TempDir()
	data := random(15, 1000)
	plant(t, partFile(dir, describe(data)), data[:200])
	free := int64(799)
	s := newStore(t, dir, blobs.Options{FreeSpace: func(string) (int64, error) { return free, nil }})
	o := &origin{data: data}
	err := s.Fetch(t.Context(), describe(data), o.source, nil)
	if errs.KindOf(err) != errs.Unavailable || !strings.Contains(errs.HintOf(err), dir) || len(o.asked()) != 0 {
		t.Errorf("%v (hint %q), asked for %v", err, errs.HintOf(err), o.asked())
	}
	free = 800
	if err := s.Fetch(t.Context(), describe(data), o.source, nil); err != nil || !slices.Equal(o.asked(), []int64{200}) {
		t.Errorf("%v, asked for %v", err, o.asked())
	}
}
