package ext4

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"banger/internal/base/testneed"
)

// recorder is an image in memory that keeps what was written to it, in order.
type recorder struct {
	patched
	writes []recorded
}

// recorded is a write, or a Sync if b is nil.
type recorded struct {
	off int64
	b   []byte
}

func newRecorder(image []byte) *recorder { return &recorder{patched: *newPatched(image)} }

func (r *recorder) WriteAt(b []byte, off int64) (int, error) {
	r.writes = append(r.writes, recorded{off, bytes.Clone(b)})
	return r.patched.WriteAt(b, off)
}

func (r *recorder) Sync() error { r.writes = append(r.writes, recorded{}); return nil }

// crashSessions are edit sessions that are interrupted everywhere.
var crashSessions = []struct {
	name string
	f    func(x *Tx) error
}{
	{"ten steps", tenSteps},
	{"replace", func(x *Tx) error {
		return x.WriteFile("/tree/3", bytes.NewReader(pattern(9, 20_000)), Attr{Mode: 0o600})
	}},
	{"modify", func(x *Tx) error {
		w, err := x.Modify("/tree/large")
		if err != nil {
			return err
		}
		w.WriteAt([]byte("new"), 5000)
		w.WriteAt([]byte("more"), 100_000)
		return w.Close()
	}},
	{"remove all", func(x *Tx) error { return x.RemoveAll("/tree") }},
	{"names", func(x *Tx) error {
		for i := range 60 {
			if err := x.Symlink("somewhere", fmt.Sprintf("/tree/link%d", i), Attr{}); err != nil {
				return err
			}
		}
		if err := x.Rename("/tree/dir", "/moved"); err != nil {
			return err
		}
		return x.Link("/tree/large", "/moved/hard")
	}},
	{"attributes", func(x *Tx) error {
		for _, p := range []string{"/", "/tree", "/tree/3", "/tree/large"} {
			if err := x.SetXattr(p, "user.a", pattern(len(p), 200)); err != nil {
				return err
			}
		}
		return x.Truncate("/tree/large", 3)
	}},
}

