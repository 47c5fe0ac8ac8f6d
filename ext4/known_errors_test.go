package ext4

import (
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"testing"

	"banger/internal/base/testneed"
)

// An image of which the kernel noted that it is not in order is a problem to Check and
// refused by Edit, with what to run; that mends it for both.
func TestKnownErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		kind   ProblemKind
		change func(p *patchedImage)
	}{
		"marked": {ProblemSuperblock, func(p *patchedImage) { p.image[1024+0x3a] |= 2 }},
		"journal": {ProblemJournal, func(p *patchedImage) {
			binary.BigEndian.PutUint32(p.block(p.first("<8>"))[0x20:], 1<<32-5)
		}},
	} {
		path := mkfsImage(t, "-t ext4 -b 1024 -J size=1 -N 64 -O ^metadata_csum", 8)
		b, err := os.ReadFile(path)
		must(t, err)
		c.change(patchImage(t, b))
		must(t, os.WriteFile(path, b, 0o600))
		r, err := checkBytes(t, b)
		if err != nil || len(r.Problems) != 1 || r.Problems[0].Kind != c.kind || !strings.Contains(r.String(), "e2fsck -f") {
			t.Errorf("%s: %v, %v", name, r, err)
		}
		w := newRecorder(b)
		if _, err := Edit(w, int64(len(b)), nil); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "run e2fsck -f") || len(w.writes) > 0 {
			t.Errorf("%s: %v", name, err)
		}
		out, status := testneed.Status(t, "e2fsck", "-fy", path)
		t.Logf("%s: %d\n%s", name, status, out)
		checkClean(t, path)
		must(t, begin(t, path).Close())
	}
}
