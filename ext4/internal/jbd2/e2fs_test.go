package jbd2

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/base/testneed"
)

// Blocks in the last group, which a fresh image does not use.
func freeBlocks(size, n int) []uint64 {
	var nums []uint64
	for i := range n {
		nums = append(nums, uint64(32<<20/size-1-i*3))
	}
	return nums
}

func list(nums []uint64) string {
	return strings.ReplaceAll(strings.Trim(fmt.Sprint(nums), "[]"), " ", ",")
}

var imageOptions = []string{
	"metadata_csum,64bit",
	"metadata_csum,^64bit",
	"^metadata_csum,64bit",
	"^metadata_csum,^64bit",
}

// images runs a test for each kind of image and of journal that debugfs writes, each
// with one of the block sizes.
func images(t *testing.T, f func(t *testing.T, path string, size int, open string)) {
	for i, options := range imageOptions {
		for k, open := range []string{"jo", "jo -c -v 2", "jo -c -v 3"} {
			for s, size := range []int{1024, 4096} {
				if (i+k+s)%2 != 0 {
					continue
				}
				t.Run(fmt.Sprintf("%d/%s/%s", size, options, open), func(t *testing.T) {
					t.Parallel()
					f(t, mkfs(t, size, options), size, open)
				})
			}
		}
	}
}

