package ext4

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger/ext4/internal/disk"
	"banger/internal/base/testneed"
)

// resizeImages are file systems for each way in which descriptors find their place.
var resizeImages = []struct {
	name  string
	args  string
	mib   int
	sizes []int // to grow to, in turn, MiB
}{
	{"default", "-t ext4", 64, []int{65, 100, 8192}},
	{"4k", "-t ext4 -b 4096", 64, []int{129, 1000, 8191, 20000}},
	{"4k-many", "-t ext4 -b 4096 -i 4096 -O metadata_csum_seed,orphan_file", 300, []int{301, 511, 2500, 2600}},
	{"1k-uninit", "-t ext4 -b 1024 -O ^metadata_csum,uninit_bg", 32, []int{33, 47, 300, 2100}},
	{"2k-nosums", "-t ext4 -b 2048 -O ^metadata_csum,^uninit_bg", 40, []int{41, 64, 333, 1000}},
	{"no64bit", "-t ext4 -b 4096 -O ^64bit", 200, []int{201, 1234, 9000}},
	{"noflex", "-t ext4 -b 1024 -O ^flex_bg", 50, []int{51, 99, 400}},
	{"noflex-nosums", "-t ext4 -b 1024 -O ^flex_bg,^metadata_csum,^uninit_bg", 50, []int{51, 99, 400}},
	{"ext3", "-t ext3 -b 1024", 30, []int{31, 64, 257}},
	{"ext2", "-t ext2 -b 1024", 30, []int{31, 64, 257}},
	{"ext3-4k", "-t ext3 -b 4096", 200, []int{222, 5000}},
	{"nosparse", "-t ext3 -b 1024 -O ^sparse_super,^resize_inode", 30, []int{31, 64, 250}},
	{"sparse2", "-t ext4 -b 2048 -O sparse_super2", 64, []int{65, 500, 2000}},
	{"sparse2-noresize", "-t ext4 -b 1024 -O sparse_super2,^resize_inode", 64, []int{65, 500, 1500}},
	{"noresize", "-t ext4 -b 1024 -O ^resize_inode", 64, []int{65, 127, 128, 129, 500, 1500}},
	{"meta_bg", "-t ext4 -b 1024 -O meta_bg,^resize_inode", 64, []int{65, 127, 128, 129, 500, 1500}},
	{"meta_bg-32", "-t ext4 -b 1024 -g 1024 -O meta_bg,^resize_inode,^64bit,^flex_bg", 40, []int{41, 100, 300}},
	{"reserve-ends", "-t ext4 -b 1024 -E resize=300000", 64, []int{200, 290, 600, 700, 2000}},
	{"reserve-ends-noflex", "-t ext4 -b 1024 -O ^flex_bg,^64bit -E resize=300000", 64, []int{200, 290, 600, 700, 2000}},
	{"64k", "-t ext4 -b 65536", 200, []int{300, 5000}},
	{"odd-groups", "-t ext4 -b 4096 -g 6000 -G 4 -I 512", 100, []int{101, 200, 1300}},
	{"big-flex", "-t ext4 -b 1024 -g 2048 -G 64", 32, []int{33, 200, 400}},
	{"nojournal", "-t ext4 -b 1024 -O ^has_journal", 16, []int{17, 300}},
}

// resized calls f with the open image and reports its error.
func resized(t testing.TB, path string, f func(*os.File) error) error {
	t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer file.Close()
	return f(file)
}

func grow(t testing.TB, path string, size int64) {
	t.Helper()
	must(t, resized(t, path, func(f *os.File) error { return Grow(f, size, &testOptions) }))
}

func shrink(t testing.TB, path string, size int64) {
	t.Helper()
	must(t, resized(t, path, func(f *os.File) error { return Shrink(f, size, &testOptions) }))
}

// plantFiles makes a tree to be found again.
func plantFiles(t testing.TB, path string) {
	session(t, path, func(x *Tx) {
		must(t, x.MkdirAll("/tree/dir/sub", Attr{Mode: 0o755}))
		for i := range 20 {
			must(t, x.WriteFile(fmt.Sprintf("/tree/%d", i), bytes.NewReader(pattern(i, i*7000)), Attr{Mode: 0o644}))
		}
	})
}

