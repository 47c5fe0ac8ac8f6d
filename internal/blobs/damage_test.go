package blobs_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
	"testing"
	"testing/synctest"

	"banger/internal/blobs"
)

// TestStoredBlobIsVerified: nobody reads damage to its end, and the next Open mends
// it.
func TestStoredBlobIsVerified(t *testing.T) {
	data := random(20, 300_000)
	flipped := slices.Clone(data)
	flipped[123_456] ^= 4
	for name, stored := range map[string][]byte{
		"flipped": flipped, "empty": {}, "torn": append(slices.Clone(data[:200_000]), make([]byte, 100_000)...),
		"cut off": data[:299_999], "too long": append(slices.Clone(data), 0),
	} {
		for _, unknown := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				dir := t.TempDir()
				s := newStore(t, dir, blobs.Options{})
				d := describe(data)
				plant(t, blobFile(dir, d), stored)
				o := &origin{data: data}
				if unknown {
					d.Size = -1
				}
				for i := 0; ; i++ {
					got, err := readAll(t, s, d, o.source)
					if err == nil {
						if !bytes.Equal(got, data) {
							t.Fatalf("%d wrong bytes, to their end", len(got))
						}
						break
					}
					if !errors.Is(err, blobs.ErrDamaged) || len(got) >= len(data) || i > 0 {
						t.Fatalf("Open %d: %d bytes, %v", i, len(got), err)
					}
					wantGone(t, blobFile(dir, d))
				}
				if asked := o.asked(); !slices.Equal(asked, []int64{0}) {
					t.Errorf("asked for %v", asked)
				}
				wantStored(t, dir, data)
			})
		}
	}
}

// TestExactReadOfDamage: a reader that never asks for EOF, since it knows how many
// bytes there are, does not get them all either.
func TestExactReadOfDamage(t *testing.T) {
	dir := t.TempDir()
	s := newStore(t, dir, blobs.Options{})
	data := random(21, 1000)
	plant(t, blobFile(dir, describe(data)), make([]byte, 1000))
	r, err := s.Open(t.Context(), describe(data), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close() //nolint:errcheck // it was only read
	if n, err := io.ReadFull(r, make([]byte, 1000)); n == 1000 || !errors.Is(err, blobs.ErrDamaged) {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// TestDamageBesideReaders: a reader that finds the file damaged removes that file
// only, not the one that has come in its place.
func TestDamageBesideReaders(t *testing.T) {
	dir := t.TempDir()
	s := newStore(t, dir, blobs.Options{})
	data := random(22, 1000)
	d := describe(data)
	plant(t, blobFile(dir, d), make([]byte, 1000))
	var readers []io.ReadCloser
	for range 2 {
		r, err := s.Open(t.Context(), d, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		readers = append(readers, r)
	}
	for i, r := range readers {
		if _, err := io.ReadAll(r); !errors.Is(err, blobs.ErrDamaged) {
			t.Errorf("reader %d: %v", i, err)
		}
		if s.Has(d) != (i > 0) {
			t.Errorf("after reader %d the store has the blob: %t", i, s.Has(d))
		}
		if err := s.Fetch(t.Context(), d, (&origin{data: data}).source, nil); err != nil {
			t.Error(err)
		}
		wantStored(t, dir, data)
	}
	for _, r := range readers {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestDamageWithoutASource: what is damaged goes, though nothing comes in its place.
func TestDamageWithoutASource(t *testing.T) {
	dir := t.TempDir()
	s := newStore(t, dir, blobs.Options{})
	d := describe(random(24, 1000))
	plant(t, blobFile(dir, d), make([]byte, 999))
	if err := s.Fetch(t.Context(), d, (&origin{plan: []trouble{{refuse: errMissing}}}).source, nil); !errors.Is(err, errMissing) {
		t.Errorf("got %v", err)
	}
	wantGone(t, blobFile(dir, d), partFile(dir, d))
}

// TestPartialIsCutUnderTheDownload: somebody else shortens the file.
func TestPartialIsCutUnderTheDownload(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, dir, blobs.Options{})
		data := random(23, 300_000)
		d := describe(data)
		pr, pw := io.Pipe()
		r, err := s.Open(t.Context(), d, pipe(pr), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pw.Write(data); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // all is in the file, and the source has not ended
		if err := os.Truncate(partFile(dir, d), 1000); err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, r); n != 1000 && n != 0 || !errors.Is(err, blobs.ErrDamaged) {
			t.Errorf("the reader got %d bytes, %v", n, err)
		}
		if err := pw.Close(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		wantGone(t, blobFile(dir, d), partFile(dir, d))
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
}
