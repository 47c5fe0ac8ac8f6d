package debian

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"

	"banger/internal/base/testneed"
)

// TestPinnedKeysAreDebians compares with the package debian-archive-keyring.
func TestPinnedKeysAreDebians(t *testing.T) {
	own, err := archiveKeys(filepath.Join(t.TempDir(), "none"))
	if err != nil {
		t.Fatal(err)
	}
	if len(own) != len(pinned) {
		t.Errorf("banger has %d keys, and pins %d", len(own), len(pinned))
	}
	if _, err := os.Stat(DefaultKeyring); err != nil {
		testneed.Missing(t, testneed.Tools, "apt-get install debian-archive-keyring: %v", err)
	}
	host, err := readKeyring(DefaultKeyring)
	if err != nil {
		t.Fatal(err)
	}
	theirs := map[string]*openpgp.Entity{}
	for _, k := range host {
		theirs[Fingerprint(k)] = k
	}
	for _, k := range own {
		f := Fingerprint(k)
		if pinned[f] == "" {
			t.Errorf("%s is not pinned", f)
		}
		if theirs[f] == nil {
			t.Errorf("debian-archive-keyring has no key %s (%s)", f, pinned[f])
			continue
		}
		for name := range k.Identities {
			if theirs[f].Identities[name] == nil {
				t.Errorf("%s is called %q by us alone", f, name)
			}
		}
	}
}

func TestOnlyPinnedKeysAreTrusted(t *testing.T) {
	stranger := newTestKey(t)
	var ring bytes.Buffer
	if err := stranger.Serialize(&ring); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ring")
	if err := os.WriteFile(file, ring.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := archiveKeys(file)
	if err != nil || len(keys) != len(pinned) {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	for _, k := range keys {
		if Fingerprint(k) == Fingerprint(stranger) {
			t.Error("a key of the host's file is trusted that is not pinned")
		}
	}
	if err := os.WriteFile(file, []byte("no keys"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := archiveKeys(file); err == nil {
		t.Error("a damaged file of keys is passed over")
	}
}
