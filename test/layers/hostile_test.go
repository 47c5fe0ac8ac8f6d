package layers_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"banger/ext4"
	"banger/internal/base/errs"
	"banger/internal/diskimage"
)

// watch is a source that looks, as it is read, at how much memory and disk what reads it
// has taken.
type watch struct {
	r          io.Reader
	path       string
	read, next int64
	heap, disk int64 // the most, in bytes
}

func (w *watch) Read(p []byte) (int, error) {
	if w.read >= w.next {
		w.look()
		w.next = w.read + 4<<20
	}
	n, err := w.r.Read(p)
	w.read += int64(n)
	return n, err
}

func (w *watch) look() {
	w.heap = max(w.heap, heap())
	var st unix.Stat_t
	if unix.Stat(w.path, &st) == nil {
		w.disk = max(w.disk, st.Blocks*512)
	}
}

// heap is how many bytes objects take, garbage that is not yet collected included.
func heap() int64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	return int64(s[0].Value.Uint64())
}

// bounds are what an attack may take before it is refused.
type bounds struct {
	heap, disk int64 // bytes
	// describe is Options.MaxMemory instead of diskimage's.
	describe int64
}

// small is for what is refused before it has cost anything: buffers, of which the
// largest is that of a sparse map.
var small = bounds{heap: 64 << 20, disk: 8 << 20}

// attack makes a disk of a layer, which must be refused within bounds, with an error
// that says what is wrong.
func attack(t *testing.T, r io.Reader, b bounds, says ...string) {
	t.Helper()
	runtime.GC()
	before := heap()
	path := filepath.Join(t.TempDir(), "disk.ext4")
	w := &watch{r: r, path: path}
	start := time.Now()
	var err error
	if b.describe == 0 {
		_, err = diskimage.FromLayers(t.Context(), path, w)
		refused(t, err)
	} else {
		err = fromLayers(path, b.describe, w)
	}
	took := time.Since(start)
	says = append(says, "")
	for _, s := range says {
		if err == nil || !strings.Contains(err.Error(), s) {
			t.Errorf("got %v, want %q", err, s)
		}
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is still a file: %v", err)
	}
	if w.heap -= before; w.heap > b.heap {
		t.Errorf("it took %d MiB of memory; the bound is %d", w.heap>>20, b.heap>>20)
	}
	if w.disk > b.disk {
		t.Errorf("it took %d MiB of disk; the bound is %d", w.disk>>20, b.disk>>20)
	}
	if took > time.Minute {
		t.Errorf("it took %v", took)
	}
	t.Logf("%v: %d MiB read, %d MiB of memory, %d MiB of disk: %.200v", took.Round(time.Millisecond), w.read>>20, w.heap>>20, w.disk>>20, err)
}

// fromLayers is diskimage.FromLayers with another bound.
func fromLayers(path string, describe int64, layers ...io.Reader) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(path)) }()
	b, err := ext4.NewBuilder(f, &ext4.Options{MaxMemory: describe})
	if err != nil {
		return err
	}
	if err := b.Layers(layers...); err != nil {
		return err
	}
	return b.Finish()
}

// refused checks that an error is the input's fault, and short.
func refused(t testing.TB, err error) {
	t.Helper()
	if errs.KindOf(err) != errs.Invalid {
		t.Errorf("got %v (%v), want one of a bad archive", err, errs.KindOf(err))
	} else if len(err.Error()) > 1000 {
		t.Errorf("an error of %d bytes", len(err.Error()))
	}
}
