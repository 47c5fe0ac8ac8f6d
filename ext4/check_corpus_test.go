package ext4

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"banger/ext4/internal/disk"
	"banger/internal/base/testneed"
)

// complains says whether e2fsck -fn finds anything in an image. Its exit status is not
// enough: of some damage it says "IGNORED" and counts it as none.
func complains(t testing.TB, path string) (bool, string) {
	t.Helper()
	// Of two images with their tables far out it does not come to an end: it complains.
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, testneed.Tool(t, "e2fsck", "e2fsprogs"), "-fn", path).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	// A tree of extents that could be smaller is no damage.
	return err != nil || strings.Contains(strings.ReplaceAll(string(out), "Optimize? no", ""), "? no"), string(out)
}

// complainsReplayed is complains for an image whose journal is replayed first: e2fsck
// -n looks past the journal, we through it. The sums of the superblock, which nobody
// keeps while it is mounted, do not count.
func complainsReplayed(t testing.TB, path string) (bool, string) {
	t.Helper()
	replay, _ := testneed.Status(t, "e2fsck", "-y", "-E", "journal_only", path)
	damaged, out := complains(t, path)
	if regexp.MustCompile(`corrupt|checksum error|Invalid argument|\? yes`).MatchString(replay) {
		return true, replay
	}
	if !damaged {
		return false, out
	}
	rest := regexp.MustCompile(`Free (blocks|inodes) count wrong \(.*\nFix\? no`).ReplaceAllString(out, "")
	// Without such a remark it was not the counts that e2fsck stumbled over.
	return rest == out || strings.Contains(rest, "? no"), replay + out
}

// checkBytes checks an image in memory, in bounded time.
func checkBytes(t testing.TB, image []byte) (*Report, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return Check(ctx, bytes.NewReader(image), int64(len(image)))
}

// verdictsThatDiffer has the images of the corpus of which e2fsck 1.47.0 and we say
// different things, and why.
var verdictsThatDiffer = map[string]string{
	"f_ea_inode_dir_ref":           "a name for an inode of attributes: newer ones say so, too (their expect.1)",
	"f_ea_inode_fast_symlink":      "a link inside its inode with attributes in others: valid, as newer ones say (their expect.1)",
	"f_ea_inode_no_feature":        "attributes in inodes without the feature: newer ones say so, too (their expect.1)",
	"f_ea_inode_spurious_flag_dir": "the flag of an attribute's inode on the root: newer ones say so, too (their expect.1)",
	"f_journal":                    "the number of the journal's inode is wrong: e2fsck takes the superblock's copy of that inode as it replays",
	"f_orphquot":                   "e2fsck -n does not go through the list of deleted files that were open, and finds them",
	"j_recover_fast_commit":        "a journal with fast commits is refused by name",
	"f_quota":                      "the sums in quota files are not checked, and a note says so",
	"f_zero_inode_size":            "the superblock is damaged: e2fsck takes a copy without saying more",
	"r_min_itable":                 "the copy of the superblock is not there: e2fsck does not look",
}

// Of the images on which e2fsck is tested we find damage where it does.
func TestCheckAgreesOnCorpus(t *testing.T) {
	agreed := 0
	corpusImages(t, "*", func(t *testing.T, from string, image []byte) {
		name := t.Name()[strings.LastIndexByte(t.Name(), '/')+1:]
		path := filepath.Join(testneed.Memory(t), "image")
		testneed.Run(t, "cp", "--sparse=always", from, path)
		r, err := checkBytes(t, image)
		if errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		judge := complains
		if v := (&volume{dev: bytes.NewReader(image)}); v.readSuperblock(int64(len(image))) == nil && v.sb.FeatureIncompat&disk.IncompatRecover != 0 {
			judge = complainsReplayed
		}
		damaged, out := judge(t, path)
		if (err != nil || !r.OK()) == damaged {
			agreed++
			if why := verdictsThatDiffer[name]; why != "" {
				t.Errorf("the list says that the verdicts differ, and they do not: %s", why)
			}
			return
		}
		if verdictsThatDiffer[name] != "" {
			return
		}
		t.Errorf("e2fsck complains: %v; ours: %v\n%v\n%s", damaged, err, r, out)
	})
	t.Logf("%d of the same verdict", agreed)
}