// tenSteps is the session that is measured: mkdir, three attributes, a file of 3 kB,
// three attributes, one of 300 kB, mode.
func tenSteps(x *Tx) error {
	a := Attr{Mode: 0o755}
	steps := []func() error{
		func() error { return x.Mkdir("/new", a) },
		func() error { return x.Chmod("/new", 0o700) },
		func() error { return x.SetOwner("/new", 1000, 1000) },
		func() error { return x.SetTimes("/new", fixedTime, fixedTime) },
		func() error { return x.WriteFile("/new/small", bytes.NewReader(data300k[:3000]), a) },
		func() error { return x.Chmod("/new/small", 0o600) },
		func() error { return x.SetOwner("/new/small", 1000, 1000) },
		func() error { return x.SetTimes("/new/small", fixedTime, fixedTime) },
		func() error { return x.WriteFile("/new/large", bytes.NewReader(data300k), a) },
		func() error { return x.Chmod("/new/large", 0o600) },
	}
	for i, f := range steps {
		if err := f(); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	return nil
}

var data300k = pattern(77, 300_000)

func plant(t testing.TB, path string) {
	session(t, path, func(x *Tx) {
		must(t, x.MkdirAll("/tree/dir/sub", Attr{Mode: 0o755}))
		for i := range 8 {
			must(t, x.WriteFile(fmt.Sprintf("/tree/%d", i), bytes.NewReader(pattern(i, i*700)), Attr{Mode: 0o644}))
		}
		must(t, x.WriteFile("/tree/large", bytes.NewReader(pattern(8, 150_000)), Attr{Mode: 0o644}))
		must(t, x.SetXattr("/tree/large", "user.block", pattern(1, 400)))
	})
}

// TestCrash interrupts sessions after each write, and loses and reorders writes
// between two Syncs. Whoever opens the image then finds the old tree or the new one.
func TestCrash(t *testing.T) {
	for _, im := range []struct {
		name, args string
		mib        int
	}{
		{"1k", "-t ext4 -b 1024 -J size=1 -N 256 -O orphan_file", 8},
		{"4k", "-t ext4 -b 4096 -J size=4 -N 256", 16},
		{"ext3", "-t ext3 -b 1024 -J size=1 -N 256", 8},
	} {
		t.Run(im.name, func(t *testing.T) {
			t.Parallel()
			path := mkfsImage(t, im.args, im.mib)
			plant(t, path)
			image, err := os.ReadFile(path)
			must(t, err)
			for i, s := range crashSessions {
				if im.name != "1k" && i%2 == 1 && os.Getenv("BANGER_EXT4_SEED") == "" {
					continue // left to a long run
				}
				t.Run(s.name, func(t *testing.T) { crashSession(t, image, s.f) })
			}
			t.Run("dirty", func(t *testing.T) {
				// The image of a crash after the commit is what the next session finds.
				crashed := interrupted(t, image, crashSessions[0].f)
				crashSession(t, crashed, func(x *Tx) error { return x.RemoveAll("/new") })
			})
		})
	}
}

// interrupted is an image whose session stopped once its transaction was in the journal.
func interrupted(t *testing.T, image []byte, f func(x *Tx) error) []byte {
	r := recordSession(t, image, f)
	syncs := 0
	b := bytes.Clone(image)
	for _, w := range r.writes {
		if w.b == nil {
			if syncs++; syncs == 2 {
				break
			}
		}
		copy(b[w.off:], w.b)
	}
	return b
}

func recordSession(t *testing.T, image []byte, f func(x *Tx) error) *recorder {
	r := newRecorder(image)
	o := testOptions
	o.NoSync = false
	x, err := Edit(r, int64(len(image)), &o)
	must(t, err)
	must(t, f(x))
	must(t, x.Commit())
	return r
}

func crashSession(t *testing.T, image []byte, f func(x *Tx) error) {
	r := recordSession(t, image, f)
	old, fresh := linesOf(t, newPatched(image)), linesOf(t, &r.patched)
	if old.diff(fresh) == "" {
		t.Fatal("the session changes nothing")
	}
	j := &crashJudge{t: t, old: old, fresh: fresh, path: filepath.Join(testneed.Memory(t), "image")}
	rng := rand.New(rand.NewPCG(1, 2))
	base := newPatched(image) // what is durable for sure
	now := newPatched(image)
	start := 0
	for i := 0; i <= len(r.writes); i++ {
		j.judge(now, fmt.Sprintf("after %d of %d writes", i, len(r.writes)), i == len(r.writes))
		if i == len(r.writes) {
			break
		}
		if w := r.writes[i]; w.b != nil {
			now.WriteAt(w.b, w.off)
			continue
		}
		j.reorder(rng, base, r.writes[start:i], i)
		base = now.clone()
		start = i + 1
	}
	j.reorder(rng, base, r.writes[start:], len(r.writes))
	t.Logf("%d writes and Syncs, %d crashes judged, %d of them by e2fsck; %d old, %d new", len(r.writes), j.count, j.fscks, j.olds, j.news)
	if j.olds == 0 || j.news == 0 {
		t.Error("not both outcomes were seen")
	}
}

type crashJudge struct {
	t                        *testing.T
	old, fresh               treeLines
	path                     string
	count, fscks, olds, news int
}

// reorder judges images in which some of the writes since a Sync are lost and the
// rest came in another order.
func (j *crashJudge) reorder(rng *rand.Rand, base *patched, writes []recorded, at int) {
	if len(writes) < 2 {
		return
	}
	for k := range 5 {
		b := base.clone()
		for _, w := range rng.Perm(len(writes)) {
			if rng.IntN(4) > 0 {
				// A write of several blocks may get lost in part.
				c := writes[w].b
				if n := len(c) / 1024; n > 1 && rng.IntN(3) == 0 {
					c = c[:rng.IntN(n)*1024]
				}
				b.WriteAt(c, writes[w].off)
			}
		}
		j.judge(b, fmt.Sprintf("reordered before %d, %d", at, k), false)
	}
}

func (j *crashJudge) judge(b *patched, what string, last bool) {
	j.t.Helper()
	im, err := Open(b, int64(len(b.base)))
	if err != nil {
		j.t.Fatalf("%s: %v", what, err)
	}
	m, err := manifestOf(im)
	if err != nil {
		j.t.Fatalf("%s: %v", what, err)
	}
	isNew := m.diff(j.fresh) == ""
	if !isNew && m.diff(j.old) != "" {
		j.t.Fatalf("%s: neither the old tree nor the new one:\n%s\n%s", what, m.diff(j.old), m.diff(j.fresh))
	}
	if isNew {
		j.news++
	} else {
		j.olds++
	}
	if j.count++; j.count%14 != 0 && !last {
		return
	}
	j.fscks++
	must(j.t, os.WriteFile(j.path, b.whole(), 0o600))
	if last {
		quiet(j.t, j.path)
	}
	if j.fscks%2 == 0 {
		testneed.Run(j.t, "e2fsck", "-fy", "-E", "journal_only", j.path)
	} else {
		begin(j.t, j.path).Close()
	}
	quiet(j.t, j.path)
	after, err := os.ReadFile(j.path)
	must(j.t, err)
	want := j.old
	if isNew {
		want = j.fresh
	}
	got := linesOf(j.t, newPatched(after))
	delete(got, ".")
	clean := treeLines{}
	for k, l := range want {
		if k != "." {
			clean[k] = l
		}
	}
	if d := got.diff(clean); d != "" {
		j.t.Fatalf("%s: after recovery: %s", what, d)
	}
}

func linesOf(t *testing.T, p *patched) treeLines {
	t.Helper()
	im, err := Open(p, int64(len(p.base)))
	if err != nil {
		t.Fatal(err)
	}
	return mustManifest(t, im)
}

// TestFailedWrites lets each write of a session fail: it reports it, and the image is
// as after a crash.
func TestFailedWrites(t *testing.T) {
	path := mkfsImage(t, "-t ext4 -b 1024 -J size=1 -N 256", 8)
	plant(t, path)
	image, err := os.ReadFile(path)
	must(t, err)
	good := recordSession(t, image, tenSteps)
	old, fresh := linesOf(t, newPatched(image)), linesOf(t, &good.patched)
	for i := 0; i < len(good.writes); i++ {
		r := &failing{recorder{patched: *newPatched(image)}, i}
		x, err := Edit(r, int64(len(image)), &EditOptions{Now: func() time.Time { return fixedTime }})
		must(t, err)
		err = tenSteps(x)
		if err == nil {
			err = x.Commit()
		}
		x.Close()
		if err == nil || !strings.Contains(err.Error(), "broken") {
			t.Fatalf("write %d: %v", i, err)
		}
		m := linesOf(t, &r.patched)
		if m.diff(old) != "" && m.diff(fresh) != "" {
			t.Fatalf("write %d: neither old nor new: %s", i, m.diff(old))
		}
	}
}

type failing struct {
	recorder
	left int
}

func (f *failing) WriteAt(b []byte, off int64) (int, error) {
	if f.left--; f.left < 0 {
		return 0, fmt.Errorf("the disk is broken")
	}
	return f.recorder.WriteAt(b, off)
}

func (f *failing) Sync() error {
	if f.left--; f.left < 0 {
		return fmt.Errorf("the disk is broken")
	}
	return f.recorder.Sync()
}
