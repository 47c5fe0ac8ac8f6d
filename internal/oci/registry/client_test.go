package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	ggcr "github.com/google/go-containerregistry/pkg/registry"

	"banger/internal/base/errs"
	"banger/internal/oci"
)

func TestResolve(t *testing.T) {
	f := newFake(t, "127.0.0.1")
	layer := content(100_000)
	index := f.putImage("a/b", layer, "latest", "v1")
	c, _ := newClient(t, Options{})
	for _, ref := range []string{"/a/b", "/a/b:v1", "/a/b@" + index.Digest.String(), "/a/b:gone@" + index.Digest.String()} {
		img, err := c.Resolve(t.Context(), parse(t, f.host+ref), amd64)
		if err != nil {
			t.Fatalf("%s: %v", ref, err)
		}
		if img.Index != index.Digest.String() || img.Config.Architecture != "amd64" || len(img.Layers) != 1 || sum(img.Manifest) != img.Digest {
			t.Errorf("%s: %+v", ref, img)
		}
		for _, offset := range []int64{0, 1, 70_000, int64(len(layer))} {
			from, b, err := read(t.Context(), img.Layers[0], offset)
			if err != nil || from != offset || !bytes.Equal(b, layer[offset:]) {
				t.Errorf("%s from %d: %d bytes from %d, %v", ref, offset, len(b), from, err)
			}
		}
		for _, offset := range []int64{-1, int64(len(layer)) + 1} {
			if _, _, err := read(t.Context(), img.Layers[0], offset); errs.KindOf(err) != errs.Invalid {
				t.Errorf("%s from %d: %v", ref, offset, err)
			}
		}
	}
}

// Our fake could share a mistake with us.
func TestResolveFromSomebodyElsesRegistry(t *testing.T) {
	srv := httptest.NewServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))))
	defer srv.Close()
	f := newFake(t, "127.0.0.1")
	layer := content(50_000)
	f.putImage("x/y", layer, "latest")
	for path, b := range f.blobs {
		upload(t, http.MethodPost, srv.URL+path[:strings.LastIndex(path, "/")]+"/uploads/?digest="+sum(b), "application/octet-stream", b)
	}
	for _, list := range []bool{false, true} { // an index comes after what it lists
		for path, d := range f.documents {
			if strings.Contains(d.mediaType, "index") == list {
				upload(t, http.MethodPut, srv.URL+path, d.mediaType, d.raw)
			}
		}
	}
	c, _ := newClient(t, Options{})
	img, err := c.Resolve(t.Context(), parse(t, strings.TrimPrefix(srv.URL, "http://")+"/x/y"), amd64)
	if err != nil {
		t.Fatal(err)
	}
	// It refuses ranges without an end, with status 416.
	for _, offset := range []int64{0, 1000} {
		if from, b, err := read(t.Context(), img.Layers[0], offset); err != nil || from != 0 || !bytes.Equal(b, layer) {
			t.Errorf("from %d: %d bytes from %d, %v", offset, len(b), from, err)
		}
	}
}

func upload(t *testing.T, method, url, mediaType string, b []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", mediaType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("%s %s: %s", method, url, resp.Status)
	}
}

