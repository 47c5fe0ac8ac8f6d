package blobs_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"banger/internal/base/errs"
	"banger/internal/blobs"
)

// put stores data and says when it was used last: so many hours ago.
func put(t *testing.T, s *blobs.Store, dir string, data []byte, hours int) blobs.Descriptor {
	t.Helper()
	d, err := s.Put(t.Context(), bytes.NewReader(data), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if want := describe(data); d != want {
		t.Fatalf("Put = %+v, want %+v", d, want)
	}
	age(t, blobFile(dir, d), hours)
	return d
}

func age(t *testing.T, path string, hours int) {
	t.Helper()
	if err := os.Chtimes(path, time.Time{}, time.Now().Add(-time.Duration(hours)*time.Hour)); err != nil {
		t.Fatal(err)
	}
}

// left returns which of the blobs are there, by their place in ds.
func left(t *testing.T, s *blobs.Store, ds []blobs.Descriptor) []int {
	t.Helper()
	var got []int
	for i, d := range ds {
		if s.Has(d) {
			got = append(got, i)
		}
	}
	return got
}

func TestPrune(t *testing.T) {
	const each = 1000
	setUp := func(t *testing.T) (*blobs.Store, string, []blobs.Descriptor) {
		dir := t.TempDir()
		s := newStore(t, dir, blobs.Options{})
		var ds []blobs.Descriptor
		for i := range 5 { // 0 is the oldest
			ds = append(ds, put(t, s, dir, random(30+uint64(i), each), 10-i))
		}
		return s, dir, ds
	}
	open := func(t *testing.T, s *blobs.Store, d blobs.Descriptor) io.ReadCloser {
		t.Helper()
		r, err := s.Open(t.Context(), d, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	check := func(t *testing.T, s *blobs.Store, ds []blobs.Descriptor, limit int64, keep func(string) bool, freed int64, want ...int) {
		t.Helper()
		got, err := s.Prune(limit, keep)
		if there := left(t, s, ds); err != nil || got != freed || !slices.Equal(there, want) {
			t.Errorf("Prune = %d, %v with %v left; want %d with %v", got, err, there, freed, want)
		}
	}

	t.Run("oldest first", func(t *testing.T) {
		s, _, ds := setUp(t)
		check(t, s, ds, 5*each, nil, 0, 0, 1, 2, 3, 4)
		check(t, s, ds, 5*each-1, nil, each, 1, 2, 3, 4)
		check(t, s, ds, 2*each+10, nil, 2*each, 3, 4)
		check(t, s, ds, 0, nil, 2*each)
	})
	t.Run("use makes young", func(t *testing.T) {
		s, _, ds := setUp(t)
		if err := open(t, s, ds[0]).Close(); err != nil {
			t.Fatal(err)
		}
		if err := s.Fetch(t.Context(), ds[1], nil, nil); err != nil {
			t.Fatal(err)
		}
		check(t, s, ds, 2*each, nil, 3*each, 0, 1)
	})
	t.Run("keep", func(t *testing.T) {
		s, _, ds := setUp(t)
		check(t, s, ds, 0, func(digest string) bool { return digest == ds[2].Digest }, 4*each, 2)
	})
	t.Run("open ones stay", func(t *testing.T) {
		s, _, ds := setUp(t)
		r := open(t, s, ds[1])
		check(t, s, ds, 0, nil, 4*each, 1)
		if err := s.Delete(ds[1].Digest); errs.KindOf(err) != errs.Conflict {
			t.Errorf("Delete of an open blob: %v", err)
		}
		got, err := io.ReadAll(r)
		if !bytes.Equal(got, random(31, each)) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		check(t, s, ds, 0, nil, 0, 1) // at its end, and open
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		check(t, s, ds, 0, nil, each)
	})
	t.Run("partials go too, unless they grow", func(t *testing.T) {
		s, dir, ds := setUp(t)
		idle, growing := describe(random(40, each)), describe(random(41, each))
		plant(t, partFile(dir, idle), random(40, 500))
		age(t, partFile(dir, idle), 20)
		pr, pw := io.Pipe()
		r, err := s.Open(t.Context(), growing, pipe(pr), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pw.Write(random(41, each)[:700]); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(r, make([]byte, 600)); err != nil {
			t.Fatal(err)
		}
		if u, err := s.Usage(); u != (blobs.Usage{Blobs: 5, Partials: 2, Bytes: 5*each + 500 + 700}) || err != nil {
			t.Errorf("Usage = %+v, %v", u, err)
		}
		check(t, s, ds, 4*each, nil, 500+2*each, 2, 3, 4)
		wantGone(t, partFile(dir, idle))
		if _, err := pw.Write(random(41, each)[700:]); err != nil {
			t.Fatal(err)
		}
		if err := pw.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(r); err != nil {
			t.Error(err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		wantStored(t, dir, random(41, each))
	})
}

// TestCap: the store keeps to it by itself after each blob that comes in, and when
// it is opened.
func TestCap(t *testing.T) {
	dir := t.TempDir()
	s := newStore(t, dir, blobs.Options{Max: 2500})
	var ds []blobs.Descriptor
	for i := range 4 {
		data := random(50+uint64(i), 1000)
		ds = append(ds, describe(data))
		if i%2 == 0 {
			put(t, s, dir, data, 10-i)
			continue
		}
		if err := s.Fetch(t.Context(), ds[i], (&origin{data: data}).source, nil); err != nil {
			t.Fatal(err)
		}
		age(t, blobFile(dir, ds[i]), 10-i)
	}
	if got := left(t, s, ds); !slices.Equal(got, []int{2, 3}) {
		t.Errorf("%v are left", got)
	}
	// One larger than the cap stays while it is read, and goes with the next.
	large := random(60, 3000)
	got, err := readAll(t, s, describe(large), (&origin{data: large}).source)
	if err != nil || !bytes.Equal(got, large) || !s.Has(describe(large)) || len(left(t, s, ds)) != 0 {
		t.Errorf("a blob above the cap: %d bytes, %v; %v are left", len(got), err, left(t, s, ds))
	}
	age(t, blobFile(dir, describe(large)), 1)
	d := put(t, s, dir, random(61, 10), 0)
	if s.Has(describe(large)) || !s.Has(d) {
		t.Errorf("the large one is there: %t, the new one: %t", s.Has(describe(large)), s.Has(d))
	}
	s.SetMax(10)
	if !s.Has(d) {
		t.Error("with a cap that it just fits below, it is gone")
	}
	s.SetMax(0)
	if e := put(t, s, dir, random(62, 3000), 0); !s.Has(d) || !s.Has(e) {
		t.Error("without a cap, something is gone")
	}
	s.SetMax(3005)
	if s.Has(d) {
		t.Error("a new cap does not count at once")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	d = describe(random(62, 3000))
	if s := newStore(t, dir, blobs.Options{Max: 5}); s.Has(d) {
		t.Error("opened with a lower cap, the store keeps what it had")
	}
}

func TestListStatDelete(t *testing.T) {
	dir := t.TempDir()
	s := newStore(t, dir, blobs.Options{})
	data := random(70, 1000)
	d := put(t, s, dir, data, 3)
	other := describe(random(71, 1000))
	plant(t, partFile(dir, other), random(71, 300))
	// Names that are not ours are left alone.
	foreign := []string{filepath.Join(dir, "sha256", "README"), filepath.Join(dir, "sha256", strings.Repeat("a", 63)), filepath.Join(dir, "notes")}
	for _, path := range foreign {
		plant(t, path, data)
	}
	if err := os.Mkdir(filepath.Join(dir, "sha256", strings.Repeat("b", 64)), 0o700); err != nil {
		t.Fatal(err)
	}
	all, err := s.List()
	if err != nil || len(all) != 2 {
		t.Fatalf("List = %+v, %v", all, err)
	}
	for _, i := range all {
		want := d.Digest
		if i.Partial {
			want = other.Digest
		}
		if i.Digest != want || i.Size != map[bool]int64{false: 1000, true: 300}[i.Partial] || time.Since(i.Used) > 4*time.Hour {
			t.Errorf("%+v", i)
		}
	}
	if i, err := s.Stat(d.Digest); err != nil || i.Size != 1000 || time.Since(i.Used) < 2*time.Hour {
		t.Errorf("Stat = %+v, %v", i, err)
	}
	if _, err := s.Stat(other.Digest); errs.KindOf(err) != errs.NotFound {
		t.Errorf("Stat of a partial: %v", err)
	}
	if s.Has(other) || s.Has(blobs.Descriptor{Digest: d.Digest, Size: 999}) || !s.Has(blobs.Descriptor{Digest: d.Digest, Size: -1}) {
		t.Error("Has is wrong")
	}
	for range 2 {
		if err := errors.Join(s.Delete(d.Digest), s.Delete(other.Digest)); err != nil {
			t.Error(err)
		}
	}
	wantGone(t, blobFile(dir, d), partFile(dir, other))
	if err := s.Delete("sha256:../../x"); errs.KindOf(err) != errs.Invalid {
		t.Errorf("Delete of no digest: %v", err)
	}
	for _, path := range foreign {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
}

func TestOpenSweeps(t *testing.T) {
	dir := t.TempDir()
	whole, part, none := describe(random(80, 500)), describe(random(81, 500)), describe(random(82, 500))
	plant(t, blobFile(dir, whole), random(80, 500))
	plant(t, partFile(dir, whole), random(80, 200))
	plant(t, partFile(dir, part), random(81, 200))
	plant(t, partFile(dir, none), nil)
	plant(t, filepath.Join(dir, "spool", "123"), random(83, 500))
	s := newStore(t, dir, blobs.Options{})
	wantGone(t, partFile(dir, whole), partFile(dir, none), filepath.Join(dir, "spool", "123"))
	if u, err := s.Usage(); u != (blobs.Usage{Blobs: 1, Partials: 1, Bytes: 700}) || err != nil {
		t.Errorf("%+v, %v", u, err)
	}
	file := filepath.Join(t.TempDir(), "file")
	plant(t, file, nil)
	if _, err := blobs.Open(file, blobs.Options{}); errs.KindOf(err) != errs.Unavailable || !strings.Contains(errs.HintOf(err), file) {
		t.Errorf("Open of a file: %v", err)
	}
}

func TestPut(t *testing.T) {
	dir := t.TempDir()
	s := newStore(t, dir, blobs.Options{})
	data := random(90, 300_000)
	d := describe(data)
	if got, err := s.Put(t.Context(), iotest.HalfReader(bytes.NewReader(data)), d.Size); got != d || err != nil {
		t.Errorf("Put = %+v, %v", got, err)
	}
	wantStored(t, dir, data)

	// It is as good as a download: it mends damage and ends a partial.
	plant(t, blobFile(dir, d), make([]byte, 300_000))
	plant(t, partFile(dir, d), data[:100])
	if _, err := s.Put(t.Context(), bytes.NewReader(data), 1<<62); err != nil {
		t.Error(err)
	}
	wantStored(t, dir, data)

	if err := s.Delete(d.Digest); err != nil {
		t.Fatal(err)
	}
	broken := errs.New(errs.Invalid, "the archive is broken")
	ended, cancel := context.WithCancel(t.Context())
	for _, c := range []struct {
		ctx   context.Context
		r     io.Reader
		limit int64
		kind  errs.Kind
	}{
		{t.Context(), bytes.NewReader(data), d.Size - 1, errs.Invalid},
		{t.Context(), io.MultiReader(bytes.NewReader(data), iotest.ErrReader(broken)), 1 << 20, errs.Invalid},
		{ended, io.MultiReader(bytes.NewReader(data), readerFunc(func([]byte) (int, error) { cancel(); return 0, nil })), 1 << 20, errs.Canceled},
	} {
		if got, err := s.Put(c.ctx, c.r, c.limit); errs.KindOf(err) != c.kind || got != (blobs.Descriptor{}) {
			t.Errorf("Put = %+v, %v; want %s", got, err, c.kind)
		}
	}
	if u, err := s.Usage(); u != (blobs.Usage{}) || err != nil {
		t.Errorf("left: %+v, %v", u, err)
	}
	if spools, err := os.ReadDir(filepath.Join(dir, "spool")); len(spools) != 0 || err != nil {
		t.Errorf("spools: %v, %v", spools, err)
	}
}
