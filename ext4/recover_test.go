package ext4

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger/ext4/internal/disk"
	"banger/ext4/internal/jbd2"
	"banger/internal/base/testneed"
)

// staleImage makes an image as a kernel leaves it that was killed: a transaction is in
// the journal and not in its place, and the sums of the superblock, here and
// in the journal, are those of long ago.
func staleImage(t testing.TB, args string, mib int) string {
	t.Helper()
	path := mkfsImage(t, args, mib)
	plant(t, path)
	x := begin(t, path)
	must(t, tenSteps(x))
	sb := *x.v.sb
	sb.SetFreeBlocks(sb.FreeBlocks() + 77)
	sb.FreeInodesCount += 3
	killAfterLog(t, x, &sb)
	return path
}

// killAfterLog stops a session as soon as its transaction is in the journal.
func killAfterLog(t testing.TB, x *Tx, sb *disk.Superblock) {
	t.Helper()
	sb.FeatureIncompat |= disk.IncompatRecover
	must(t, x.writeSuperblock(sb))
	blocks, err := x.blocks(sb)
	must(t, err)
	must(t, x.journal.Log(blocks))
	must(t, x.Close())
}

// emptyStaleImage is staleImage whose journal was emptied, so that only the superblock
// asks for a replay.
func emptyStaleImage(t testing.TB, args string, mib int) string {
	t.Helper()
	path := mkfsImage(t, args, mib)
	plant(t, path)
	x := begin(t, path)
	sb := *x.v.sb
	sb.FeatureIncompat |= disk.IncompatRecover
	sb.SetFreeBlocks(sb.FreeBlocks() + 77)
	sb.FreeInodesCount += 3
	must(t, x.writeSuperblock(&sb))
	must(t, x.Close())
	return path
}

var staleForms = []string{
	"-t ext4 -b 1024 -J size=1 -N 256", "-t ext4 -b 4096 -J size=4 -N 256", "-t ext3 -b 1024 -J size=1 -N 256",
	"-t ext4 -b 1024 -g 1024 -G 4 -J size=1 -N 256 -O ^metadata_csum,uninit_bg",
}

// A session that is given up leaves an image as a mount and an unmount do.
func TestReplayMendsCounts(t *testing.T) {
	t.Parallel()
	for _, args := range staleForms {
		for name, stale := range map[string]func(testing.TB, string, int) string{"logged": staleImage, "empty": emptyStaleImage} {
			t.Run(name+args, func(t *testing.T) {
				path := stale(t, args, 16)
				must(t, begin(t, path).Close())
				quiet(t, path)
				if r, err := openImage(t, path).Check(t.Context()); err != nil || !r.OK() || len(r.Notes) > 0 {
					t.Errorf("%v\n%v", err, r)
				}
			})
		}
	}
}

// However the replay is interrupted, the next one ends well; and once the journal is
// empty the sums are right.
func TestCrashReplay(t *testing.T) {
	t.Parallel()
	path := staleImage(t, staleForms[0], 8)
	image, err := os.ReadFile(path)
	must(t, err)
	r := newRecorder(image)
	o := testOptions
	o.NoSync = false
	x, err := Edit(r, int64(len(image)), &o)
	must(t, err)
	must(t, x.Close())
	// States of the disk: after each write, and without the ones since the last Sync but the
	// last.
	durable, now := bytes.Clone(image), bytes.Clone(image)
	states := [][]byte{image}
	for _, w := range r.writes {
		if w.b == nil {
			durable = bytes.Clone(now)
			continue
		}
		alone := bytes.Clone(durable)
		copy(alone[w.off:], w.b)
		copy(now[w.off:], w.b)
		states = append(states, alone, bytes.Clone(now))
	}
	emptied := 0
	for i, b := range states {
		must(t, os.WriteFile(path, b, 0o600))
		if v, err := openVolume(bytes.NewReader(b), int64(len(b))); err != nil {
			t.Fatalf("state %d: %v", i, err)
		} else if v.journal == nil {
			emptied++
			testneed.Run(t, "e2fsck", "-fy", "-E", "journal_only", path) // which does not count
			quiet(t, path)
			must(t, os.WriteFile(path, b, 0o600))
		}
		must(t, begin(t, path).Close())
		quiet(t, path)
	}
	if t.Logf("%d states, %d with an empty journal", len(states), emptied); emptied == 0 || emptied == len(states) {
		t.Error("not all was seen")
	}
}