func TestResolveFails(t *testing.T) {
	f := newFake(t, "127.0.0.1")
	index := f.putImage("a/b", content(10), "latest")
	other := f.putImage("a/b", content(11), "other")
	answer := func(path string, a func(w http.ResponseWriter, r *http.Request)) func() {
		return func() {
			f.hook = func(w http.ResponseWriter, r *http.Request) bool {
				if strings.HasPrefix(r.URL.Path, path) {
					a(w, r)
					return true
				}
				return false
			}
		}
	}
	for name, c := range map[string]struct {
		ref   string
		p     oci.Platform
		setup func()
		kind  errs.Kind
		want  string
	}{
		"no such tag":   {"/a/b:none", amd64, nil, errs.NotFound, "does not have it: MANIFEST_UNKNOWN: manifest unknown"},
		"no such image": {"/none", amd64, nil, errs.NotFound, "cannot pull \"" + f.host + "/none:latest\""},
		"no platform":   {"/a/b", oci.Platform{OS: "linux", Architecture: "riscv64"}, nil, errs.NotFound, "only for linux/amd64, linux/arm64"},
		"another manifest": {"/a/b@" + index.Digest.String(), amd64, func() {
			f.documents["/v2/a/b/manifests/"+index.Digest.String()] = f.documents["/v2/a/b/manifests/other"]
		}, errs.Invalid, "its digest is " + other.Digest.String()},
		"a header that lies": {"/a/b", amd64, answer("/v2/a/b/manifests/latest", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Docker-Content-Digest", other.Digest.String())
			_, _ = io.WriteString(w, "{}")
		}), errs.Invalid, "says that the manifest has the digest"},
		"a huge manifest": {"/a/b", amd64, answer("/v2/a/b/manifests/latest", func(w http.ResponseWriter, _ *http.Request) {
			for range 5 << 10 {
				if _, err := w.Write(make([]byte, 1<<10)); err != nil {
					return
				}
			}
		}), errs.Invalid, "more than the 4194304 bytes"},
		"a huge manifest, announced": {"/a/b", amd64, answer("/v2/a/b/manifests/latest", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "99999999999")
		}), errs.Invalid, "more than the 4194304 bytes"},
		"a config that is too long": {"/a/b", amd64, answer("/v2/a/b/blobs/", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(make([]byte, 4<<10))
		}), errs.Invalid, "sends more than the"},
		"another config": {"/a/b", amd64, answer("/v2/a/b/blobs/", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "{}")
		}), errs.Invalid, "bytes long that it should be"},
		"a web server": {"/a/b", amd64, answer("/v2/", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusTeapot)
			_, _ = io.WriteString(w, "\x1b[31mhello")
		}), errs.Unavailable, "answers with status 418"},
		"a web server without it": {"/a/b", amd64, answer("/v2/", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNotFound)
		}), errs.Unavailable, "answers with status 404"},
		"a page": {"/a/b", amd64, answer("/v2/a/", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "<html>")
		}), errs.Invalid, "no JSON"},
		"an old registry": {"/a/b", amd64, answer("/v2/a/", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/vnd.docker.distribution.manifest.v1+prettyjws")
			_, _ = io.WriteString(w, `{"schemaVersion": 1}`)
		}), errs.Invalid, "schema 1"},
		"always overloaded": {"/a/b", amd64, answer("/v2/a/", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
		}), errs.Unavailable, "fails with status 502"},
		"cut, again and again": {"/a/b", amd64, answer("/v2/a/", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "{")
		}), errs.Unavailable, "breaks off: unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			f.set(func() {
				if f.hook = nil; c.setup != nil {
					c.setup()
				}
			})
			client, _ := newClient(t, Options{})
			img, err := client.Resolve(t.Context(), parse(t, f.host+c.ref), c.p)
			if errs.KindOf(err) != c.kind || !strings.Contains(fmt.Sprint(err), c.want) {
				t.Errorf("%v, %v", img, err)
			}
			if c.kind != errs.Invalid && errs.HintOf(err) == "" {
				t.Error("there is no hint")
			}
			if strings.ContainsRune(err.Error(), 0x1b) {
				t.Errorf("%q", err)
			}
		})
	}
}

