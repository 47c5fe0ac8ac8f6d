package ext4

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"banger/internal/base/testneed"
)

// treeSum is a digest of all that a mounted tree holds.
func treeSum(t testing.TB, root string) string {
	t.Helper()
	h := sha256.New()
	must(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintln(h, strings.TrimPrefix(path, root), info.Mode(), info.Size())
		if info.Mode().IsRegular() {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			h.Write(b)
		}
		return nil
	}))
	return fmt.Sprintf("%x", h.Sum(nil))
}

// fillMounted uses all blocks of a mounted file system, a part of them with data,
// and many inodes.
func fillMounted(t testing.TB, root string) {
	t.Helper()
	full := func(err error) bool {
		if err != nil && !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		return err != nil
	}
	for i := 0; ; i++ {
		dir := filepath.Join(root, fmt.Sprint("dir", i/200))
		if i%200 == 0 && full(os.Mkdir(dir, 0o755)) {
			break
		}
		if i < 1000 {
			if full(os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), []byte("small"), 0o600)) {
				break
			}
			continue
		}
		f, err := os.Create(filepath.Join(dir, fmt.Sprint(i)))
		if full(err) {
			break
		}
		err = syscall.Fallocate(int(f.Fd()), 0, 0, 64<<20)
		if errors.Is(err, syscall.EOPNOTSUPP) {
			_, err = f.Write(make([]byte, 4<<20))
		}
		f.Close()
		if full(err) {
			break
		}
	}
	var st syscall.Statfs_t
	must(t, syscall.Statfs(root, &st))
	if st.Bavail > 200 {
		t.Errorf("%d blocks are still free", st.Bavail)
	}
}

// The kernel mounts what we have grown, finds what was there, and can fill it.
func TestGrownIsMounted(t *testing.T) {
	testneed.Loop(t)
	for _, im := range sampled(t, resizeImages) {
		t.Run(im.name, func(t *testing.T) {
			t.Parallel()
			if im.name == "64k" && os.Getpagesize() < 65536 {
				t.Skip("the kernel takes no blocks that are larger than its pages")
			}
			path := mkfsImage(t, im.args, im.mib)
			var before string
			testneed.Mounted(t, path, "", func(root string) {
				for i := range 50 {
					must(t, os.WriteFile(filepath.Join(root, fmt.Sprint(i)), pattern(i, i*1000), 0o600))
				}
				before = treeSum(t, root)
			})
			size := min(im.sizes[len(im.sizes)-1], 2000)
			for _, mib := range im.sizes[:2] {
				if mib < size {
					grow(t, path, int64(mib)<<20)
				}
			}
			grow(t, path, int64(size)<<20)
			quiet(t, path)
			testneed.Mounted(t, path, "", func(root string) {
				if treeSum(t, root) != before {
					t.Error("the tree is another")
				}
				checkOverhead(t, path, root)
				fillMounted(t, root)
			})
			quiet(t, path)
			testneed.Mounted(t, path, "", func(root string) {
				must(t, exec.Command("sh", "-c", "rm -rf "+root+"/dir*").Run())
				if treeSum(t, root) != before {
					t.Error("the tree is another")
				}
			})
			quiet(t, path)
		})
	}
}

// checkOverhead compares the size that the kernel works out from s_overhead_clusters
// with that which it works out itself.
func checkOverhead(t *testing.T, path, root string) {
	t.Helper()
	var got, want syscall.Statfs_t
	must(t, syscall.Statfs(root, &got))
	other := testneed.Copy(t, path)
	testneed.Run(t, "debugfs", "-w", "-R", "ssv overhead_blocks 0", other)
	// The copy was made while the image was mounted.
	testneed.Status(t, "e2fsck", "-fy", "-E", "journal_only", other)
	testneed.Mounted(t, other, "", func(root string) { must(t, syscall.Statfs(root, &want)) })
	if got.Blocks != want.Blocks {
		t.Errorf("the kernel counts %d blocks, and %d with an overhead of its own", got.Blocks, want.Blocks)
	}
}

// The kernel resizes what we made and what we grew, while it is mounted: the resize inode
// is what it expects.
func TestOnlineResize(t *testing.T) {
	testneed.Loop(t)
	type image struct {
		name  string
		build func(t *testing.T) string
		sizes []int // we, the kernel, we, the kernel, MiB
	}
	images := []image{
		{"format", func(t *testing.T) string {
			path := filepath.Join(t.TempDir(), "image")
			f, err := os.Create(path)
			must(t, err)
			defer f.Close()
			must(t, Format(f, &Options{Size: 64 << 20}))
			return path
		}, []int{64, 300, 9000, 20000}},
		{"format-no-reserve", func(t *testing.T) string {
			path := filepath.Join(t.TempDir(), "image")
			f, err := os.Create(path)
			must(t, err)
			defer f.Close()
			must(t, Format(f, &Options{Size: 64 << 20}))
			return path
		}, []int{64, 70_000, 100_000, 140_000}},
	}
	for _, im := range resizeImages {
		switch im.name {
		case "sparse2", "sparse2-noresize":
			continue // the kernel refuses to resize them
		case "64k":
			continue // and to mount these, with pages of 4 KiB
		}
		images = append(images, image{im.name, func(t *testing.T) string { return mkfsImage(t, im.args, im.mib) },
			[]int{im.sizes[0], im.sizes[1] + 10, im.sizes[1] + 300, im.sizes[1] + 500}})
	}
	for _, im := range sampled(t, images) {
		t.Run(im.name, func(t *testing.T) {
			t.Parallel()
			path := im.build(t)
			plantFiles(t, path)
			want := treeOf(t, path)
			for i, mib := range im.sizes {
				if i%2 == 0 {
					grow(t, path, int64(mib)<<20)
				} else {
					onlineResize(t, path, int64(mib)<<20)
				}
				quiet(t, path)
				if got := openImage(t, path).v.sb; got.Blocks()*uint64(got.BlockSize()) < uint64(mib-16)<<20 {
					t.Errorf("%d MiB: %d blocks of %d bytes", mib, got.Blocks(), got.BlockSize())
				}
			}
			got := treeOf(t, path)
			if d := got.diff(want); d != "" {
				t.Error(d)
			}
			fill(t, path)
			quiet(t, path)
		})
	}
}

func onlineResize(t *testing.T, path string, size int64) {
	t.Helper()
	must(t, os.Truncate(path, size))
	testneed.Mounted(t, path, "", func(root string) {
		device := strings.TrimSpace(testneed.Run(t, "findmnt", "-n", "-o", "SOURCE", root))
		out, status := testneed.Status(t, "resize2fs", device)
		if strings.Contains(out, "Permission denied to resize") {
			t.Skip("resizing a mounted file system needs CAP_SYS_RESOURCE")
		}
		if status != 0 {
			t.Fatalf("resize2fs: exit status %d: %s", status, out)
		}
		must(t, os.WriteFile(filepath.Join(root, "again"), []byte("x"), 0o600))
		must(t, os.Remove(filepath.Join(root, "again")))
	})
}