func treeOf(t testing.TB, path string) treeLines {
	t.Helper()
	m, err := manifestOf(openImage(t, path))
	must(t, err)
	return m
}

func TestGrow(t *testing.T) {
	for _, im := range resizeImages {
		t.Run(im.name, func(t *testing.T) {
			t.Parallel()
			path := mkfsImage(t, im.args, im.mib)
			plantFiles(t, path)
			want := treeOf(t, path)
			other := testneed.Copy(t, path)
			for _, mib := range im.sizes {
				grow(t, path, int64(mib)<<20)
				quiet(t, path)
				if d := treeOf(t, path).diff(want); d != "" {
					t.Fatalf("%d MiB: %s", mib, d)
				}
				compareResized(t, path, other, int64(mib)<<20)
				backups(t, path)
			}
			fill(t, path)
			quiet(t, path)
		})
	}
}

// backups demands that all copies of the superblock, which e2fsck does not look at, tell of
// the size that the file system has.
func backups(t testing.TB, path string) {
	t.Helper()
	v := openImage(t, path).v
	for g := range v.groups {
		if g == 0 || !v.sb.HasSuper(g) {
			continue
		}
		b, err := v.block(v.sb.GroupStart(g))
		must(t, err)
		sb, err := disk.DecodeSuperblock(b[:disk.SuperblockSize])
		if err != nil {
			t.Fatalf("the copy in group %d: %v", g, err)
		}
		if sb.Blocks() != v.sb.Blocks() || sb.BlockGroupNr != uint16(g) {
			t.Fatalf("the copy in group %d is group %d's and tells of %d blocks, not %d", g, sb.BlockGroupNr, sb.Blocks(), v.sb.Blocks())
		}
	}
}

// compareResized compares what Grow made with what resize2fs makes.
//
// What differs, and so is not compared: s_overhead_clusters, which resize2fs drops
// and we keep right; the journal, which we have used; where the second backup of
// sparse_super2 is, which resize2fs moves to the last group, and we leave. Where the
// table of descriptors has no more room, resize2fs moves what is in the way, and we,
// like the kernel, turn to meta_bg: features and free blocks are others then. The
// number of blocks reserved for root is rounded.
func compareResized(t *testing.T, path, other string, size int64) {
	t.Helper()
	must(t, os.Truncate(other, size))
	testneed.Run(t, "resize2fs", "-f", other)
	got, want := superFields(t, path), superFields(t, other)
	fields := []string{"Block count", "Inode count", "Free inodes", "Inodes per group", "Blocks per group", "Flex block group size"}
	if got["First meta block group"] == want["First meta block group"] {
		fields = append(fields, "Filesystem features", "Reserved GDT blocks")
		if got["Backup block groups"] == want["Backup block groups"] {
			fields = append(fields, "Free blocks")
		}
	}
	for _, f := range fields {
		if got[f] != want[f] {
			t.Errorf("%d bytes: %s is %q, resize2fs made %q", size, f, got[f], want[f])
		}
	}
	var a, b int
	fmt.Sscan(got["Reserved block count"], &a)
	fmt.Sscan(want["Reserved block count"], &b)
	if a-b > 1 || b-a > 1 {
		t.Errorf("%d bytes: %d blocks are reserved, resize2fs made %d", size, a, b)
	}
}

// superFields is what dumpe2fs -h says.
func superFields(t testing.TB, path string) map[string]string {
	t.Helper()
	m := map[string]string{}
	for _, line := range strings.Split(testneed.Run(t, "dumpe2fs", "-h", path), "\n") {
		k, v, _ := strings.Cut(line, ":")
		m[k] = strings.TrimSpace(v)
	}
	return m
}

