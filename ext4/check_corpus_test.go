package ext4

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// complains says whether e2fsck -fn finds anything in an image. Its exit status is not
// enough: of some damage it says "IGNORED" and counts it as none.
func complains(t testing.TB, path string) (bool, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, needTool(t, "e2fsck"), "-fn", path).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return err != nil || bytes.Contains(out, []byte("? no")), string(out)
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
var verdictsThatDiffer = map[string]string{}

// Of the images on which e2fsck is tested we find damage where it does.
func TestCheckAgreesOnCorpus(t *testing.T) {
	agreed := 0
	corpusImages(t, "*", func(t *testing.T, image []byte) {
		name := t.Name()[strings.LastIndexByte(t.Name(), '/')+1:]
		path := filepath.Join(fastDir(t), "image")
		if err := os.WriteFile(path, image, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := checkBytes(t, image)
		if errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		// e2fsck -n looks past the journal, we through it.
		var before string
		if err == nil && bytes.Contains([]byte(r.String()), []byte("were not replayed")) {
			out, _ := exec.Command(needTool(t, "e2fsck"), "-y", "-E", "journal_only", path).CombinedOutput()
			before = string(out)
		}
		damaged, out := complains(t, path)
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
		t.Errorf("e2fsck complains: %v; ours: %v\n%v\n%s%s", damaged, err, r, before, out)
	})
	t.Logf("%d of the same verdict", agreed)
}