func TestPatience(t *testing.T) {
	f := newFake(t, "127.0.0.1")
	f.putImage("a/b", content(10), "latest")
	fail := func(n int, with func(w http.ResponseWriter)) {
		f.set(func() {
			f.log = nil
			f.hook = func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, "/manifests/latest") || n == 0 {
					return false
				}
				n--
				with(w)
				return true
			}
		})
	}
	c, paused := newClient(t, Options{})
	resolve := func() error {
		_, err := c.Resolve(t.Context(), parse(t, f.host+"/a/b"), amd64)
		return err
	}
	inRange := func(all []time.Duration, want ...time.Duration) bool {
		return slices.EqualFunc(all, want, func(got, want time.Duration) bool { return got >= want/2 && got <= want })
	}

	fail(2, func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) })
	if err := resolve(); err != nil {
		t.Errorf("two failures: %v", err)
	}
	if got := paused.take(); !inRange(got, 250*time.Millisecond, 500*time.Millisecond) {
		t.Errorf("paused for %v", got)
	}
	fail(1, func(w http.ResponseWriter) {
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	if err := resolve(); err != nil {
		t.Errorf("too many requests: %v", err)
	}
	if got := paused.take(); !slices.Equal(got, []time.Duration{7 * time.Second}) {
		t.Errorf("paused for %v", got)
	}
	fail(-1, func(w http.ResponseWriter) {
		w.Header().Set("Retry-After", "3600")
		jsonError(w, http.StatusTooManyRequests, "TOOMANYREQUESTS", "You have reached your limit")
	})
	if err := resolve(); errs.KindOf(err) != errs.Unavailable || !strings.Contains(err.Error(), "You have reached your limit, for 1h0m0s") || !strings.Contains(errs.HintOf(err), "docker login "+f.host) {
		t.Errorf("much too many requests: %v (%s)", err, errs.HintOf(err))
	}
	if got := f.count("GET /v2/a/b/manifests/latest"); len(paused.take()) != 0 || got != 1 {
		t.Errorf("%d requests", got)
	}
	fail(-1, func(w http.ResponseWriter) { w.WriteHeader(http.StatusInternalServerError) })
	if err := resolve(); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("always failing: %v", err)
	}
	if got := f.count("GET /v2/a/b/manifests/latest"); len(paused.take()) != 3 || got != 4 {
		t.Errorf("%d requests", got)
	}
	// The connection is closed before the answer, and in the middle of it.
	for _, head := range []string{"", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"} {
		fail(2, func(w http.ResponseWriter) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.WriteString(conn, head)
			_ = conn.Close()
		})
		if err := resolve(); err != nil {
			t.Errorf("hung up after %q: %v", head, err)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for v, want := range map[string]time.Duration{
		"": 0, "0": 0, "12": 12 * time.Second, "-1": 0, "soon": 0, "99999999999999": 0,
		"Fri, 02 Jan 2026 03:05:05 GMT": time.Minute, "Fri, 02 Jan 2026 03:00:00 GMT": 0,
	} {
		if got := retryAfter(http.Header{"Retry-After": {v}}, now); got != want {
			t.Errorf("%q: %v", v, got)
		}
	}
}

// A registry that sends a byte now and then does not hold us for ever.
func TestDrip(t *testing.T) {
	f := newFake(t, "127.0.0.1")
	f.set(func() {
		f.hook = func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/manifests/") {
				return false
			}
			for {
				if _, err := io.WriteString(w, " "); err != nil || r.Context().Err() != nil {
					return true
				}
				_ = http.NewResponseController(w).Flush()
				select {
				case <-time.After(5 * time.Millisecond):
				case <-r.Context().Done():
				}
			}
		}
	})
	c, _ := newClient(t, Options{})
	c.patience.document = 150 * time.Millisecond
	if _, err := c.Resolve(t.Context(), parse(t, f.host+"/a/b"), amd64); errs.KindOf(err) != errs.Unavailable || !strings.Contains(err.Error(), "is too slow: it was not there after 150ms") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Resolve(ctx, parse(t, f.host+"/a/b"), amd64); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the caller's own bound: %v", err)
	}
}