// fill takes a third of what is free, in one file.
func fill(t testing.TB, path string) {
	t.Helper()
	session(t, path, func(x *Tx) {
		size := int64(x.v.sb.FreeBlocks()) * int64(x.v.bs) / 3
		must(t, x.WriteFile("/large", io.LimitReader(ones{}, min(size, 20<<20)), Attr{Mode: 0o600}))
	})
}

type ones struct{}

func (ones) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 1
	}
	return len(b), nil
}

// What our own faces made grows, too: with and without a journal, and packed, where groups
// may be small and there is one superblock only.
func TestGrowOurs(t *testing.T) {
	fresh := func(o Options) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			f, err := os.Create(path)
			must(t, err)
			defer f.Close()
			must(t, Format(f, &o))
		}
	}
	packed := func(files int) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			f, err := os.Create(path)
			must(t, err)
			defer f.Close()
			b, err := NewBuilder(f, &Options{})
			must(t, err)
			var list []entry
			for i := range files {
				list = append(list, regular(fmt.Sprintf("d/%d", i), ""))
			}
			must(t, b.Tar(bytes.NewReader(archive(t, list...))))
			must(t, b.Finish())
		}
	}
	for _, im := range []struct {
		name  string
		build func(t *testing.T, path string)
		sizes []int
	}{
		{"64M", fresh(Options{Size: 64 << 20}), []int{65, 200, 8192, 100_000}},
		{"1M", fresh(Options{Size: 1 << 20}), []int{2, 3, 500, 10_000}},
		{"many-inodes", fresh(Options{Size: 300 << 20, BytesPerInode: 1024}), []int{333, 3000}},
		{"reserved", fresh(Options{Size: 3 << 30, ReservedBlocks: 4096}), []int{5000, 20_000}},
		{"packed", packed(10), []int{1, 2, 300, 20_000}},
		{"packed-many", packed(40_000), []int{60, 100, 1000}},
	} {
		t.Run(im.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(testneed.Memory(t), "image")
			im.build(t, path)
			quiet(t, path)
			want := treeOf(t, path)
			for _, mib := range im.sizes {
				grow(t, path, int64(mib)<<20)
				quiet(t, path)
				if d := treeOf(t, path).diff(want); d != "" {
					t.Fatalf("%d MiB: %s", mib, d)
				}
				s := openImage(t, path).Stats()
				t.Logf("%d MiB: %d of %d blocks free, %d groups, %v", mib, s.FreeBlocks, s.Blocks, s.Groups, s.Features)
			}
			fill(t, path)
			quiet(t, path)
		})
	}
}

// Sizes that differ by any amount, again and again.
func TestGrowByOddSizes(t *testing.T) {
	t.Parallel()
	for _, args := range []string{
		"-t ext4 -b 1024 -g 1024 -J size=1 -N 200", "-t ext4 -b 1024 -g 512 -O ^flex_bg,^resize_inode,^has_journal -N 100",
		"-t ext4 -b 1024 -g 256 -G 8 -O meta_bg,^resize_inode -J size=1 -N 100", "-t ext3 -b 1024 -g 800 -J size=1 -N 200",
	} {
		path := mkfsImage(t, args, 8)
		plantFiles(t, path)
		want := treeOf(t, path)
		size := int64(8 << 20)
		rng := rand.New(rand.NewPCG(3, 4))
		for range 25 {
			size += rng.Int64N(2 << uint(8+rng.IntN(14)))
			grow(t, path, size)
			quiet(t, path)
		}
		if d := treeOf(t, path).diff(want); d != "" {
			t.Fatal(d)
		}
		fill(t, path)
		quiet(t, path)
	}
}

// The file may be longer than the file system already, and have anything there.
func TestGrowOverBytes(t *testing.T) {
	t.Parallel()
	for _, args := range []string{"-t ext4 -b 1024 -J size=1", "-t ext3 -b 1024 -J size=1", "-t ext4 -b 1024 -J size=1 -O ^flex_bg"} {
		path := mkfsImage(t, args, 8)
		f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
		must(t, err)
		_, err = f.Write(bytes.Repeat([]byte{0xa5}, 50<<20))
		must(t, err)
		must(t, f.Close())
		grow(t, path, 20<<20)
		quiet(t, path)
		grow(t, path, 100<<20)
		quiet(t, path)
		if st, err := os.Stat(path); err != nil || st.Size() != 100<<20 {
			t.Errorf("%v %v", st, err)
		}
		fill(t, path)
		quiet(t, path)
	}
}

