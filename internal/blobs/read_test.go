package blobs_test

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"banger/internal/base/errs"
	"banger/internal/base/progress"
	"banger/internal/blobs"
)

func TestReadersShareADownload(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, dir, blobs.Options{})
		data := random(1, 30_000)
		o := &origin{data: data, plan: []trouble{{drip: 1000, every: time.Second}}}
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 7 * time.Second) // the last one comes when all is there
				r, err := s.Open(t.Context(), describe(data), o.source, nil)
				if err != nil {
					t.Error(err)
					return
				}
				defer r.Close() //nolint:errcheck // checked elsewhere
				var got bytes.Buffer
				b := make([]byte, 1+i*99)
				for err == nil {
					var n int
					n, err = r.Read(b)
					got.Write(b[:n])
				}
				if err != io.EOF || !bytes.Equal(got.Bytes(), data) {
					t.Errorf("reader %d: %d bytes, %v", i, got.Len(), err)
				}
			})
		}
		wg.Wait()
		if asked := o.asked(); !slices.Equal(asked, []int64{0}) || o.unclosed() != 0 {
			t.Errorf("asked for %v, %d bodies are open", asked, o.unclosed())
		}
		wantStored(t, dir, data)
		if got, err := readAll(t, s, describe(data), nil); err != nil || !bytes.Equal(got, data) {
			t.Errorf("from the store: %d bytes, %v", len(got), err)
		}
	})
}

func TestReaderFollowsTheDownload(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, dir, blobs.Options{})
		data := random(2, 20)
		pr, pw := io.Pipe()
		r, err := s.Open(t.Context(), describe(data), pipe(pr), nil)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 100)
		for _, part := range [][2]int{{0, 5}, {5, 12}} {
			if _, err := pw.Write(data[part[0]:part[1]]); err != nil {
				t.Fatal(err)
			}
			// One byte is held back: it may be the last.
			if n, err := r.Read(b); err != nil || !bytes.Equal(b[:n], data[max(part[0]-1, 0):part[1]-1]) {
				t.Errorf("after %d bytes came: read %d, %v", part[1], n, err)
			}
		}
		if _, err := pw.Write(data[12:]); err != nil {
			t.Fatal(err)
		}
		if n, err := io.ReadFull(r, b[:8]); n != 8 || err != nil {
			t.Errorf("read %d of 8, %v", n, err)
		}
		if s.Has(describe(data)) {
			t.Error("it is stored before the source has ended")
		}
		last := make(chan error, 1)
		go func() {
			n, err := r.Read(b)
			if n != 1 || b[0] != data[19] {
				err = errors.Join(err, errors.New("not the last byte"))
			}
			last <- err
		}()
		synctest.Wait()
		select {
		case err := <-last:
			t.Errorf("the last byte came before the blob was known to be right: %v", err)
		default:
		}
		if err := errors.Join(pw.Close(), <-last); err != nil {
			t.Error(err)
		}
		if n, err := r.Read(b); n != 0 || err != io.EOF {
			t.Errorf("at the end: %d, %v", n, err)
		}
		if !s.Has(describe(data)) {
			t.Error("EOF before the blob was stored")
		}
		if err := errors.Join(r.Close(), r.Close()); err != nil {
			t.Error(err)
		}
		if _, err := r.Read(b); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("Read after Close: %v", err)
		}
	})
}

// TestDownloadLastsAsLongAsItsReaders: one leaves by Close, one by its context, one
// while its Read waits.
func TestDownloadLastsAsLongAsItsReaders(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, dir, blobs.Options{})
		data := random(3, 100_000)
		o := &origin{data: data, plan: []trouble{{after: 40_000, hang: true}}}
		open := func(ctx context.Context) io.ReadCloser {
			r, err := s.Open(ctx, describe(data), o.source, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait() // it is counted
			return r
		}
		ctx, cancel := context.WithCancel(t.Context())
		first, second, third := open(t.Context()), open(ctx), open(t.Context())
		if err := first.Close(); err != nil {
			t.Error(err)
		}
		cancel()
		if _, err := second.Read(make([]byte, 10)); !errors.Is(err, context.Canceled) {
			t.Errorf("Read after the end of the context: %v", err)
		}
		synctest.Wait()
		if o.unclosed() != 1 {
			t.Fatal("the download has stopped with a reader left")
		}
		read := make(chan error, 1)
		go func() {
			_, err := io.Copy(io.Discard, third)
			read <- err
		}()
		synctest.Wait()
		if err := third.Close(); err != nil {
			t.Error(err)
		}
		if o.unclosed() != 0 {
			t.Error("the download goes on without readers")
		}
		if err := <-read; err == nil {
			t.Error("a Read that Close ended says that all is well")
		}
		if err := second.Close(); err != nil {
			t.Error(err)
		}
		if got, err := readAll(t, s, describe(data), o.source); err != nil || !bytes.Equal(got, data) {
			t.Errorf("resumed: %d bytes, %v", len(got), err)
		}
		if asked := o.asked(); !slices.Equal(asked, []int64{0, 40_000}) {
			t.Errorf("asked for %v", asked)
		}
	})
}

