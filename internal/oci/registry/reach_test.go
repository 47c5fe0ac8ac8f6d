package registry

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/base/errs"
)

func TestIsPublic(t *testing.T) {
	for s, want := range map[string]bool{
		"8.8.8.8": true, "1.1.1.1": true, "2606:4700::1111": true, "::ffff:8.8.8.8": true, "64:ff9b::808:808": true, "2002:808:808::1": true,
		"172.32.0.1": true, "100.128.0.1": true, "203.0.114.1": true,
		"127.0.0.1": false, "127.9.9.9": false, "::1": false, "10.0.0.1": false, "172.16.0.1": false, "192.168.1.1": false,
		"169.254.169.254": false, "fe80::1": false, "fe80::1%eth0": false, "fd00:ec2::254": false, "0.0.0.0": false, "0.1.2.3": false, "::": false,
		"100.64.0.1": false, "224.0.0.1": false, "ff02::1": false, "255.255.255.255": false, "250.1.1.1": false, "192.0.0.170": false, "198.18.0.1": false,
		"::ffff:127.0.0.1": false, "::ffff:10.0.0.1": false, "64:ff9b::7f00:1": false, "64:ff9b::a9fe:a9fe": false, "64:ff9b:1::1": false,
		"2002:7f00:1::": false, "2002:a00:1::1": false, "fec0::1": false,
	} {
		if got := isPublic(netip.MustParseAddr(s)); got != want {
			t.Errorf("%s: %v", s, got)
		}
	}
}

// redirecting makes a registry send those who want blobs to another server.
func redirecting(f *fake, status int, to func(r *http.Request) string) {
	f.set(func() {
		f.hook = func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/blobs/") || r.URL.Query().Has("direct") {
				return false
			}
			w.Header().Set("Location", to(r))
			w.WriteHeader(status)
			return true
		}
	})
}

