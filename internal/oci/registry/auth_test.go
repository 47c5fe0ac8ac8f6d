package registry

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"

	"banger/internal/base/errs"
)

// with is a keychain that has the same for everybody.
type with authn.AuthConfig

func (w with) Resolve(authn.Resource) (authn.Authenticator, error) {
	return authn.FromConfig(authn.AuthConfig(w)), nil
}

// tokens is a token server, and what makes a registry ask for its tokens, which are good
// for so many requests.
type tokens struct {
	srv  *httptest.Server
	uses int

	mu     sync.Mutex
	issued int
	left   map[string]int
	asked  []string // scope, service and credentials of requests
	status int      // if not 0, the answer
	// redirect is where to send everybody, or empty.
	redirect string
}

func newTokens(t *testing.T, f *fake, uses int) *tokens {
	s := &tokens{uses: uses, left: map[string]int{}}
	s.srv = httptest.NewServer(s)
	t.Cleanup(s.srv.Close)
	// By name, since an address that is not the registry's would be refused.
	realm := strings.Replace(s.srv.URL, "127.0.0.1", "localhost", 1) + "/token"
	f.set(func() {
		f.hook = func(w http.ResponseWriter, r *http.Request) bool {
			if s.admits(r.Header.Get("Authorization")) {
				return false
			}
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm=%q,service="fake"`, realm))
			return jsonError(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
		}
	})
	return s
}

func (s *tokens) admits(header string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	token, ok := strings.CutPrefix(header, "Bearer ")
	if !ok || s.left[token] == 0 {
		return false
	}
	s.left[token]--
	return true
}

func (s *tokens) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = r.ParseForm()
	s.asked = append(s.asked, fmt.Sprint(r.Method, " ", r.Form.Get("scope"), " ", r.Form.Get("service"), " ", r.Header.Get("Authorization"), r.Form.Get("refresh_token")))
	if s.redirect != "" {
		http.Redirect(w, r, s.redirect, http.StatusTemporaryRedirect)
		return
	}
	if s.status != 0 {
		jsonError(w, s.status, "DENIED", "who are you?")
		return
	}
	s.issued++
	token := fmt.Sprintf("token-%d", s.issued)
	s.left[token] = s.uses
	_ = json.NewEncoder(w).Encode(map[string]any{"access_token": token, "expires_in": 60})
}

func TestTokens(t *testing.T) {
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("me:secret"))
	for name, c := range map[string]struct {
		keychain authn.Keychain
		asked    string
	}{
		"anonymous":      {noCredentials{}, "GET repository:a/b:pull fake "},
		"a password":     {with{Username: "me", Password: "secret"}, "GET repository:a/b:pull fake " + basic},
		"identity token": {with{IdentityToken: "id"}, "POST repository:a/b:pull fake id"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, "127.0.0.1")
			layer := content(1000)
			f.putImage("a/b", layer, "latest")
			s := newTokens(t, f, 1) // each runs out at once
			client, _ := newClient(t, Options{Keychain: c.keychain})
			img, err := client.Resolve(t.Context(), parse(t, f.host+"/a/b"), amd64)
			if err != nil {
				t.Fatal(err)
			}
			var all sync.WaitGroup
			for range 8 {
				all.Go(func() {
					// Others may use up a token that we have just got.
					for range 20 {
						_, b, err := read(t.Context(), img.Layers[0], 0)
						if err == nil && sum(b) == sum(layer) {
							return
						}
						if errs.KindOf(err) != errs.Unavailable {
							t.Errorf("a layer: %v", err)
						}
					}
					t.Error("a layer does not come")
				})
			}
			all.Wait()
			for _, a := range s.asked {
				if a != c.asked {
					t.Errorf("the token server was asked %q", a)
				}
			}
			if s.issued < 4 {
				t.Errorf("%d tokens", s.issued)
			}
		})
	}
}

func TestOneTokenForMany(t *testing.T) {
	f := newFake(t, "127.0.0.1")
	f.putImage("a/b", content(1000), "latest")
	s := newTokens(t, f, 1000)
	client, _ := newClient(t, Options{})
	img, err := client.Resolve(t.Context(), parse(t, f.host+"/a/b"), amd64)
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	clear(s.left) // they are all revoked
	s.mu.Unlock()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, _, err := read(t.Context(), img.Layers[0], 0); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if s.issued != 2 {
		t.Errorf("%d tokens, not 2", s.issued)
	}
}

func TestDenied(t *testing.T) {
	f := newFake(t, "127.0.0.1")
	f.putImage("a/b", content(10), "latest")
	s := newTokens(t, f, 0)
	resolve := func(k authn.Keychain) error {
		client, _ := newClient(t, Options{Keychain: k})
		_, err := client.Resolve(t.Context(), parse(t, f.host+"/a/b"), amd64)
		return err
	}
	check := func(err error, want string) {
		t.Helper()
		if errs.KindOf(err) != errs.Unavailable || !strings.Contains(err.Error(), want) || !strings.Contains(errs.HintOf(err), "docker login "+f.host) {
			t.Errorf("%v (%s)", err, errs.HintOf(err))
		}
	}
	check(resolve(noCredentials{}), "does not let us have it, or does not have it: UNAUTHORIZED: authentication required")
	check(resolve(broken{}), "there are no credentials: there is no docker-credential-desktop in PATH")
	s.status = http.StatusUnauthorized
	check(resolve(noCredentials{}), "or rather its token server, does not let us have it, or does not have it: DENIED: who are you?")
	s.status = http.StatusForbidden
	check(resolve(with{Username: "me", Password: "wrong"}), "DENIED")
	if err := resolve(failing{}); errs.KindOf(err) != errs.Invalid {
		t.Errorf("a keychain that fails: %v", err)
	}
}

// broken is a keychain that does not answer, and failing one that cannot be read.
type (
	broken  struct{}
	failing struct{}
)

func (broken) Resolve(authn.Resource) (authn.Authenticator, error) {
	return unanswered{errors.New("there is no docker-credential-desktop in PATH")}, nil
}

func (failing) Resolve(authn.Resource) (authn.Authenticator, error) {
	return nil, errs.New(errs.Invalid, "cannot read the credentials")
}

// A redirection that keeps the method would take the identity token to somebody else.
func TestRedirectedTokenRequest(t *testing.T) {
	f := newFake(t, "127.0.0.1")
	f.putImage("a/b", content(10), "latest")
	s, elsewhere := newTokens(t, f, 100), newTokens(t, newFake(t, "127.0.0.1"), 100)
	s.redirect = strings.Replace(elsewhere.srv.URL, "127.0.0.1", "localhost", 1)
	for _, k := range []authn.Keychain{with{IdentityToken: "id"}, with{Username: "me", Password: "secret"}} {
		client, _ := newClient(t, Options{Keychain: k})
		if _, err := client.Resolve(t.Context(), parse(t, f.host+"/a/b"), amd64); err == nil {
			t.Errorf("%v: it is admitted", k)
		}
	}
	for _, a := range elsewhere.asked {
		if strings.Contains(a, "id") || strings.Contains(a, "Basic") {
			t.Errorf("elsewhere: %q", a)
		}
	}
}

func TestBasic(t *testing.T) {
	f := newFake(t, "127.0.0.1")
	f.putImage("a/b", content(10), "latest")
	greeting := true
	f.set(func() {
		f.hook = func(w http.ResponseWriter, r *http.Request) bool {
			user, password, _ := r.BasicAuth()
			if user == "me" && password == "secret" || r.Header.Get("Authorization") == "Bearer token" || r.URL.Path == "/v2/" && greeting {
				return false
			}
			w.Header().Set("WWW-Authenticate", `Basic realm="fake"`)
			return jsonError(w, http.StatusUnauthorized, "UNAUTHORIZED", "no")
		}
	})
	encoded := base64.StdEncoding.EncodeToString([]byte("me:secret"))
	for _, c := range []struct {
		keychain authn.Keychain
		ok       bool
	}{
		{with{Username: "me", Password: "secret"}, true}, {with{Auth: encoded}, true}, {with{RegistryToken: "token"}, true},
		{with{Username: "me", Password: "wrong"}, false}, {noCredentials{}, false},
	} {
		for _, greet := range []bool{true, false} { // some ask for credentials only where they need them
			f.set(func() { greeting = greet })
			client, _ := newClient(t, Options{Keychain: c.keychain})
			_, err := client.Resolve(t.Context(), parse(t, f.host+"/a/b"), amd64)
			if c.ok && err != nil || !c.ok && errs.KindOf(err) != errs.Unavailable {
				t.Errorf("%v, %v: %v", c, greet, err)
			}
		}
	}
}
