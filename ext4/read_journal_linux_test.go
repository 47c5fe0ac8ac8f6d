package ext4

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
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
			needLoop(t)
			path := newImage(t, "64M", options...)
			mount := "noatime"
			if name == "journalled" {
				mount += ",data=journal"
			}
			copied := filepath.Join(fastDir(t), "copied")
			mounted(t, path, mount, func(root string) {
				populate(t, root, name)
				runTool(t, "sync", "-f", root)
				for _, dir := range []string{"dirs", "many"} {
					if err := os.RemoveAll(filepath.Join(root, dir)); err != nil {
						t.Fatal(err)
					}
				}
				if err := os.WriteFile(filepath.Join(root, "late"), noise(100000), 0o600); err != nil {
					t.Fatal(err)
				}
				runTool(t, "sync", filepath.Join(root, "late")) // into the journal, not into place
				runTool(t, "cp", "--sparse=always", path, copied)
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
			runTool(t, "cp", "--sparse=always", copied, replayed)
			if out, err := exec.Command(needTool(t, "e2fsck"), "-y", "-E", "journal_only", replayed).CombinedOutput(); err != nil {
				t.Fatalf("e2fsck: %v\n%s", err, out)
			}
			b, err := os.ReadFile(replayed)
			if err != nil {
				t.Fatal(err)
			}
			compareReplayed(t, im.v, b)
			mounted(t, copied, "noatime", func(root string) { kernelManifest(t, root).compare(t, got) })
		})
	}
}