// TestAnothersSourceFails: who shares a download that fails tries its own source.
func TestAnothersSourceFails(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, dir, blobs.Options{})
		data := random(4, 100)
		hold := make(chan struct{})
		bad := func(context.Context, int64) (io.ReadCloser, int64, error) {
			<-hold
			return nil, 0, errs.New(errs.NotFound, "no such blob here")
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := s.Fetch(t.Context(), describe(data), bad, nil); errs.KindOf(err) != errs.NotFound {
				t.Errorf("the one with the bad source: %v", err)
			}
		})
		synctest.Wait()
		good := &origin{data: data}
		wg.Go(func() {
			if got, err := readAll(t, s, describe(data), good.source); err != nil || !bytes.Equal(got, data) {
				t.Errorf("the one with the good source: %d bytes, %v", len(got), err)
			}
		})
		synctest.Wait()
		close(hold)
		wg.Wait()
	})
}

func TestCloseStopsDownloads(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, dir, blobs.Options{})
		data := random(5, 100)
		o := &origin{data: data, plan: []trouble{{after: 50, hang: true}}}
		r, err := s.Open(t.Context(), describe(data), o.source, nil)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if o.unclosed() != 0 {
			t.Error("a download is left")
		}
		if _, err := io.ReadAll(r); !errors.Is(err, context.Canceled) {
			t.Errorf("the reader got %v", err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		_, openErr := s.Open(t.Context(), describe(data), o.source, nil)
		_, putErr := s.Put(t.Context(), bytes.NewReader(data), 100)
		for _, err := range []error{openErr, putErr, s.Fetch(t.Context(), describe(data), o.source, nil)} {
			if errs.KindOf(err) != errs.Canceled {
				t.Errorf("after Close: %v", err)
			}
		}
	})
}

func TestProgress(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, dir, blobs.Options{})
		data := random(6, 100_000)
		o := &origin{data: data, plan: []trouble{{drip: 100, every: 10 * time.Millisecond}}} // ten seconds
		var got []progress.Report
		begin := time.Now()
		if err := s.Fetch(t.Context(), describe(data), o.source, func(r progress.Report) { got = append(got, r) }); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); len(got) < 40 || len(got) > 55 {
			t.Errorf("%d reports in %s", len(got), took)
		}
		var before int64
		for i, r := range got {
			if r.Total != 100_000 || r.Done < before || !strings.HasPrefix(describe(data).Digest, r.Detail) || r.Detail == "" {
				t.Errorf("report %d: %+v after %d", i, r, before)
			}
			before = r.Done
		}
		if before != 100_000 {
			t.Errorf("the last report says %d", before)
		}
		got = nil
		if err := s.Fetch(t.Context(), describe(data), nil, func(r progress.Report) { got = append(got, r) }); err != nil || len(got) != 1 || got[0].Done != 100_000 {
			t.Errorf("what is there: %v, %v", got, err)
		}
	})
}

func TestDigestsAndSizes(t *testing.T) {
	s := newStore(t, t.TempDir(), blobs.Options{})
	data := random(7, 1000)
	good := describe(data).Digest
	for _, digest := range []string{
		"", "sha256:", good[:70], good + "0", strings.ToUpper(good), "md5:" + good[7:], "sha512:" + good[7:], good[7:],
		"sha256:../" + good[10:], "sha256:" + strings.Repeat("g", 64), strings.Repeat("x", 1<<20),
	} {
		_, err := s.Open(t.Context(), blobs.Descriptor{Digest: digest, Size: 1}, nil, nil)
		if errs.KindOf(err) != errs.Invalid || len(err.Error()) > 500 {
			t.Errorf("%.80q: %v", digest, err)
		}
	}
	if err := s.Fetch(t.Context(), blobs.Descriptor{Digest: good, Size: -2}, nil, nil); errs.KindOf(err) != errs.Invalid {
		t.Errorf("size -2: %v", err)
	}
	if _, err := s.Open(t.Context(), describe(data), nil, nil); errs.KindOf(err) != errs.NotFound {
		t.Errorf("a blob that is not there, without a source: %v", err)
	}

	sum := sha512.Sum512(data)
	for _, d := range []blobs.Descriptor{
		{Digest: "sha512:" + hex.EncodeToString(sum[:]), Size: 1000},
		{Digest: good, Size: -1},
		describe(nil),
		{Digest: describe([]byte("x")).Digest, Size: -1},
	} {
		want := data
		switch {
		case d.Size == 0:
			want = nil
		case d.Digest == describe([]byte("x")).Digest:
			want = []byte("x")
		}
		for _, from := range []string{"the source", "the store"} {
			got, err := readAll(t, s, d, (&origin{data: want}).source)
			if err != nil || !bytes.Equal(got, want) || !s.Has(d) {
				t.Errorf("%+v from %s: %d bytes, %v", d, from, len(got), err)
			}
		}
	}
}

// TestCacheMayBeDeleted: what is gone is made again.
func TestCacheMayBeDeleted(t *testing.T) {
	dir := t.TempDir()
	s := newStore(t, dir, blobs.Options{})
	data := random(8, 1000)
	for range 2 {
		if got, err := readAll(t, s, describe(data), (&origin{data: data}).source); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if all, err := s.List(); len(all) != 0 || err != nil {
			t.Errorf("List = %v, %v", all, err)
		}
	}
	if _, err := s.Put(t.Context(), bytes.NewReader(data), 1000); err != nil {
		t.Error(err)
	}
}