func TestRedirects(t *testing.T) {
	layer := content(5000)
	f, storage := newFake(t, "127.0.0.3"), newFake(t, "127.0.0.1")
	f.putImage("a/b", layer, "latest")
	storage.putImage("a/b", layer)
	local := strings.Replace(storage.host, "127.0.0.1", "localhost", 1)
	secret := with{Username: "me", Password: "secret"}
	storage.set(func() {
		storage.hook = func(_ http.ResponseWriter, r *http.Request) bool {
			if h := r.Header.Get("Authorization"); h != "" {
				t.Errorf("our credentials went to the storage: %q", h)
			}
			return false
		}
	})
	get := func(c *Client) error {
		img, err := c.Resolve(t.Context(), parse(t, f.host+"/a/b"), amd64)
		if err != nil {
			return err
		}
		for _, offset := range []int64{0, 1000} {
			from, b, err := read(t.Context(), img.Layers[0], offset)
			if err != nil {
				return err
			}
			if from != offset || !bytes.Equal(b, layer[offset:]) {
				t.Errorf("%d bytes from %d", len(b), from)
			}
		}
		return nil
	}
	for _, status := range []int{301, 302, 303, 307, 308} {
		redirecting(f, status, func(r *http.Request) string { return "http://" + local + r.URL.Path + "?signature=1" })
		c, _ := newClient(t, Options{Keychain: secret})
		if err := get(c); err != nil {
			t.Errorf("from a private registry, status %d: %v", status, err)
		}
	}
	for name, c := range map[string]struct {
		to      string
		private string
		want    string // or empty
	}{
		"to a public address":            {storage.host, "9.9.9.9", ""},
		"to a public name":               {local, "9.9.9.9", ""},
		"to a private address":           {storage.host, "127.0.0.1", "sends us astray: refused to go to " + storage.host},
		"to a name of a private address": {local, "127.0.0.1", "sends us astray: refused to go to "},
		"to the cloud's secrets":         {"169.254.169.254", "169.254.169.254", "refused to go to 169.254.169.254:80"},
		"with a password":                {"me:secret@" + storage.host, "9.9.9.9", ""},
	} {
		t.Run(name, func(t *testing.T) {
			redirecting(f, 307, func(r *http.Request) string { return "http://" + c.to + r.URL.Path })
			client, _ := newClient(t, Options{Keychain: secret})
			publicBut(client, c.private)
			err := get(client)
			if c.want == "" && err != nil || c.want != "" && (errs.KindOf(err) != errs.Invalid || !strings.Contains(fmt.Sprint(err), c.want)) {
				t.Errorf("got %v", err)
			}
		})
	}
	for name, c := range map[string]struct {
		to   func(*http.Request) string
		want string // or empty
	}{
		"to itself":         {func(r *http.Request) string { return r.URL.Path + "?direct" }, ""},
		"round":             {func(r *http.Request) string { return r.URL.Path }, "more than 5 redirections"},
		"to a file":         {func(*http.Request) string { return "file:///etc/passwd" }, "it is not at http or https"},
		"to no host":        {func(*http.Request) string { return "http:///x" }, "it is not at http or https"},
		"to nothing":        {func(*http.Request) string { return "" }, "sends us nowhere"},
		"to no url":         {func(*http.Request) string { return "http://[" }, "sends us nowhere"},
		"to what is not it": {func(*http.Request) string { return "http://" + storage.host + "/none" }, "or rather " + storage.host + ", does not have it"},
	} {
		redirecting(f, 302, c.to)
		client, _ := newClient(t, Options{})
		if err := get(client); c.want == "" && err != nil || c.want != "" && !strings.Contains(fmt.Sprint(err), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What a name is counts by the address that answered under it.
func TestRegistryWithAName(t *testing.T) {
	layer := content(5000)
	f, storage := newFake(t, "127.0.0.3"), newFake(t, "127.0.0.1")
	f.putImage("a/b", layer, "latest")
	storage.putImage("a/b", layer)
	redirecting(f, 307, func(r *http.Request) string { return "http://" + storage.host + r.URL.Path })
	for _, c := range []struct {
		private []string
		ok      bool
	}{{[]string{"127.0.0.3", "127.0.0.1"}, true}, {[]string{"127.0.0.1"}, false}} {
		client, _ := newClient(t, Options{Insecure: []string{"reg.example"}})
		publicBut(client, c.private...)
		client.lax.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, f.host)
		}
		_, err := client.Resolve(t.Context(), parse(t, "reg.example/a/b"), amd64)
		if (err == nil) != c.ok {
			t.Errorf("%v: %v", c.private, err)
		}
	}
}

// A public registry's token server is public too.
func TestPrivateTokenServer(t *testing.T) {
	f := newFake(t, "127.0.0.3")
	f.putImage("a/b", content(10), "latest")
	s := newTokens(t, f, 100) // at 127.0.0.1, by name
	c, _ := newClient(t, Options{Keychain: with{Username: "me", Password: "secret"}})
	publicBut(c, "127.0.0.1")
	if _, err := c.Resolve(t.Context(), parse(t, f.host+"/a/b"), amd64); errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error(), "sends us astray") {
		t.Errorf("got %v", err)
	}
	if len(s.asked) > 0 {
		t.Errorf("it was asked %q", s.asked)
	}
}

// secure starts a registry with TLS for the name example.com, and returns a function
// that has a client find it there, and its certificate.
func secure(t *testing.T) (f *fake, find func(*Client), certificate string) {
	f = newFake(t, "127.0.0.1")
	srv := httptest.NewUnstartedServer(f)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	certificate = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return f, func(c *Client) {
		dial := func(ctx context.Context, network, address string) (net.Conn, error) {
			if strings.HasPrefix(address, "example.com:") {
				address = srv.Listener.Addr().String()
			}
			if strings.HasPrefix(address, "plain.example.com:") {
				address = f.host
			}
			if strings.HasPrefix(address, "other.") {
				return nil, noSuchHost(address)
			}
			return (&net.Dialer{}).DialContext(ctx, network, address)
		}
		c.open.DialContext, c.lax.DialContext = dial, dial
	}, certificate
}

func noSuchHost(name string) error {
	return &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}}
}