func TestReplayAgainstE2fsck(t *testing.T) {
	images(t, func(t *testing.T, path string, size int, open string) {
		nums := freeBlocks(size, 300)
		var data [3]string
		for v := range data {
			var all []byte
			for i := range nums {
				b := bytes.Clone(contents(size, uint64(i), v+1))
				all = append(all, b...)
			}
			data[v] = filepath.Join(testneed.Memory(t), "data")
			if err := os.WriteFile(data[v], all, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		// debugfs itself loses the commit block of some transactions: of those with
		// more blocks than a descriptor block holds, and, once another comes after
		// it, of one with blocks and revokes. Such are left to the kernel and to Log.
		last := "jw -c -b " + list(nums[:3]) + " " + data[2]
		if size == 4096 {
			last = "jw -b " + list(nums[5:6]) + " -r " + list(nums[6:20]) + " " + data[2]
		}
		testneed.Debugfs(t, path, open,
			"jw -b "+list(nums[:60])+" "+data[0],
			"jw -b "+list(nums[60:120])+" "+data[1],
			"jw -b "+list(nums[50:100])+" "+data[2],
			"jw -r "+list(nums[5:9])+" "+data[1],
			"jw -r "+list(nums[100:110])+" "+data[2],
			"jw -b "+list(nums[102:104])+" "+data[2],
			last,
			"jc")
		// Without metadata_csum debugfs gives revoke blocks checksums that e2fsck
		// does not accept.
		if strings.HasPrefix(open, "jo -c") && !hasMetadataCsum(t, path) {
			out, _ := testneed.Status(t, "e2fsck", "-y", "-E", "journal_only", testneed.Copy(t, path))
			if !strings.Contains(out, "was corrupt") {
				t.Errorf("e2fsck takes this journal now:\n%s", out)
			}
			_, j := openImage(t, path, size)
			if _, err := j.Replay(); !errors.Is(err, ErrCorrupt) {
				t.Errorf("replay of what e2fsck rejects: %v", err)
			}
			return
		}
		// 120 blocks, of which 4 and 8 of 10 were revoked for good; or with the last
		// transaction, all of 15 but one and the 8.
		n := 120 - 4 - 8
		if size == 4096 {
			n = 120 - 14 - 8
		}
		if got := judge(t, path, size); got != n {
			t.Errorf("%d blocks replayed, want %d", got, n)
		}
	})
}

func hasMetadataCsum(t *testing.T, path string) bool {
	return strings.Contains(testneed.Run(t, "dumpe2fs", "-h", path), " metadata_csum")
}

// What Log wrote is replayed by e2fsck, and shown by debugfs as it should be.
func TestLogAgainstE2fsck(t *testing.T) {
	images(t, func(t *testing.T, path string, size int, open string) {
		// The features of the journal are those that debugfs gave it.
		nums := freeBlocks(size, 300)
		testneed.Debugfs(t, path, open, fmt.Sprintf("jw -b %d %s", nums[299], path), "jc")
		i, j := openImage(t, path, size)
		if _, err := j.Replay(); err != nil {
			t.Fatal(err)
		}
		logAndCheck(t, path, i, j, nums)
	})
}

// The same with a journal that mke2fs made and we upgraded, and with the first
// version of the checksums, which debugfs does not write.
func TestLogIntoAnUpgradedJournal(t *testing.T) {
	for _, size := range []int{1024, 4096} {
		for _, options := range imageOptions {
			t.Run(fmt.Sprintf("%d/%s", size, options), func(t *testing.T) {
				t.Parallel()
				path := mkfs(t, size, options)
				i, j := openImage(t, path, size)
				if strings.Contains(options, "^metadata_csum") {
					j.compat = compatChecksum
					be.PutUint32(j.sb[sFeatureCompat:], j.compat)
				} else if err := j.Upgrade(strings.Contains(options, ",64bit")); err != nil {
					t.Fatal(err)
				}
				logAndCheck(t, path, i, j, freeBlocks(size, 300))
			})
		}
	}
}

// logAndCheck logs blocks, several descriptor blocks full, and lets e2fsck and us
// replay them.
func logAndCheck(t *testing.T, path string, i *image, j *Journal, nums []uint64) {
	t.Helper()
	i.recovery(t, true)
	for v := 1; v <= 2; v++ {
		var blocks []Block
		for _, n := range nums[:len(nums)/v] {
			blocks = append(blocks, Block{n, contents(i.size, n, v)})
		}
		if err := j.Log(blocks); err != nil {
			t.Fatal(err)
		}
		if v == 1 {
			if err := j.Clean(); err != nil {
				t.Fatal(err)
			}
		}
	}
	dump := testneed.Debugfs(t, path, "logdump -a")
	for k, n := range nums[:len(nums)/2] {
		if !strings.Contains(dump, fmt.Sprintf("FS block %d logged at", n)) {
			t.Fatalf("block %d, number %d, is not in the dump:\n%s", n, k, dump)
		}
	}
	if !strings.Contains(dump, "(commit block)") || strings.Contains(strings.ToLower(dump), "error") {
		t.Errorf("the dump is:\n%s", dump)
	}
	if n := judge(t, path, i.size); n != len(nums)/2 {
		t.Errorf("%d blocks replayed", n)
	}
	replayByE2fsck(t, path)
	logged(t, i, nums[:len(nums)/2], 2)
	testneed.Fsck(t, path)
}

// logged checks that the blocks have this version.
func logged(t *testing.T, i *image, nums []uint64, v int) {
	t.Helper()
	b := make([]byte, i.size)
	for _, n := range nums {
		if err := i.ReadBlocks(n, b); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b, contents(i.size, n, v)) {
			t.Fatalf("block %d does not have version %d", n, v)
		}
	}
}

// mke2fs writes the same superblock, but for what of the features the kernel adds
// at the first mount.
func TestFormatAgainstMke2fs(t *testing.T) {
	for _, size := range []int{1024, 4096} {
		path := mkfs(t, size, "metadata_csum,64bit")
		i, j := openImage(t, path, size)
		sb, err := Format(FormatConfig{BlockSize: size, Blocks: uint32(len(i.places)), UUID: j.UUID()})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(sb, j.sb) {
			t.Errorf("ours:\n%x\ntheirs:\n%x", sb[:superblockSize], j.sb[:superblockSize])
		}
		// With the features it passes as well.
		sb, err = Format(FormatConfig{BlockSize: size, Blocks: uint32(len(i.places)), UUID: j.UUID(), Wide: true, Checksums: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := i.WriteBlocks(i.places[0], sb); err != nil {
			t.Fatal(err)
		}
		if out := testneed.Run(t, "e2fsck", "-fn", path); strings.Contains(out, "ournal") {
			t.Error(out)
		}
		if out := testneed.Run(t, "dumpe2fs", "-h", path); !strings.Contains(out, "journal_64bit journal_checksum_v3") {
			t.Error(out)
		}
	}
}

// A transaction that fills the log to its last block is replayed as any other.
func TestFullLogAgainstE2fsck(t *testing.T) {
	path := mkfs(t, 1024, "metadata_csum,64bit")
	i, j := openImage(t, path, 1024)
	if err := j.Upgrade(true); err != nil {
		t.Fatal(err)
	}
	var blocks []Block
	for n := range uint64(j.Capacity()) {
		blocks = append(blocks, Block{32767 - n, contents(1024, n, 1)})
	}
	i.recovery(t, true)
	if err := j.Log(blocks); err != nil {
		t.Fatal(err)
	}
	if n := judge(t, path, 1024); n != len(blocks) {
		t.Errorf("%d of %d blocks replayed", n, len(blocks))
	}
}
