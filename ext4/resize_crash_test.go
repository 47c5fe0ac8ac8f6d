package ext4

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"banger/internal/base/testneed"
)

// resizeRecorder is an image in memory that keeps what was done to it, in order.
type resizeRecorder struct {
	now  []byte
	acts []resizeAct
	left int // until the disk breaks; negative for never
}

// resizeAct is a write, a new size if b is nil, or a Sync if off is negative.
type resizeAct struct {
	off int64
	b   []byte
}

func (r *resizeRecorder) act(a resizeAct) error {
	if r.left == 0 {
		return errors.New("the disk is broken")
	}
	r.left--
	if a.b != nil && a.off+int64(len(a.b)) > int64(len(r.now)) {
		return fmt.Errorf("%d bytes at %d are outside the image", len(a.b), a.off)
	}
	r.now = a.apply(r.now, len(a.b))
	r.acts = append(r.acts, a)
	return nil
}

func (r *resizeRecorder) ReadAt(b []byte, off int64) (int, error) {
	return bytes.NewReader(r.now).ReadAt(b, off)
}

func (r *resizeRecorder) WriteAt(b []byte, off int64) (int, error) {
	return len(b), r.act(resizeAct{off, bytes.Clone(b)})
}
func (r *resizeRecorder) Sync() error               { return r.act(resizeAct{off: -1}) }
func (r *resizeRecorder) Truncate(size int64) error { return r.act(resizeAct{off: size}) }

// apply does it to b, or only a part of a write.
func (a resizeAct) apply(b []byte, part int) []byte {
	switch {
	case a.off < 0:
		return b
	case a.b == nil:
		return setLength(b, a.off)
	}
	if need := a.off + int64(len(a.b)); need > int64(len(b)) {
		b = setLength(b, need) // its Truncate was lost
	}
	copy(b[a.off:], a.b[:min(part, len(a.b))])
	return b
}

func setLength(b []byte, size int64) []byte {
	if size <= int64(len(b)) {
		return bytes.Clone(b[:size])
	}
	return append(bytes.Clone(b), make([]byte, size-int64(len(b)))...)
}

var crashResizes = []struct {
	name, args string
	mib        int
	change     func(f ResizableFile, o *EditOptions) error
}{
	{"reserve", "-t ext4 -b 1024 -g 1024 -G 4 -J size=1 -N 200", 8, func(f ResizableFile, o *EditOptions) error { return Grow(f, 41<<20+5000, o) }},
	{"last-group", "-t ext4 -b 1024 -J size=1 -N 200", 12, func(f ResizableFile, o *EditOptions) error { return Grow(f, 15<<20, o) }},
	{"meta_bg", "-t ext4 -b 1024 -g 1024 -O ^resize_inode -J size=1 -N 200", 8, func(f ResizableFile, o *EditOptions) error { return Grow(f, 40<<20, o) }},
	{"reserve-ends", "-t ext4 -b 1024 -g 512 -J size=1 -N 200 -E resize=20000", 9, func(f ResizableFile, o *EditOptions) error { return Grow(f, 40<<20, o) }},
	{"ext3", "-t ext3 -b 1024 -g 1024 -J size=1 -N 200", 8, func(f ResizableFile, o *EditOptions) error { return Grow(f, 40<<20, o) }},
	{"shrink", "-t ext4 -b 1024 -g 1024 -G 4 -J size=1 -N 200", 40, shrinkAll},
	{"shrink-ext3", "-t ext3 -b 1024 -g 1024 -J size=1 -N 200", 40, shrinkAll},
	{"shrink-meta_bg", "-t ext4 -b 1024 -g 1024 -O meta_bg,^resize_inode -J size=1 -N 200", 40, shrinkAll},
}

// shrinkAll goes down as far as possible.
func shrinkAll(f ResizableFile, o *EditOptions) error {
	var small *SizeError
	err := Shrink(f, 0, o)
	if s, ok := err.(*SizeError); ok { //nolint:errorlint // Shrink returns it as it is
		small = s
		return Shrink(f, small.Limit+1000, o)
	}
	return fmt.Errorf("no limit: %w", err)
}

// TestCrashResize stops a change of size after each write, and loses and reorders
// writes between two Syncs. Whoever comes next finds the old size or the new one,
// and no fault.
func TestCrashResize(t *testing.T) {
	for _, c := range crashResizes {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			path := mkfsImage(t, c.args, c.mib)
			plantFiles(t, path)
			image, err := os.ReadFile(path)
			must(t, err)
			r := &resizeRecorder{now: bytes.Clone(image), left: -1}
			o := testOptions
			o.NoSync = false
			must(t, c.change(r, &o))
			judgeResize(t, image, r)
		})
	}
}