// orphan takes away the name of a file without freeing the file.
func orphan(t testing.TB, x *Tx, path string) {
	t.Helper()
	must(t, x.do("orphan", path, func() error {
		p, err := x.find(path, false)
		if err != nil {
			return err
		}
		n, err := x.load(p.ino)
		if err != nil {
			return err
		}
		d, err := x.openDir(p.parent)
		if err != nil {
			return err
		}
		n.Links, n.Dtime = 0, x.v.sb.LastOrphan
		x.v.sb.LastOrphan = n.ino
		return errors.Join(d.remove(p.base, p.ino), d.close(), x.put(n))
	}))
}

// Files that were deleted while they were open are freed with the replay, whether the
// session is committed or not.
func TestReplayFreesOrphans(t *testing.T) {
	t.Parallel()
	for _, args := range staleForms {
		path := mkfsImage(t, args, 16)
		plant(t, path)
		x := begin(t, path)
		for i := range 5 {
			orphan(t, x, fmt.Sprintf("/tree/%d", i))
		}
		orphan(t, x, "/tree/large")
		sb := *x.v.sb
		killAfterLog(t, x, &sb)
		x = begin(t, path)
		must(t, x.WriteFile("/lost", bytes.NewReader(pattern(3, 10_000)), Attr{}))
		must(t, x.Close())
		quiet(t, path)
		session(t, path, func(x *Tx) { must(t, x.WriteFile("/new", bytes.NewReader(pattern(3, 150_000)), Attr{})) })
		quiet(t, path)
	}
}

// More orphans than a transaction can free do not keep a session from reading.
func TestReplayOfManyOrphans(t *testing.T) {
	t.Parallel()
	path := mkfsImage(t, "-t ext4 -b 1024 -N 8192 -I 1024 -J size=1", 32)
	const parts, each = 3, 400
	for k := range parts {
		session(t, path, func(x *Tx) {
			for i := range each {
				must(t, x.Mknod(fmt.Sprintf("/%d-%d", k, i), os.ModeNamedPipe, 0, 0, Attr{}))
			}
		})
	}
	for k := range parts {
		x := begin(t, path)
		// What open frees is not wanted here.
		x.v.dirty, x.groups = map[uint64][]byte{}, map[uint32]*allocGroup{}
		*x.v.sb = x.onDisk
		for i := range each {
			orphan(t, x, fmt.Sprintf("/%d-%d", k, i))
		}
		if k < parts-1 {
			must(t, x.Commit())
			continue
		}
		sb := *x.v.sb
		killAfterLog(t, x, &sb)
	}
	x := begin(t, path)
	if ok, err := x.Exists("/lost+found"); !ok || err != nil {
		t.Error(ok, err)
	}
	must(t, x.Close())
	x = begin(t, path)
	must(t, x.Mkdir("/new", Attr{}))
	if err := x.Commit(); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	// With status 1: e2fsck has freed them.
	if out, status := testneed.Status(t, "e2fsck", "-p", path); status != 0 && !strings.Contains(out, "orphaned") {
		t.Errorf("exit status %d\n%s", status, out)
	}
	quiet(t, path)
}

// A journal may have blocks that lie behind the end which the superblock tells of, as
// after an online resize that was interrupted, but not behind the end of the image.
func TestReplayBehindTheEnd(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		more int64 // bytes of the file behind the end
		ok   bool
	}{{1 << 20, true}, {5 << 10, false}, {0, false}} {
		path := mkfsImage(t, "-t ext4 -b 1024 -J size=1 -N 256", 8)
		plant(t, path)
		x := begin(t, path)
		must(t, x.Mkdir("/logged", Attr{Mode: 0o755}))
		sb := *x.v.sb
		sb.FeatureIncompat |= disk.IncompatRecover
		must(t, x.writeSuperblock(&sb))
		blocks, err := x.blocks(&sb)
		must(t, err)
		at := sb.Blocks() + 5
		blocks = append(blocks, jbd2.Block{Number: at, Data: pattern(9, 1024)})
		j, err := x.v.openJournal(txDevice{x}, int64(at+1)*1024)
		must(t, err)
		must(t, j.Upgrade(true))
		must(t, j.Log(blocks))
		must(t, x.Close())
		must(t, os.Truncate(path, 8<<20+c.more))
		before, err := os.ReadFile(path)
		must(t, err)

		r := newRecorder(before)
		x, err = Edit(r, int64(len(before)), &testOptions)
		_, readErr := Open(bytes.NewReader(before), int64(len(before)))
		_, sizeless := Open(bytes.NewReader(before), -1)
		report, checkErr := checkBytes(t, before)
		if !c.ok {
			if !errors.Is(err, ErrCorrupt) || !errors.Is(readErr, ErrCorrupt) || sizeless != nil || checkErr != nil || report.OK() || len(r.writes) > 0 {
				t.Errorf("%d bytes more: %v, %v, %v, %v, %v, %d writes", c.more, err, readErr, sizeless, report, checkErr, len(r.writes))
			}
			continue
		}
		if err != nil || readErr != nil || sizeless != nil || checkErr != nil || !report.OK() {
			t.Fatalf("%v, %v, %v, %v, %v", err, readErr, sizeless, report, checkErr)
		}
		if ok, err := x.Exists("/logged"); !ok || err != nil {
			t.Error(ok, err)
		}
		must(t, x.Close())
		if b := r.whole()[at*1024:][:1024]; !bytes.Equal(b, pattern(9, 1024)) {
			t.Error("the block behind the end is not in its place")
		}
		must(t, os.WriteFile(path, r.whole(), 0o600))
		quiet(t, path)
	}
}

