package ext4

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"banger/internal/base/testneed"
)

// A replay leaves the image of a machine that was killed as the kernel's mount and unmount
// leave it, with files that were deleted while they were open.
func TestReplayIsTheKernels(t *testing.T) {
	testneed.Loop(t)
	for _, args := range []string{"-t ext4 -b 4096", "-t ext4 -b 1024 -O orphan_file", "-t ext3 -b 1024", "-t ext4 -b 1024 -O ea_inode"} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			var open []*os.File
			ours, _ := inUse(t, mkfsImage(t, args, 64), "user_xattr", func(root string) {
				for i := range 100 {
					f, err := os.Create(filepath.Join(root, fmt.Sprint("file", i)))
					must(t, err)
					_, err = f.Write(pattern(i, i*500))
					must(t, err)
					if open = append(open, f); i%3 == 0 {
						must(t, os.Remove(f.Name()))
					}
				}
			}, func() {
				for _, f := range open {
					f.Close()
				}
			})
			if v := openImage(t, ours).v; v.journal == nil {
				t.Fatal("there is nothing to replay")
			}
			kernels := testneed.Copy(t, ours)
			testneed.Mounted(t, kernels, "", func(string) {})
			quiet(t, kernels)
			must(t, begin(t, ours).Close())
			quiet(t, ours)
			got, want := superFields(t, ours), superFields(t, kernels)
			for _, f := range []string{"Free blocks", "Free inodes", "Filesystem features", "Filesystem state"} {
				if got[f] != want[f] {
					t.Errorf("%s is %q, the kernel has %q", f, got[f], want[f])
				}
			}
		})
	}
}
