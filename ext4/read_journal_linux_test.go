package ext4

import (
	"os"
	"path/filepath"
	"testing"

	"banger/internal/base/testneed"
)

// A file system that is copied while it is mounted, as after a crash, is read as
// e2fsck replays it, block for block, and as the kernel shows it, entry by entry.
func TestReadDirtyJournal(t *testing.T) {
	for name, options := range map[string][]string{
		"ext4":       {"-t", "ext4", "-b", "4096", "-J", "size=8"},
		"1k-nocsum":  {"-t", "ext4", "-b", "1024", "-O", "^metadata_csum,^64bit"},
		"ext3":       {"-t", "ext3", "-b", "1024"},
		"journalled": {"-t", "ext4", "-b", "1024"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testneed.Loop(t)
			path := newImage(t, "64M", options...)
			mount := "noatime"
			if name == "journalled" {
				mount += ",data=journal"
			}
			copied := filepath.Join(testneed.Memory(t), "copied")
			testneed.Mounted(t, path, mount, func(root string) {
				populate(t, root, name)
				testneed.Run(t, "sync", "-f", root)
				for _, dir := range []string{"dirs", "many"} {
					if err := os.RemoveAll(filepath.Join(root, dir)); err != nil {
						t.Fatal(err)
					}
				}
				if err := os.WriteFile(filepath.Join(root, "late"), noise(100000), 0o600); err != nil {
					t.Fatal(err)
				}
				testneed.Run(t, "sync", filepath.Join(root, "late")) // into the journal, not into place
				testneed.Run(t, "cp", "--sparse=always", path, copied)
			})
			im := openImage(t, copied)
			if im.v.journal == nil {
				t.Fatal("there is nothing to replay")
			}
			if !im.Stats().NeedsRecovery {
				t.Error("Stats does not say so")
			}
			t.Logf("%d blocks", im.v.journal.Len())
			got := imageManifest(t, im, false)

			replayed := copied + "-replayed"
			testneed.Run(t, "cp", "--sparse=always", copied, replayed)
			testneed.Run(t, "e2fsck", "-y", "-E", "journal_only", replayed)
			b, err := os.ReadFile(replayed)
			if err != nil {
				t.Fatal(err)
			}
			compareReplayed(t, im.v, b)
			testneed.Mounted(t, copied, "noatime", func(root string) { kernelManifest(t, root).compare(t, got) })
		})
	}
}
