package debian

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"banger/internal/base/errs"
	"banger/internal/base/testneed"
)

func TestSuite(t *testing.T) {
	m, dates := newArchive(t), memory{}
	date := time.Date(2026, 7, 11, 10, 16, 37, 0, time.UTC)
	m.publish(date, somePackages, len(somePackages), "")
	a := m.open(dates, t.TempDir(), false)
	s, err := a.Suite(t.Context(), "s")
	if err != nil || s.Name != "s" || s.Source.URI != m.sources[0].URI || !s.IndexDate.Equal(date) || s.Key != Fingerprint(m.keys[0]) {
		t.Errorf("got %+v, %v", s, err)
	}
	if !dates["s"].Equal(date) || m.hits["Packages.xz"] != 0 {
		t.Errorf("remembered %s, asked for %v", dates["s"], m.hits)
	}
	if _, err := a.Suite(t.Context(), "none"); errs.KindOf(err) != errs.NotFound {
		t.Errorf("a suite that no source has: %v", err)
	}
	m.publish(date.Add(-time.Hour), somePackages, len(somePackages), "")
	if _, err := a.Suite(t.Context(), "s"); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("a replay: %v", err)
	}
}

// TestKeyringIsForOthers reads it with GnuPG, as apt does.
func TestKeyringIsForOthers(t *testing.T) {
	ring, err := Keyring()
	if err != nil {
		t.Fatal(err)
	}
	keys, err := parseKeys(ring)
	if err != nil || len(keys) != len(pinned) {
		t.Fatalf("%d keys, %v; want %d", len(keys), err, len(pinned))
	}
	file := filepath.Join(t.TempDir(), "ring.gpg")
	if err := os.WriteFile(file, ring, 0o600); err != nil {
		t.Fatal(err)
	}
	gpgv := testneed.Tool(t, "gpgv", "gpgv")
	lists, err := filepath.Glob("/var/lib/apt/lists/*_dists_bookworm*_InRelease")
	if err != nil || len(lists) == 0 {
		t.Skip("apt has no lists here to check")
	}
	for _, list := range lists {
		// It fails for a signature of a key that is not in the ring, such as of another
		// release; apt asks for one that is good.
		out, err := exec.Command(gpgv, "--status-fd", "1", "--keyring", file, list).CombinedOutput()
		if !bytes.Contains(out, []byte("[GNUPG:] GOODSIG ")) {
			t.Errorf("%s: %v: %s", list, err, out)
		}
	}
}