func judgeResize(t *testing.T, image []byte, r *resizeRecorder) {
	j := &resizeJudge{t: t, path: filepath.Join(testneed.Memory(t), "image"), tree: treeOfBytes(t, image), seen: map[uint64]int{}}
	j.sizes = []uint64{j.blocks(image), j.blocks(r.now)}
	rng := rand.New(rand.NewPCG(seedOf(t), 6))
	j.rng = rng
	base, now := bytes.Clone(image), bytes.Clone(image)
	start := 0
	for i := 0; ; i++ {
		j.judge(now, fmt.Sprintf("after %d of %d writes", i, len(r.acts)))
		if i < len(r.acts) && r.acts[i].off >= 0 {
			now = r.acts[i].apply(now, 1<<30)
			continue
		}
		for k := range 2 {
			b := bytes.Clone(base)
			for _, w := range rng.Perm(i - start) {
				if part := 1 << 30; rng.IntN(4) > 0 {
					if rng.IntN(4) == 0 {
						part = rng.IntN(20) * 1024
					}
					b = r.acts[start+w].apply(b, part)
				}
			}
			j.judge(b, fmt.Sprintf("reordered before %d, %d", i, k))
		}
		if i == len(r.acts) {
			break
		}
		base, start = bytes.Clone(now), i+1
	}
	t.Logf("%d writes and Syncs, sizes found: %v", len(r.acts), j.seen)
	if len(j.seen) != 2 {
		t.Error("not both outcomes were seen")
	}
}

type resizeJudge struct {
	t     *testing.T
	path  string
	tree  treeLines
	sizes []uint64 // old and new, in blocks
	seen  map[uint64]int
	rng   *rand.Rand
	count int
}

func (j *resizeJudge) blocks(b []byte) uint64 {
	im, err := Open(bytes.NewReader(b), int64(len(b)))
	must(j.t, err)
	return im.v.sb.Blocks()
}

func (j *resizeJudge) judge(b []byte, what string) {
	j.t.Helper()
	n := j.blocks(b)
	if n != j.sizes[0] && n != j.sizes[1] {
		j.t.Fatalf("%s: %d blocks, neither %d nor %d", what, n, j.sizes[0], j.sizes[1])
	}
	first := j.seen[n] == 0
	j.seen[n]++
	if d := treeOfBytes(j.t, b).diff(j.tree); d != "" {
		j.t.Fatalf("%s: %s", what, d)
	}
	// e2fsck takes far longer than all the rest.
	if !first && j.rng.IntN(3*stepOf(3)) > 0 {
		return
	}
	j.count++
	must(j.t, os.WriteFile(j.path, b, 0o600))
	if j.count%2 == 0 {
		testneed.Run(j.t, "e2fsck", "-fy", "-E", "journal_only", j.path)
	} else {
		begin(j.t, j.path).Close()
	}
	quiet(j.t, j.path)
	im := openImage(j.t, j.path)
	if im.v.sb.Blocks() != n {
		j.t.Fatalf("%s: %d blocks, and %d after the journal was replayed", what, n, im.v.sb.Blocks())
	}
	if d := mustManifest(j.t, im).diff(j.tree); d != "" {
		j.t.Fatalf("%s: after recovery: %s", what, d)
	}
}

func treeOfBytes(t *testing.T, b []byte) treeLines {
	t.Helper()
	im, err := Open(bytes.NewReader(b), int64(len(b)))
	must(t, err)
	return mustManifest(t, im)
}

// TestFailedResize lets each write of a change of size fail.
func TestFailedResize(t *testing.T) {
	t.Parallel()
	path := mkfsImage(t, "-t ext4 -b 1024 -g 1024 -G 4 -J size=1 -N 200", 8)
	plantFiles(t, path)
	image, err := os.ReadFile(path)
	must(t, err)
	o := testOptions
	o.NoSync = false
	tree := treeOfBytes(t, image)
	step := stepOf(5)
	for i, done := int(seedOf(t)%uint64(step)), false; !done; i += step {
		f := &resizeRecorder{now: bytes.Clone(image), left: i}
		done = Grow(f, 20<<20, &o) == nil
		if d := treeOfBytes(t, f.now).diff(tree); d != "" {
			t.Fatalf("write %d: %s", i, d)
		}
	}
}