func TestLayersThatLie(t *testing.T) {
	f := newFake(t, "127.0.0.1")
	layer := content(1000)
	f.putImage("a/b", layer, "latest")
	c, _ := newClient(t, Options{})
	img, err := c.Resolve(t.Context(), parse(t, f.host+"/a/b"), amd64)
	if err != nil {
		t.Fatal(err)
	}
	partial := func(rng string, b []byte) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			w.Header().Set("Content-Range", rng)
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(b)
			_ = http.NewResponseController(w).Flush()
		}
	}
	chunked := func(b []byte) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			_ = http.NewResponseController(w).Flush()
			_, _ = w.Write(b)
		}
	}
	for name, c := range map[string]struct {
		offset int64
		answer func(http.ResponseWriter)
		from   int64
		got    int
		kind   errs.Kind // or empty
		want   string
	}{
		"no ranges":            {500, chunked(layer), 0, 1000, "", ""},
		"from before":          {500, partial("bytes 400-999/1000", layer[400:]), 400, 600, "", ""},
		"of unknown size":      {500, partial("bytes 500-999/*", layer[500:]), 500, 500, "", ""},
		"from behind":          {500, partial("bytes 501-999/1000", layer[501:]), 0, 0, errs.Unavailable, "it begins at 501"},
		"of something else":    {500, partial("bytes 500-998/999", layer[500:999]), 0, 0, errs.Unavailable, "wrong range"},
		"not to the end":       {500, partial("bytes 500-600/1000", layer[500:601]), 0, 0, errs.Unavailable, "wrong range"},
		"no range named":       {500, partial("", layer[500:]), 0, 0, errs.Unavailable, "wrong range"},
		"a range of nonsense":  {500, partial("bytes -1-999/1000", layer[500:]), 0, 0, errs.Unavailable, "wrong range"},
		"too short, announced": {0, func(w http.ResponseWriter) { _, _ = w.Write(layer[:999]) }, 0, 0, errs.Invalid, "has 999 bytes of the 1000"},
		"too long, announced":  {0, func(w http.ResponseWriter) { _, _ = w.Write(append(layer[:1000:1000], 1)) }, 0, 0, errs.Invalid, "has 1001 bytes of the 1000"},
		"too short":            {0, chunked(layer[:999]), 0, 999, errs.Unavailable, "unexpected EOF"},
		"too long":             {0, chunked(append(layer[:1000:1000], 1)), 0, 1000, errs.Invalid, "sends more than it should"},
		"endless": {0, func(w http.ResponseWriter) {
			for {
				if _, err := w.Write(layer); err != nil {
					return
				}
			}
		}, 0, 1000, errs.Invalid, "sends more than it should"},
		"gone":               {0, func(w http.ResponseWriter) { jsonError(w, 404, "BLOB_UNKNOWN", "blob unknown to registry") }, 0, 0, errs.NotFound, "BLOB_UNKNOWN"},
		"refused by storage": {0, func(w http.ResponseWriter) { w.WriteHeader(http.StatusForbidden) }, 0, 0, errs.Unavailable, "does not let us have it"},
	} {
		t.Run(name, func(t *testing.T) {
			f.set(func() {
				f.hook = func(w http.ResponseWriter, r *http.Request) bool {
					if strings.HasSuffix(r.URL.Path, img.Layers[0].Digest) {
						c.answer(w)
						return true
					}
					return false
				}
			})
			from, b, err := read(t.Context(), img.Layers[0], c.offset)
			if from != c.from || len(b) != c.got || !bytes.Equal(b, layer[from:int(from)+len(b)]) {
				t.Errorf("%d bytes from %d", len(b), from)
			}
			if c.kind == "" && err != nil || c.kind != "" && (errs.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v", err)
			}
			if name == "too short" && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("it is no unexpected end: %v", err)
			}
		})
	}
}

// A layer that is cut again and again comes whole when it is resumed.
func TestResume(t *testing.T) {
	f := newFake(t, "127.0.0.1")
	layer := content(300_000)
	f.putImage("a/b", layer, "latest")
	c, _ := newClient(t, Options{})
	img, err := c.Resolve(t.Context(), parse(t, f.host+"/a/b"), amd64)
	if err != nil {
		t.Fatal(err)
	}
	f.set(func() {
		f.hook = func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, img.Layers[0].Digest) {
				return false
			}
			var from int
			if h := r.Header.Get("Range"); h != "" {
				if _, err := fmt.Sscanf(h, "bytes=%d-", &from); err != nil {
					t.Errorf("range %q", h)
				}
				w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(layer)-1, len(layer)))
				w.Header().Set("Content-Length", fmt.Sprint(len(layer)-from))
				w.WriteHeader(http.StatusPartialContent)
			} else {
				w.Header().Set("Content-Length", fmt.Sprint(len(layer)))
			}
			_, _ = w.Write(layer[from:min(len(layer), from+70_000)]) // and hangs up
			return true
		}
	})
	var got []byte
	for tries := 0; len(got) < len(layer); tries++ {
		from, b, err := read(t.Context(), img.Layers[0], int64(len(got)))
		if from != int64(len(got)) || tries > 10 {
			t.Fatalf("%d bytes from %d after %d, %v", len(b), from, len(got), err)
		}
		got = append(got, b...)
	}
	if !bytes.Equal(got, layer) {
		t.Error("it is another layer")
	}
}

func TestBadOptions(t *testing.T) {
	for name, o := range map[string]Options{
		"insecure":  {Insecure: []string{"a/b"}},
		"insecure ": {Insecure: []string{""}},
		"mirror":    {Mirrors: map[string][]string{"docker.io": {"mirror.example/UPPER"}}},
		"mirror ":   {Mirrors: map[string][]string{"docker.io": {""}}},
		"mirror  ":  {Mirrors: map[string][]string{"docker.io": {"ftp://x"}}},
		"registry":  {Mirrors: map[string][]string{"docker io": {"mirror.example"}}},
		"CA file":   {CAFile: "/nonexistent"},
		"CA file ":  {CAFile: "client_test.go"},
	} {
		if _, err := New(o); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	c, _ := newClient(t, Options{})
	if _, err := c.Resolve(t.Context(), oci.Reference{}, amd64); errs.KindOf(err) != errs.Invalid {
		t.Errorf("no reference: %v", err)
	}
}