func TestTLS(t *testing.T) {
	f, find, certificate := secure(t)
	f.putImage("a/b", content(10), "latest")
	for name, c := range map[string]struct {
		host string
		o    Options
		want string // or empty
		hint string
	}{
		"an unknown authority":   {"example.com", Options{}, "the certificate of example.com proves nothing", "CA file"},
		"a known authority":      {"example.com", Options{CAFile: certificate}, "", ""},
		"insecure":               {"example.com", Options{Insecure: []string{"example.com"}}, "", ""},
		"a port":                 {"example.com:444", Options{Insecure: []string{"example.com:444"}}, "", ""},
		"another port":           {"example.com:444", Options{Insecure: []string{"example.com:443"}}, "proves nothing", "list example.com:444 as insecure"},
		"another name":           {"other.example.com", Options{CAFile: certificate}, "cannot reach other.example.com", "check the registry's name"},
		"without TLS":            {"plain.example.com", Options{}, "plain.example.com speaks http without TLS", "list plain.example.com as insecure"},
		"without TLS, by intent": {"plain.example.com", Options{Insecure: []string{"PLAIN.example.com"}}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			client, _ := newClient(t, c.o)
			find(client)
			_, err := client.Resolve(t.Context(), parse(t, c.host+"/a/b"), amd64)
			if c.want == "" && err != nil || c.want != "" && (errs.KindOf(err) != errs.Unavailable || !strings.Contains(fmt.Sprint(err), c.want)) || !strings.Contains(errs.HintOf(err), c.hint) {
				t.Errorf("%v (%s)", err, errs.HintOf(err))
			}
		})
	}

	// No redirection leads out of TLS.
	redirecting(f, 302, func(r *http.Request) string { return "http://" + f.host + r.URL.Path + "?direct" })
	client, _ := newClient(t, Options{CAFile: certificate})
	find(client)
	if _, err := client.Resolve(t.Context(), parse(t, "example.com/a/b"), amd64); errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error(), "http has no TLS") {
		t.Errorf("out of TLS: %v", err)
	}
}

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	for host, want := range map[string][2]string{ // what is said, and the hint
		l.Addr().String():  {"connection refused", "nothing listens there: check that " + l.Addr().String()},
		"registry.invalid": {"lookup registry.invalid:443: no such host", "check the registry's name"},
	} {
		c, _ := newClient(t, Options{})
		c.open.DialContext = func(_ context.Context, _, address string) (net.Conn, error) { return nil, noSuchHost(address) }
		_, err := c.Resolve(t.Context(), parse(t, host+"/a/b"), amd64)
		if errs.KindOf(err) != errs.Unavailable || !strings.Contains(fmt.Sprint(err), want[0]) || !strings.Contains(errs.HintOf(err), want[1]) {
			t.Errorf("%s: %v (%s)", host, err, errs.HintOf(err))
		}
	}
}

func TestInsecureByDefault(t *testing.T) {
	in, err := parseInsecure([]string{"reg.local", "10.1.0.0/16", "other:5000", "[fd00::1]:5000", "fd00:1::/32"})
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]bool{
		"localhost": true, "LOCALHOST:5000": true, "a.localhost": true, "127.0.0.1:1": true, "127.3.3.3": true, "[::1]:5000": true, "[::1]": true,
		"reg.local": true, "reg.local:5000": true, "10.1.2.3:5000": true, "other:5000": true, "[fd00::1]:5000": true, "[fd00:1::5]:1": true,
		"other": false, "other:5001": false, "10.2.0.1": false, "192.168.1.1:5000": false, "docker.io": false, "localhost.example.com": false, "[fd00::1]:5001": false,
	} {
		if got := in.allows(host); got != want {
			t.Errorf("%s: %v", host, got)
		}
	}
}

// A private address is no reason to speak without TLS.
func TestPrivateRegistriesHaveTLS(t *testing.T) {
	c, _ := newClient(t, Options{})
	dialled := make(chan string, 8)
	c.open.DialContext = func(_ context.Context, _, address string) (net.Conn, error) {
		dialled <- address
		return nil, io.ErrClosedPipe
	}
	c.lax.DialContext = c.open.DialContext
	_, err := c.Resolve(t.Context(), parse(t, "10.9.9.9:5000/a/b"), amd64)
	if errs.KindOf(err) != errs.Unavailable || !strings.Contains(errs.HintOf(err), "list 10.9.9.9:5000 as insecure") {
		t.Errorf("%v (%s)", err, errs.HintOf(err))
	}
	if len(dialled) != 1 {
		t.Errorf("%d connections", len(dialled))
	}
}

