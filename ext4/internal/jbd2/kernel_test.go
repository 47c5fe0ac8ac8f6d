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

// commit makes the kernel commit what it has, without bringing it to its place as
// sync(2) does.
func commit(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

// work makes the kernel log several transactions: with directories that go again,
// for which it writes revokes, and files whose blocks must be escaped where data
// goes through the journal.
func work(t *testing.T, dir string, rounds int) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	data := bytes.Repeat(append([]byte{0xC0, 0x3B, 0x39, 0x98}, make([]byte, 1020)...), 200)
	for r := range rounds {
		sub := filepath.Join(dir, fmt.Sprint("d", r))
		must(os.Mkdir(sub, 0o755))
		for i := range 30 {
			must(os.Mkdir(filepath.Join(sub, strings.Repeat("n", 100)+fmt.Sprint(i)), 0o755))
		}
		f, err := os.Create(filepath.Join(dir, fmt.Sprint("f", r%4)))
		must(err)
		_, err = f.Write(data)
		must(err)
		must(f.Sync())
		must(f.Close())
		if r > 0 && r%2 == 0 {
			must(os.RemoveAll(filepath.Join(dir, fmt.Sprint("d", r-1))))
			must(os.WriteFile(filepath.Join(dir, fmt.Sprint("g", r)), data, 0o644))
		}
		commit(t, dir)
	}
}

// features of the log that the kernel's journals have had in a test.
func kinds(t *testing.T, path string) (escaped, revokes int) {
	dump := testneed.Run(t, "debugfs", "-R", "logdump -a", path)
	for line := range strings.Lines(dump) {
		var flags int
		if _, after, ok := strings.Cut(line, "(flags "); ok {
			fmt.Sscanf(after, "0x%x", &flags)
			escaped += flags & flagEscape
		}
		if strings.Contains(line, "Revoke FS block") {
			revokes++
		}
	}
	return escaped, revokes
}

// A real kernel's journals, of images copied while they were mounted.
func TestReplayAgainstKernelJournals(t *testing.T) {
	for _, c := range []struct {
		size          int
		options, with string
		rounds        int
	}{
		{4096, "metadata_csum,64bit", "", 9},
		{4096, "metadata_csum,64bit", "data=journal", 9},
		{4096, "metadata_csum,^64bit", "data=journal", 40}, // around the log
		{4096, "^metadata_csum,64bit", "data=journal", 9},
		{1024, "^metadata_csum,^64bit", "data=journal", 25},
		{1024, "metadata_csum,64bit", "data=journal", 25},
		{1024, "^metadata_csum,^64bit", "journal_checksum,data=journal", 9},
		{4096, "^metadata_csum,64bit", "journal_checksum", 9},
		{4096, "^metadata_csum,64bit", "journal_async_commit,data=writeback", 9},
		{4096, "metadata_csum,64bit", "journal_async_commit,data=writeback", 9},
		{4096, "metadata_csum,64bit,fast_commit", "", 9},
	} {
		t.Run(fmt.Sprintf("%d/%s,%s", c.size, c.options, c.with), func(t *testing.T) {
			t.Parallel()
			path := mkfs(t, c.size, c.options)
			dir, end := testneed.Mount(t, path, c.with)
			work(t, dir, c.rounds)
			dirty := testneed.Copy(t, path)
			end()
			_, j := openImage(t, dirty, c.size)
			if !j.Dirty() {
				t.Fatal("the log is empty")
			}
			escaped, revokes := kinds(t, dirty)
			ours, j := openImage(t, testneed.Copy(t, dirty), c.size)
			n, err := j.Replay()
			if err != nil {
				t.Fatal(err)
			}
			// The kernel leaves another sequence number, as it goes on from there.
			theirs := testneed.Copy(t, dirty)
			_, end = testneed.Mount(t, theirs, "ro")
			end()
			i, _ := openImage(t, theirs, c.size)
			same(t, ours, i, i.places[:1])
			// e2fsck 1.47.0 fails in the fast commits, even void ones, and throws the
			// log away.
			if !strings.Contains(c.options, "fast_commit") {
				if m := judge(t, dirty, c.size); n != m {
					t.Errorf("%d and %d blocks replayed", n, m)
				}
			}
			t.Logf("compat %#x, incompat %#x: %d blocks replayed, %d tags escaped, %d revokes", j.compat, j.incompat, n, escaped, revokes)
			if n == 0 {
				t.Error("nothing was replayed")
			}
			if strings.Contains(c.with, "data=journal") && escaped == 0 {
				t.Error("no block was escaped")
			}
			// What we replayed is a sound file system.
			ours.recovery(t, false)
			testneed.Fsck(t, ours.Name())
		})
	}
}

// A kernel's live fast commit is refused: without it the file is not there.
func TestKernelsFastCommitIsRefused(t *testing.T) {
	path := mkfs(t, 4096, "fast_commit")
	dir, end := testneed.Mount(t, path, "")
	work(t, dir, 3)
	f, err := os.Create(filepath.Join(dir, "new"))
	if err == nil {
		_, err = f.WriteString("contents")
	}
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
	dirty := testneed.Copy(t, path)
	end()
	_, j := openImage(t, dirty, 4096)
	var u *UnsupportedError
	if _, err := j.Replay(); !errors.As(err, &u) || u.Feature != "fast_commit" {
		t.Error(err)
	}
}

// What Log wrote is replayed by the kernel, whatever features the kernel left in the
// journal before.
func TestLogAgainstKernel(t *testing.T) {
	for s, size := range []int{1024, 4096} {
		for i, options := range imageOptions {
			for k, with := range []string{"", "journal_checksum", "journal_async_commit,data=writeback", "upgrade"} {
				if (s+i+k)%2 != 0 { // each combination with one of the sizes
					continue
				}
				t.Run(fmt.Sprintf("%d/%s,%s", size, options, with), func(t *testing.T) {
					t.Parallel()
					path := mkfs(t, size, options)
					if with != "upgrade" {
						dir, end := testneed.Mount(t, path, with)
						work(t, dir, 2)
						end()
					}
					i, j := openImage(t, path, size)
					if with == "upgrade" {
						if err := j.Upgrade(strings.Contains(options, ",64bit")); err != nil {
							t.Fatal(err)
						}
					}
					i.recovery(t, true)
					nums := freeBlocks(size, 300)
					var blocks []Block
					for _, n := range nums {
						blocks = append(blocks, Block{n, contents(size, n, 1)})
					}
					if err := j.Log(blocks); err != nil {
						t.Fatal(err)
					}
					t.Logf("compat %#x, incompat %#x", j.compat, j.incompat)
					_, end := testneed.Mount(t, path, "")
					end()
					logged(t, i, nums, 1)
					testneed.Fsck(t, path)
					if _, j := openImage(t, path, size); j.Dirty() {
						t.Error("the kernel left a log")
					}
				})
			}
		}
	}
}
