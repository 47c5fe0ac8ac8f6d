package debian

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/ulikunitz/xz"

	"banger/internal/base/errs"
)

// archive is a suite on a server of the test's own.
type archive struct {
	*testing.T
	keys    openpgp.EntityList
	files   map[string][]byte
	hits    map[string]int
	sources []Source
}

func newArchive(t *testing.T) *archive {
	t.Helper()
	m := &archive{T: t, keys: openpgp.EntityList{newTestKey(t)}, files: map[string][]byte{}, hits: map[string]int{}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.hits[filepath.Base(r.URL.Path)]++
		if data, ok := m.files[r.URL.Path]; ok {
			_, _ = w.Write(data)
		} else {
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(server.Close)
	m.sources = []Source{{URI: server.URL, Suites: []string{"s"}, Components: []string{"main"}}}
	return m
}

func newTestKey(t *testing.T) *openpgp.Entity {
	t.Helper()
	key, err := openpgp.NewEntity("Test", "", "test@example.com", &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA})
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// publish signs the suite with keys, or else with those that are trusted. lines are
// more of the Release.
func (m *archive) publish(date time.Time, index string, plain int, lines string, keys ...*openpgp.Entity) {
	m.Helper()
	packed := pack(m.T, []byte(index), func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) })
	text := "Codename: s\n" + lines
	if !date.IsZero() {
		text += "Date: " + date.UTC().Format(time.RFC1123) + "\n"
	}
	text += fmt.Sprintf("SHA256:\n %x %d main/binary-amd64/Packages.xz\n", sha256.Sum256(packed), len(packed))
	if plain >= 0 {
		text += fmt.Sprintf(" %064d %d main/binary-amd64/Packages\n", 0, plain)
	}
	if len(keys) == 0 {
		keys = m.keys
	}
	var private []*packet.PrivateKey
	for _, k := range keys {
		private = append(private, k.PrivateKey)
	}
	var b bytes.Buffer
	w, err := clearsign.EncodeMulti(&b, private, nil)
	if err != nil {
		m.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		m.Fatal(err)
	}
	if err := w.Close(); err != nil {
		m.Fatal(err)
	}
	m.files["/dists/s/InRelease"] = b.Bytes()
	m.files["/dists/s/main/binary-amd64/Packages.xz"] = packed
}

// memory is Dates in memory.
type memory map[string]time.Time

func (m memory) IndexDate(_ context.Context, suite string) (time.Time, error) { return m[suite], nil }
func (m memory) PutIndexDate(_ context.Context, suite string, date time.Time) error {
	m[suite] = date
	return nil
}

// open returns a client with dates and a cache.
func (m *archive) open(dates Dates, cache string, older bool) *Archive {
	m.Helper()
	var ring bytes.Buffer
	for _, k := range m.keys {
		if err := k.Serialize(&ring); err != nil {
			m.Fatal(err)
		}
	}
	file := filepath.Join(m.TempDir(), "keys")
	if err := os.WriteFile(file, ring.Bytes(), 0o600); err != nil {
		m.Fatal(err)
	}
	a, err := Open(Options{Sources: m.sources, Keyring: file, Cache: cache, Dates: dates, AllowOlder: older})
	if err != nil {
		m.Fatal(err)
	}
	m.Cleanup(a.Close)
	return a
}

func (m *archive) packages(a *Archive) ([]Package, error) {
	return a.Packages(m.Context(), "s", "main", func(name string) bool { return name != "other" })
}

