package diskimage

import (
	"os"
	"path/filepath"
	"testing"
)

func TestWriteoutFollowsTheImage(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := &writeout{File: f}
	piece := make([]byte, 1<<20)
	for i, c := range []struct{ off, start, end int64 }{
		{1 << 20, 0, 2 << 20},
		{2 << 20, 0, 3 << 20},
		{1 << 40, 0, 3 << 20}, // what will be moved
		{1 << 20, 0, 3 << 20}, // once more
		{10 << 20, 0, 11 << 20},
		{15 << 20, 16 << 20, 16 << 20}, // enough: it is on its way
		{16 << 20, 16 << 20, 17 << 20},
	} {
		if n, err := w.WriteAt(piece, c.off); n != len(piece) || err != nil {
			t.Fatalf("%d: %d, %v", i, n, err)
		}
		if w.start != c.start || w.end != c.end {
			t.Errorf("%d: %d to %d waits, want %d to %d", i, w.start, w.end, c.start, c.end)
		}
	}
	if info, err := f.Stat(); err != nil || info.Size() != 1<<40+1<<20 {
		t.Errorf("%v, %v", info, err)
	}
}
