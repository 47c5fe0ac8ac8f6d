package debian

import (
	"crypto/sha256"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"banger/internal/base/errs"
	"banger/internal/fetch"
)

// fetcher returns an archive that can Fetch, which needs no signature, and a
// package of it with this content.
func fetcher(t *testing.T, h http.HandlerFunc, content string) (*Archive, Package) {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	a := &Archive{cache: t.TempDir(), client: fetch.New(fetch.Options{Hint: "check the mirror"})}
	t.Cleanup(a.Close)
	return a, Package{
		Name: "p", URI: server.URL, Filename: "pool/p_1+2~3.deb",
		digest: fetch.Digest{Size: int64(len(content)), SHA256: sha256.Sum256([]byte(content))},
	}
}

func TestFetchKeepsAGoodCopy(t *testing.T) {
	var hits atomic.Int32
	a, p := fetcher(t, func(w http.ResponseWriter, r *http.Request) {
		hits.Add(1)
		if r.URL.Path != "/pool/p_1+2~3.deb" {
			t.Errorf("asked for %q", r.URL.Path)
		}
		_, _ = io.WriteString(w, "content")
	}, "content")
	var done int64
	for want := range int32(2) {
		path, err := a.Fetch(t.Context(), p, func(n int64) { done = n })
		if err != nil || hits.Load() != 1 || done != 7 {
			t.Fatalf("fetch %d: %v, %d requests, %d bytes reported", want, err, hits.Load(), done)
		}
		if got, _ := os.ReadFile(path); string(got) != "content" {
			t.Fatalf("the file has %q", got)
		}
	}
	path := filepath.Join(a.cache, p.SHA256()+".deb")
	if err := os.WriteFile(path, []byte("Content"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Fetch(t.Context(), p, nil); err != nil || hits.Load() != 2 {
		t.Fatalf("after a flipped bit: %v, %d requests; want a second one", err, hits.Load())
	}
	if got, _ := os.ReadFile(path); string(got) != "content" {
		t.Errorf("the file has %q", got)
	}
}

func TestFetchFailures(t *testing.T) {
	for name, test := range map[string]struct {
		answer  http.HandlerFunc
		kind    errs.Kind
		message string
	}{
		"missing":  {http.NotFound, errs.NotFound, "there is no"},
		"tampered": {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "CONTENT") }, errs.Unavailable, "cannot trust"},
		"longer":   {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "content!") }, errs.Unavailable, "cannot trust"},
	} {
		t.Run(name, func(t *testing.T) {
			a, p := fetcher(t, test.answer, "content")
			_, err := a.Fetch(t.Context(), p, nil)
			if errs.KindOf(err) != test.kind || !strings.Contains(err.Error(), test.message) {
				t.Errorf("%v (%s); want %s (%q)", err, errs.KindOf(err), test.kind, test.message)
			}
			if left, _ := os.ReadDir(a.cache); len(left) != 0 {
				t.Errorf("left %v behind", left)
			}
		})
	}
}

func TestFetchFromAFolder(t *testing.T) {
	a, p := fetcher(t, nil, "content")
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "pool"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, p.Filename), []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	p.URI = "file:" + dir
	if _, err := a.Fetch(t.Context(), p, nil); err != nil {
		t.Error(err)
	}
}

func TestCandidates(t *testing.T) {
	a := &Archive{sources: []Source{
		{URI: "plain", Suites: []string{"trixie", "trixie-updates"}},
		{URI: "security", Suites: []string{"trixie-security"}},
		{URI: "plain", Suites: []string{"trixie-backports"}},
		{URI: "old", Suites: []string{"bookworm"}},
	}}
	for suite, want := range map[string]string{
		"bookworm":          "old plain security",
		"bookworm-security": "security plain old",
		"bookworm-updates":  "plain security old",
	} {
		var got []string
		for _, s := range a.candidates(suite) {
			got = append(got, s.URI)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %q", suite, got, want)
		}
	}
}

func TestOpenSaysWhatIsMissing(t *testing.T) {
	_, err := Open(Options{Cache: t.TempDir()})
	if errs.KindOf(err) != errs.Unavailable || errs.HintOf(err) == "" {
		t.Errorf("no sources: %v, hint %q", err, errs.HintOf(err))
	}
	_, err = Open(Options{Cache: t.TempDir(), Sources: []Source{{}}, Keyring: filepath.Join(t.TempDir(), "none")})
	if errs.KindOf(err) != errs.Unavailable || !strings.Contains(errs.HintOf(err), "debian-archive-keyring") {
		t.Errorf("no keyring: %v, hint %q", err, errs.HintOf(err))
	}
}