func TestAnOlderIndexIsRefused(t *testing.T) {
	m, dates := newArchive(t), memory{}
	first := time.Date(2026, 7, 11, 10, 16, 37, 0, time.UTC)
	at := func(date time.Time, older bool) error {
		t.Helper()
		m.publish(date, somePackages, len(somePackages), "")
		found, err := m.packages(m.open(dates, t.TempDir(), older))
		if err == nil && (len(found) != 2 || !found[0].IndexDate.Equal(date) || found[0].Key != Fingerprint(m.keys[0])) {
			t.Errorf("found %+v", found)
		}
		return err
	}
	for _, date := range []time.Time{first, first, first.Add(time.Hour)} {
		if err := at(date, false); err != nil || !dates["s"].Equal(date) {
			t.Fatalf("of %s: %v, remembered %s", date, err, dates["s"])
		}
	}
	err := at(first, false)
	if errs.KindOf(err) != errs.Unavailable || !strings.Contains(err.Error(), ErrOlder.Error()) || errs.HintOf(err) == "" || !dates["s"].Equal(first.Add(time.Hour)) {
		t.Errorf("a replay: %v, remembered %s", err, dates["s"])
	}
	// Whoever wants an older one says so, and then it is the newest.
	if err := at(first, true); err != nil || !dates["s"].Equal(first) {
		t.Errorf("an older one that is wanted: %v, remembered %s", err, dates["s"])
	}
	if err := at(time.Time{}, false); err == nil || !strings.Contains(err.Error(), "no date") {
		t.Errorf("without a date: %v", err)
	}
	// What is not trusted is not remembered.
	m.publish(first.Add(24*time.Hour), somePackages, len(somePackages), "", newTestKey(t))
	if _, err := m.packages(m.open(dates, t.TempDir(), false)); err == nil || !dates["s"].Equal(first) {
		t.Errorf("signed by nobody we know: %v, remembered %s", err, dates["s"])
	}
	m.publish(first.Add(24*time.Hour), somePackages, len(somePackages), "Valid-Until: Sat, 01 Jan 2022 00:00:00 UTC\n")
	if _, err := m.packages(m.open(dates, t.TempDir(), false)); err == nil || !dates["s"].Equal(first) {
		t.Errorf("expired: %v, remembered %s", err, dates["s"])
	}
}

func TestIndexIsFetchedOnce(t *testing.T) {
	m, cache := newArchive(t), t.TempDir()
	for i, want := range []int{1, 1, 2} {
		index := somePackages
		if i == 2 {
			index += "\n"
		}
		m.publish(time.Now(), index, len(index), "")
		if found, err := m.packages(m.open(memory{}, cache, false)); err != nil || len(found) != 2 || m.hits["Packages.xz"] != want {
			t.Fatalf("round %d: %d packages, %v, fetched %d times", i, len(found), err, m.hits["Packages.xz"])
		}
		if left, _ := os.ReadDir(cache); len(left) != 1 {
			t.Errorf("the cache has %v", left)
		}
	}
}

func TestIndexIsBounded(t *testing.T) {
	m := newArchive(t)
	for plain, want := range map[int]string{
		len(somePackages): "", -1: "", len(somePackages) - 1: errTooLong.Error(), 0: errTooLong.Error(), maxPlain + 1: "too large",
	} {
		m.publish(time.Now(), somePackages, plain, "")
		if _, err := m.packages(m.open(nil, t.TempDir(), false)); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("said to have %d bytes: %v, want %q", plain, err, want)
		}
	}
}

func TestOneGoodSignatureIsEnough(t *testing.T) {
	m := newArchive(t)
	stranger := newTestKey(t)
	for name, keys := range map[string][]*openpgp.Entity{"first": {m.keys[0], stranger}, "second": {stranger, m.keys[0]}} {
		m.publish(time.Now(), somePackages, -1, "", keys...)
		if _, err := m.packages(m.open(nil, t.TempDir(), false)); err != nil {
			t.Errorf("ours is the %s: %v", name, err)
		}
	}
	m.publish(time.Now(), somePackages, -1, "", stranger, newTestKey(t))
	if _, err := m.packages(m.open(nil, t.TempDir(), false)); err == nil || !strings.Contains(err.Error(), errNoKey.Error()) {
		t.Errorf("strangers: %v", err)
	}
}
