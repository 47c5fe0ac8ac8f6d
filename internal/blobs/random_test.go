package blobs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"banger/internal/base/errs"
	"banger/internal/blobs"
)

// TestManyAtOnce: readers that come and go, sources with all kinds of trouble,
// damage on the disk, deletion. Whoever reaches EOF has read the blob, nothing else
// ever lies in the store, and honest sources bring everything in the end.
func TestManyAtOnce(t *testing.T) {
	root := t.TempDir()
	var ended, failed int
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e, f := manyAtOnce(t, filepath.Join(root, fmt.Sprint(seed)), seed)
				ended, failed = ended+e, failed+f
			})
		})
	}
	t.Logf("%d readings came to their end, %d failed", ended, failed)
	if ended < 150 || failed < 150 {
		t.Errorf("%d readings came to their end, %d failed: that is no mixture", ended, failed)
	}
}

func manyAtOnce(t *testing.T, dir string, seed uint64) (ended, failed int) {
	rng := rand.New(rand.NewPCG(seed, 0))
	s := newStore(t, dir, blobs.Options{Max: []int64{0, 70_000}[rng.IntN(2)], Stall: 5 * time.Second})
	datas := [][]byte{random(seed, 60_000), random(seed+1000, 20_000), random(seed+2000, rng.IntN(3))}
	for _, data := range datas {
		if rng.IntN(3) == 0 {
			plant(t, partFile(dir, describe(data)), randomDamage(rng, data))
		}
		if rng.IntN(3) == 0 {
			plant(t, blobFile(dir, describe(data)), randomDamage(rng, data))
		}
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for worker := range uint64(6) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, worker+1))
			for range 6 {
				e, f := readSomehow(t, s, datas[rng.IntN(len(datas))], rng)
				mu.Lock()
				ended, failed = ended+e, failed+f
				mu.Unlock()
				switch rng.IntN(8) {
				case 0:
					if _, err := s.Prune(0, nil); err != nil {
						t.Error(err)
					}
				case 1:
					if err := s.Delete(describe(datas[0]).Digest); err != nil && errs.KindOf(err) != errs.Conflict {
						t.Error(err)
					}
				case 2:
					if _, err := s.Put(t.Context(), bytes.NewReader(datas[1]), 1<<20); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	for _, data := range datas {
		o := &origin{data: data}
		got, err := readAll(t, s, describe(data), o.source)
		if errors.Is(err, blobs.ErrDamaged) {
			got, err = readAll(t, s, describe(data), o.source)
		}
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("in the end: %d bytes, %v", len(got), err)
		}
	}
	return ended, failed
}

// readSomehow reads a blob from a source with troubles, perhaps not to its end.
func readSomehow(t *testing.T, s *blobs.Store, data []byte, rng *rand.Rand) (ended, failed int) {
	o := &origin{data: data}
	for range rng.IntN(4) {
		o.plan = append(o.plan, randomTrouble(rng, len(data)))
	}
	d := describe(data)
	switch rng.IntN(10) {
	case 0:
		d.Size = -1
	case 1:
		d.Size++
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rng.IntN(60_000))*time.Millisecond)
	defer cancel()
	r, err := s.Open(ctx, d, o.source, nil)
	if err != nil {
		t.Errorf("Open: %v", err)
		return 0, 1
	}
	var got bytes.Buffer
	b := make([]byte, 1+rng.IntN(20_000))
	for until := rng.IntN(2*len(data) + 2); err == nil && got.Len() < until; {
		var n int
		n, err = r.Read(b)
		got.Write(b[:n])
		if rng.IntN(4) == 0 {
			time.Sleep(time.Duration(rng.IntN(1000)) * time.Millisecond)
		}
	}
	switch {
	case err == io.EOF && (!bytes.Equal(got.Bytes(), data) || d.Size >= 0 && d.Size != int64(len(data))): //nolint:errorlint // Read returns it bare
		t.Errorf("EOF after %d bytes that are not the %d of the blob", got.Len(), len(data))
	case err != nil && err != io.EOF && d.Size > 0 && int64(got.Len()) >= d.Size: //nolint:errorlint // the same
		t.Errorf("all %d bytes were read before the error %v", got.Len(), err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if err == io.EOF { //nolint:errorlint // the same
		return 1, 0
	}
	return 0, 1
}

func randomTrouble(rng *rand.Rand, size int) trouble {
	tr := trouble{after: rng.IntN(size + 1), drip: rng.IntN(6_000), noRange: rng.IntN(4) == 0}
	tr.every = time.Duration(rng.IntN(500)) * time.Millisecond
	switch rng.IntN(8) {
	case 0:
		tr.cut = true
	case 1:
		tr.end = true
	case 2:
		tr.hang = true
	case 3:
		tr.other = true
	case 4:
		tr.extra = make([]byte, 1+rng.IntN(1000))
	case 5:
		tr.refuse = []error{err500, errMissing, refusal{}}[rng.IntN(3)]
	}
	return tr
}

// randomDamage returns data, or some of it, or what is like it.
func randomDamage(rng *rand.Rand, data []byte) []byte {
	b := slices.Clone(data)
	switch i := rng.IntN(len(b) + 1); rng.IntN(4) {
	case 0:
		return b[:i]
	case 1:
		if i < len(b) {
			b[i] ^= 1
		}
	case 2:
		clear(b[i:])
	case 3:
		b = append(b, make([]byte, i)...)
	}
	return b
}
