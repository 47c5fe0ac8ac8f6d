package registry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"banger/internal/oci"
)

// fake is a registry that behaves, but for what hook does.
type fake struct {
	t   testing.TB
	srv *httptest.Server
	// host is its host:port.
	host string

	mu        sync.Mutex
	documents map[string]document // by path
	blobs     map[string][]byte   // by path
	log       []string            // method and path of each request
	// hook may answer a request itself; it then returns true.
	hook func(w http.ResponseWriter, r *http.Request) bool
}

type document struct {
	mediaType string
	raw       []byte
}

// newFake starts a registry on a loopback address.
func newFake(t testing.TB, address string) *fake {
	t.Helper()
	f := &fake{t: t, documents: map[string]document{}, blobs: map[string][]byte{}}
	l, err := net.Listen("tcp", address+":0")
	if err != nil {
		t.Fatal(err)
	}
	f.srv = httptest.NewUnstartedServer(f)
	_ = f.srv.Listener.Close()
	f.srv.Listener = l
	f.srv.Start()
	t.Cleanup(f.srv.Close)
	f.host = l.Addr().String()
	return f
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	hook := f.hook
	f.log = append(f.log, r.Method+" "+r.URL.Path)
	d, isDocument := f.documents[r.URL.Path]
	blob, isBlob := f.blobs[r.URL.Path]
	f.mu.Unlock()
	if agent := r.Header.Get("User-Agent"); !strings.HasPrefix(agent, "banger/") {
		f.t.Errorf("%s %s from %q", r.Method, r.URL.Path, agent)
	}
	switch {
	case hook != nil && hook(w, r):
	case r.URL.Path == "/v2/":
	case isDocument:
		w.Header().Set("Content-Type", d.mediaType)
		w.Header().Set("Docker-Content-Digest", oci.Digest(d.raw))
		_, _ = w.Write(d.raw)
	case isBlob:
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(blob)))
	default:
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}`)
	}
}

// set changes what is the server's.
func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// count returns how many requests there were whose method and path begin so.
func (f *fake) count(prefix string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, l := range f.log {
		if strings.HasPrefix(l, prefix) {
			n++
		}
	}
	return n
}

func (f *fake) putDocument(repo string, v any, mediaType string, tags ...string) v1.Descriptor {
	f.t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		f.t.Fatal(err)
	}
	d := descriptor(f.t, raw, mediaType)
	f.set(func() {
		for _, tag := range append(tags, d.Digest.String()) {
			f.documents["/v2/"+repo+"/manifests/"+tag] = document{mediaType, raw}
		}
	})
	return d
}

func (f *fake) putBlob(repo string, raw []byte, mediaType string) v1.Descriptor {
	f.t.Helper()
	d := descriptor(f.t, raw, mediaType)
	f.set(func() { f.blobs["/v2/"+repo+"/blobs/"+d.Digest.String()] = raw })
	return d
}

func descriptor(t testing.TB, raw []byte, mediaType string) v1.Descriptor {
	t.Helper()
	hash, err := v1.NewHash(oci.Digest(raw))
	if err != nil {
		t.Fatal(err)
	}
	return v1.Descriptor{MediaType: types.MediaType(mediaType), Size: int64(len(raw)), Digest: hash}
}

// putImage puts an image of one layer for amd64 and one for arm64 and their index,
// which it returns the descriptor of.
func (f *fake) putImage(repo string, layer []byte, tags ...string) v1.Descriptor {
	f.t.Helper()
	index := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}
	for _, arch := range []string{"amd64", "arm64"} {
		raw, err := json.Marshal(v1.ConfigFile{OS: "linux", Architecture: arch, RootFS: v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{descriptor(f.t, layer, "").Digest}}})
		if err != nil {
			f.t.Fatal(err)
		}
		m := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1,
			Config: f.putBlob(repo, raw, string(types.OCIConfigJSON)),
			Layers: []v1.Descriptor{f.putBlob(repo, layer, string(types.OCIUncompressedLayer))}}
		d := f.putDocument(repo, m, string(types.OCIManifestSchema1))
		d.Platform = &v1.Platform{OS: "linux", Architecture: arch}
		index.Manifests = append(index.Manifests, d)
	}
	return f.putDocument(repo, index, string(types.OCIImageIndex), tags...)
}

var amd64 = oci.Platform{OS: "linux", Architecture: "amd64"}

// content returns n bytes that are not all the same.
func content(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * i >> 7)
	}
	return b
}

// pauses are those that a client made, which took no time.
type pauses struct {
	mu  sync.Mutex
	all []time.Duration
}

func (p *pauses) wait(ctx context.Context, d time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = append(p.all, d)
	return ctx.Err()
}

func (p *pauses) take() []time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.all
	p.all = nil
	return all
}

// noCredentials is a keychain without any.
type noCredentials struct{}

func (noCredentials) Resolve(authn.Resource) (authn.Authenticator, error) {
	return authn.Anonymous, nil
}

// newClient returns a client that has no credentials and waits for nothing.
func newClient(t testing.TB, o Options) (*Client, *pauses) {
	t.Helper()
	if o.Keychain == nil {
		o.Keychain = noCredentials{}
	}
	if o.Proxy == nil {
		o.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil }
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	p := &pauses{}
	c.patience.wait = p.wait
	t.Cleanup(func() { _ = c.Close() })
	return c, p
}

// publicBut makes a client take all addresses for public but these.
func publicBut(c *Client, private ...string) {
	c.public = func(a netip.Addr) bool {
		for _, p := range private {
			// localhost may be either.
			if a.Unmap() == netip.MustParseAddr(p) || p == "127.0.0.1" && a == netip.IPv6Loopback() {
				return false
			}
		}
		return true
	}
}

func parse(t testing.TB, s string) oci.Reference {
	t.Helper()
	ref, err := oci.ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// read reads a layer from an offset on.
func read(ctx context.Context, l oci.Layer, offset int64) (from int64, b []byte, err error) {
	r, from, err := l.Source(ctx, offset)
	if err != nil {
		return 0, nil, err
	}
	defer r.Close() //nolint:errcheck // it was only read
	b, err = io.ReadAll(r)
	return from, b, err
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(s[:])
}

// jsonError is an answer with an error of the registry.
func jsonError(w http.ResponseWriter, status int, code, message string) bool {
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"errors":[{"code":%q,"message":%q}]}`, code, message)
	return true
}
