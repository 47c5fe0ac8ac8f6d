package fetch_test

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
	"banger/internal/fetch"
)

const content = "content"

// digest is that of content, with its size or without.
func digest(size int64) fetch.Digest {
	return fetch.Digest{Size: size, SHA256: sha256.Sum256([]byte(content))}
}

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL + "/f"
}

func client(t *testing.T, o fetch.Options) *fetch.Client {
	t.Helper()
	c := fetch.New(o)
	t.Cleanup(c.Close)
	return c
}

func TestFileIsFetchedOnce(t *testing.T) {
	var hits atomic.Int32
	uri := serve(t, func(w http.ResponseWriter, _ *http.Request) { hits.Add(1); _, _ = io.WriteString(w, content) })
	c, path := client(t, fetch.Options{}), filepath.Join(t.TempDir(), "f")
	var done int64
	for i, want := range []int32{1, 1, 2} {
		if i == 2 { // a flipped bit
			if err := os.WriteFile(path, []byte("Content"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for _, size := range []int64{7, -1} {
			if err := c.File(t.Context(), uri, path, digest(size), 100, func(n int64) { done = n }); err != nil || hits.Load() != want || done != 7 {
				t.Fatalf("fetch %d: %v, %d requests, %d bytes reported", i, err, hits.Load(), done)
			}
		}
		if got, _ := os.ReadFile(path); string(got) != content {
			t.Fatalf("the file has %q", got)
		}
	}
}

func TestFailures(t *testing.T) {
	text := func(s string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, s) }
	}
	status := func(n int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(n) }
	}
	for name, test := range map[string]struct {
		answer  http.HandlerFunc
		size    int64
		kind    errs.Kind
		message string
		hits    int32
	}{
		"missing":   {http.NotFound, 7, errs.NotFound, "there is no", 1},
		"forbidden": {status(403), 7, errs.Unavailable, "403", 1},
		"broken":    {status(503), 7, errs.Unavailable, "503", fetch.Attempts},
		"tampered":  {text("CONTENT"), 7, errs.Internal, "not the file", 1},
		"longer":    {text("content!"), 7, errs.Internal, "not the file", 1},
		"shorter":   {text("conten"), -1, errs.Internal, "not the file", 1},
		"too large": {text(strings.Repeat("x", 101)), -1, errs.Invalid, "larger than", 1},
		"truncated": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "7")
			_, _ = io.WriteString(w, "con")
		}, 7, errs.Unavailable, "unexpected EOF", fetch.Attempts},
		"to a file": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		}, 7, errs.Unavailable, "refused the redirection", fetch.Attempts},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var hits atomic.Int32
			uri := serve(t, func(w http.ResponseWriter, r *http.Request) { hits.Add(1); test.answer(w, r) })
			dir := t.TempDir()
			err := client(t, fetch.Options{Hint: "check"}).File(t.Context(), uri, filepath.Join(dir, "f"), digest(test.size), 100, nil)
			if err == nil || errs.KindOf(err) != test.kind || !strings.Contains(err.Error(), test.message) || hits.Load() != test.hits {
				t.Errorf("%v (%s), %d requests; want %s (%q), %d", err, errs.KindOf(err), hits.Load(), test.kind, test.message, test.hits)
			}
			if test.kind == errs.Unavailable && errs.HintOf(err) != "check" {
				t.Errorf("hint %q", errs.HintOf(err))
			}
			if left, _ := os.ReadDir(dir); len(left) != 0 {
				t.Errorf("left %v behind", left)
			}
		})
	}
}

func TestGetTriesAgain(t *testing.T) {
	var hits atomic.Int32
	uri := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if hits.Add(1) == 1 {
			w.Header().Set("Content-Length", "7")
			_, _ = io.WriteString(w, "con")
			return
		}
		_, _ = io.WriteString(w, content)
	})
	err := client(t, fetch.Options{}).File(t.Context(), uri, filepath.Join(t.TempDir(), "f"), digest(7), 100, nil)
	if err != nil || hits.Load() != 2 {
		t.Errorf("%v after %d requests", err, hits.Load())
	}
}

func TestGetGivesUpASilentServer(t *testing.T) {
	uri := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "7")
		_, _ = io.WriteString(w, "con")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	c := client(t, fetch.Options{Stall: 20 * time.Millisecond})
	err := c.Get(t.Context(), uri, func(r io.Reader) error { _, err := io.Copy(io.Discard, r); return err })
	if errs.KindOf(err) != errs.Unavailable || !strings.Contains(err.Error(), "no byte came for 20ms") {
		t.Errorf("err = %v", err)
	}
}

func TestGetStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	uri := serve(t, func(_ http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() })
	if err := client(t, fetch.Options{}).Get(ctx, uri, func(io.Reader) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v, want canceled", err)
	}
}

func TestCheckURL(t *testing.T) {
	for url, ok := range map[string]bool{
		"https://example.com/x": true, "http://127.0.0.1:1/x": true, "file:///tmp/x": true, "file://host/x": false, "ftp://example.com/x": false,
		"/tmp/x": false, "": false, "https://": false, "https://u:secret@": false, "http://[::1": false,
	} {
		if err := fetch.CheckURL(url); (err == nil) != ok || !ok && (errs.KindOf(err) != errs.Invalid || errs.HintOf(err) == "" || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%q: %v", url, err)
		}
	}
}

func TestParseDigest(t *testing.T) {
	for text, ok := range map[string]bool{
		digest(1).String(): true, strings.ToUpper(digest(1).String()): true,
		digest(1).Hex(): false, "sha256:00": false, "sha256:" + strings.Repeat("g", 64): false, "sha512:" + strings.Repeat("0", 64): false, "": false,
	} {
		d, err := fetch.ParseDigest(text)
		if (err == nil) != ok || ok && d.SHA256 != digest(1).SHA256 || !ok && errs.HintOf(err) == "" {
			t.Errorf("%q: %v, %v", text, d, err)
		}
	}
}