func TestMirrors(t *testing.T) {
	f, m1, m2 := newFake(t, "127.0.0.1"), newFake(t, "127.0.0.1"), newFake(t, "127.0.0.1")
	layer := content(3000)
	f.putImage("a/b", layer, "latest", "old")
	m2.putImage("proxy/cache/a/b", layer, "latest")
	o := Options{Mirrors: map[string][]string{f.host: {m1.host, "http://" + m2.host + "/proxy/cache/"}}}
	c, _ := newClient(t, o)
	img, err := c.Resolve(t.Context(), parse(t, f.host+"/a/b"), amd64)
	if err != nil {
		t.Fatal(err)
	}
	if _, b, err := read(t.Context(), img.Layers[0], 10); err != nil || !bytes.Equal(b, layer[10:]) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if m1.count("GET /v2/a/b/manifests/latest") != 1 || m1.count("GET /v2/a/b/blobs") != 0 || f.count("") != 0 {
		t.Errorf("the first mirror was asked %q, the registry %q", m1.log, f.log)
	}
	// The mirror loses the layer; the registry has it.
	m2.set(func() { clear(m2.blobs) })
	for range 2 {
		if _, b, err := read(t.Context(), img.Layers[0], 0); err != nil || !bytes.Equal(b, layer) {
			t.Errorf("%d bytes, %v", len(b), err)
		}
	}
	if n := m2.count("GET /v2/proxy/cache/a/b/blobs/" + img.Layers[0].Digest); n != 2 {
		t.Errorf("the second mirror was asked %d times for the layer", n)
	}
	// A tag that only the registry has, and one that nobody has.
	if _, err := c.Resolve(t.Context(), parse(t, f.host+"/a/b:old"), amd64); err != nil {
		t.Error(err)
	}
	_, err = c.Resolve(t.Context(), parse(t, f.host+"/a/b:none"), amd64)
	if errs.KindOf(err) != errs.NotFound || !strings.HasPrefix(err.Error(), "cannot pull \""+f.host+"/a/b:none\": "+f.host+" does not have it") || !strings.Contains(err.Error(), "the mirror "+m2.host+"/proxy/cache: ") || errs.HintOf(err) == "" {
		t.Errorf("got %v (%s)", err, errs.HintOf(err))
	}
	// A mirror cannot pass something else off as what was asked for by its digest.
	good := f.putImage("c/d", layer, "latest")
	evil := m1.putImage("c/d", content(2999), "latest")
	m1.set(func() {
		m1.documents["/v2/c/d/manifests/"+good.Digest.String()] = m1.documents["/v2/c/d/manifests/"+evil.Digest.String()]
	})
	if img, err := c.Resolve(t.Context(), parse(t, f.host+"/c/d@"+good.Digest.String()), amd64); err != nil || img.Index != good.Digest.String() {
		t.Errorf("by digest: %v, %v", img, err)
	}
}

func TestProxy(t *testing.T) {
	f := newFake(t, "127.0.0.1")
	layer := content(3000)
	f.putImage("a/b", layer, "latest")
	var asked []string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodConnect {
			w.WriteHeader(http.StatusBadGateway) // nobody has TLS here
			return
		}
		asked = append(asked, r.URL.Host)
		f.ServeHTTP(w, r)
	}))
	defer proxy.Close()
	at, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	c, _ := newClient(t, Options{Insecure: []string{"example.com"}, Proxy: func(*http.Request) (*url.URL, error) { return at, nil }})
	get := func(to string) error {
		redirecting(f, 302, func(r *http.Request) string { return "http://" + to + r.URL.Path + "?direct" })
		img, err := c.Resolve(t.Context(), parse(t, "example.com/a/b"), amd64)
		if err != nil {
			return err
		}
		_, b, err := read(t.Context(), img.Layers[0], 0)
		if err == nil && !bytes.Equal(b, layer) {
			t.Errorf("%d bytes", len(b))
		}
		return err
	}
	if err := get("storage.example.com"); err != nil {
		t.Error(err)
	}
	for _, host := range asked {
		if host != "example.com" && host != "storage.example.com" {
			t.Errorf("the proxy was asked for %q", host)
		}
	}
	for _, to := range []string{"127.0.0.1:1", "localhost", "[::1]", "169.254.169.254", "10.0.0.1"} {
		if err := get(to); errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error(), "sends us astray") {
			t.Errorf("to %s: %v", to, err)
		}
	}
}

func FuzzRangeStart(f *testing.F) {
	f.Add("bytes 100-999/1000", int64(1000))
	f.Add("bytes 0-0/*", int64(1))
	f.Fuzz(func(t *testing.T, h string, size int64) {
		if from, err := rangeStart(h, size); err == nil && (from < 0 || !strings.Contains(h, fmt.Sprint(size-1))) {
			t.Errorf("%q of %d: %d", h, size, from)
		}
	})
}