// A change of size that is interrupted leaves no old sums, whatever the journal had
// before it.
func TestCrashResizeOfDirty(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		mib    int
		change func(f ResizableFile, o *EditOptions) error
	}{
		"grow":   {8, func(f ResizableFile, o *EditOptions) error { return Grow(f, 30<<20, o) }},
		"shrink": {30, shrinkAll},
	} {
		for _, stale := range []func(testing.TB, string, int) string{staleImage, emptyStaleImage} {
			image, err := os.ReadFile(stale(t, "-t ext4 -b 1024 -g 1024 -G 4 -J size=1 -N 256", c.mib))
			must(t, err)
			r := &resizeRecorder{now: bytes.Clone(image), left: -1}
			o := testOptions
			o.NoSync = false
			must(t, c.change(r, &o))
			path := filepath.Join(testneed.Memory(t), "image")
			now := bytes.Clone(image)
			for i := 0; ; i++ {
				t.Logf("%s: after %d of %d writes", name, i, len(r.acts))
				must(t, os.WriteFile(path, now, 0o600))
				if v, err := openVolume(bytes.NewReader(now), int64(len(now))); err != nil {
					t.Fatal(err)
				} else if v.journal == nil && i > 0 {
					testneed.Run(t, "e2fsck", "-fy", "-E", "journal_only", path)
					quiet(t, path)
					must(t, os.WriteFile(path, now, 0o600))
				}
				must(t, begin(t, path).Close())
				quiet(t, path)
				if i == len(r.acts) {
					break
				}
				now = r.acts[i].apply(now, 1<<30)
			}
		}
	}
}

// A superblock in the journal that divides the image otherwise is damage.
func TestReplayOfOtherBlocks(t *testing.T) {
	t.Parallel()
	for from, to := range map[uint32]uint32{0: 1, 1: 0} {
		path := mkfsImage(t, fmt.Sprintf("-t ext4 -b %d -J size=4 -N 256 -O ^metadata_csum,^resize_inode", 1024<<from), 16)
		x := begin(t, path)
		sb := *x.v.sb
		sb.FeatureIncompat |= disk.IncompatRecover
		must(t, x.writeSuperblock(&sb))
		sb.LogBlockSize, sb.LogClusterSize, sb.FirstDataBlock = to, to, 1-to
		sb.BlocksPerGroup, sb.ClustersPerGroup = 8192, 8192
		sb.SetBlocks(uint64(8192 + sb.FirstDataBlock))
		sb.InodesPerGroup = sb.InodesCount
		sb.SetFreeBlocks(100)
		blocks, err := x.blocks(&sb)
		must(t, err)
		must(t, x.journal.Log(blocks))
		must(t, x.Close())
		b, err := os.ReadFile(path)
		must(t, err)
		if _, err := Open(bytes.NewReader(b), int64(len(b))); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "with blocks of") {
			t.Error(err)
		}
		if r, err := checkBytes(t, b); err != nil || r.OK() {
			t.Error(r, err)
		}
		r := newRecorder(b)
		if _, err := Edit(r, int64(len(b)), &testOptions); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "with blocks of") {
			t.Error(err)
		}
	}
}
