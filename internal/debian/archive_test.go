package debian

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"banger/internal/base/errs"
)

// fetcher returns an archive that can Fetch, which needs no signature, and a
// package of it with this content.
func fetcher(t *testing.T, h http.HandlerFunc, content string) (*Archive, Package) {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	a := &Archive{cache: t.TempDir(), client: newClient(nil), stall: time.Minute}
	t.Cleanup(a.Close)
	return a, Package{
		Name: "p", URI: server.URL, Filename: "pool/p_1+2~3.deb",
		digest: digest{size: int64(len(content)), sha256: sha256.Sum256([]byte(content))},
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
		hits    int32
	}{
		"missing":   {http.NotFound, errs.NotFound, "there is no", 1},
		"forbidden": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) }, errs.Unavailable, "403", 1},
		"broken":    {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, errs.Unavailable, "503", attempts},
		"tampered":  {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "CONTENT") }, errs.Unavailable, "cannot trust", 1},
		"longer":    {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "content!") }, errs.Unavailable, "cannot trust", 1},
		"truncated": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "7")
			_, _ = io.WriteString(w, "con")
		}, errs.Unavailable, "unexpected EOF", attempts},
		"to a file": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		}, errs.Unavailable, "refused the redirection", attempts},
	} {
		t.Run(name, func(t *testing.T) {
			var hits atomic.Int32
			a, p := fetcher(t, func(w http.ResponseWriter, r *http.Request) { hits.Add(1); test.answer(w, r) }, "content")
			_, err := a.Fetch(t.Context(), p, nil)
			if errs.KindOf(err) != test.kind || !strings.Contains(err.Error(), test.message) || hits.Load() != test.hits {
				t.Errorf("%v (%s), %d requests; want %s (%q), %d", err, errs.KindOf(err), hits.Load(), test.kind, test.message, test.hits)
			}
			if left, _ := os.ReadDir(a.cache); len(left) != 0 {
				t.Errorf("left %v behind", left)
			}
		})
	}
}

func TestFetchTriesAgain(t *testing.T) {
	var hits atomic.Int32
	a, p := fetcher(t, func(w http.ResponseWriter, _ *http.Request) {
		if hits.Add(1) == 1 {
			w.Header().Set("Content-Length", "7")
			_, _ = io.WriteString(w, "con")
			return
		}
		_, _ = io.WriteString(w, "content")
	}, "content")
	if _, err := a.Fetch(t.Context(), p, nil); err != nil || hits.Load() != 2 {
		t.Errorf("%v after %d requests", err, hits.Load())
	}
}

func TestFetchGivesUpASilentMirror(t *testing.T) {
	a, p := fetcher(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "7")
		_, _ = io.WriteString(w, "con")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}, "content")
	a.stall = 20 * time.Millisecond
	if _, err := a.Fetch(t.Context(), p, nil); errs.KindOf(err) != errs.Unavailable || !strings.Contains(err.Error(), "no byte came for 20ms") {
		t.Errorf("err = %v", err)
	}
}

func TestFetchStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	a, p := fetcher(t, func(_ http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() }, "content")
	if _, err := a.Fetch(ctx, p, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v, want canceled", err)
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