func TestResizeRefusals(t *testing.T) {
	t.Parallel()
	var bad *SizeError
	var feature *FeatureError
	try := func(path string, f func(*os.File) error) error {
		t.Helper()
		before, err := os.ReadFile(path)
		must(t, err)
		got := resized(t, path, f)
		after, err := os.ReadFile(path)
		must(t, err)
		if got == nil || !bytes.Equal(before, after) {
			t.Errorf("%v, and the image is as before: %v", got, bytes.Equal(before, after))
		}
		return got
	}
	growTo := func(size int64, o *EditOptions) func(*os.File) error {
		return func(f *os.File) error { return Grow(f, size, o) }
	}
	path := mkfsImage(t, "-t ext4 -b 1024 -O ^64bit", 32)
	if err := try(path, growTo(31<<20, nil)); !errors.As(err, &bad) || bad.Op != "grow" {
		t.Error(err)
	}
	if err := try(path, growTo(5<<40, nil)); !errors.As(err, &bad) || bad.Limit != 1024*(1<<32-1) || !strings.Contains(err.Error(), "64bit") {
		t.Error(err)
	}
	if err := try(path, growTo(-1, nil)); !errors.As(err, &bad) {
		t.Error(err)
	}
	if err := try(path, func(f *os.File) error { return Shrink(f, 1<<20, nil) }); !errors.As(err, &bad) || bad.Op != "shrink" {
		t.Error(err)
	}
	if err := try(path, func(f *os.File) error { return Shrink(f, 1<<30, nil) }); !errors.As(err, &bad) {
		t.Error(err)
	}
	path = mkfsImage(t, "-t ext4 -O ^has_journal", 32)
	if err := try(path, growTo(64<<20, nil)); !errors.Is(err, ErrNoJournal) {
		t.Error(err)
	}
	path = mkfsImage(t, "-t ext4 -O bigalloc", 64)
	if err := try(path, growTo(128<<20, nil)); !errors.As(err, &feature) || !strings.Contains(err.Error(), "bigalloc") {
		t.Error(err)
	}
	if _, err := openImage(t, path).ShrinkLimit(); !errors.As(err, &feature) {
		t.Error(err)
	}
	// 2^32 inodes.
	path = mkfsImage(t, "-t ext4 -b 1024 -g 8192 -N 32768", 32)
	if err := try(path, growTo(40<<40, nil)); !errors.As(err, &bad) || !strings.Contains(err.Error(), "inodes") {
		t.Error(err)
	}
	// A resize inode that holds other blocks.
	path = mkfsImage(t, "-t ext4 -b 1024", 32)
	testneed.Run(t, "debugfs", "-w", "-R", "set_inode_field <7> block[DIND] 20000", path)
	if err := try(path, growTo(500<<20, &testOptions)); !errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
	// Not ext4 at all.
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := try(path, growTo(500<<20, nil)); !errors.Is(err, ErrNotExt4) {
		t.Error(err)
	}
}

// A transaction that is larger than the journal becomes several.
func TestGrowInSteps(t *testing.T) {
	t.Parallel()
	path := mkfsImage(t, "-t ext4 -b 4096 -O sparse_super2,metadata_csum_seed -J size=4 -E lazy_itable_init=1", 8192)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	const size = 8 << 40
	steps := 0
	for done := false; !done; steps++ {
		done, err = growStep(f, size, &testOptions)
		must(t, err)
		im := openImage(t, path)
		t.Logf("%d blocks", im.v.sb.Blocks())
	}
	if steps < 2 {
		t.Errorf("%d steps", steps)
	}
	if n := openImage(t, path).v.sb.Blocks(); n != size/4096 {
		t.Errorf("%d blocks", n)
	}
}
