package registry

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"banger/internal/base/errs"
)

// UserKeychain returns the credentials that a user with the environment env has: those
// of Docker's config.json and of Podman's auth.json (containers-auth.json(5)), kept in
// these files or by the helper programs that they name. The files are read, and the
// helpers asked, each time. A file that cannot be read is errs.Invalid. A helper that
// does not answer is none: its failure is told where a registry then refuses us.
func UserKeychain(env []string) authn.Keychain { return userKeychain{env} }

type userKeychain struct{ env []string }

func (k userKeychain) getenv(key string) string {
	for i := len(k.env) - 1; i >= 0; i-- { // the last one counts, as in a process
		if v, ok := strings.CutPrefix(k.env[i], key+"="); ok {
			return v
		}
	}
	return ""
}

// files returns where credentials may be, the first to count first.
func (k userKeychain) files() []string {
	var all []string
	add := func(dir string, names ...string) {
		if dir != "" {
			all = append(all, filepath.Join(append([]string{dir}, names...)...))
		}
	}
	home, config := k.getenv("HOME"), k.getenv("XDG_CONFIG_HOME")
	add(k.getenv("REGISTRY_AUTH_FILE"))
	if dir := k.getenv("DOCKER_CONFIG"); dir != "" {
		add(dir, "config.json")
	} else {
		add(home, ".docker", "config.json")
	}
	add(k.getenv("XDG_RUNTIME_DIR"), "containers", "auth.json")
	if config != "" {
		add(config, "containers", "auth.json")
	} else {
		add(home, ".config", "containers", "auth.json")
	}
	return all
}

// Resolve implements [authn.Keychain].
func (k userKeychain) Resolve(target authn.Resource) (authn.Authenticator, error) {
	return k.ResolveContext(context.Background(), target)
}

// ResolveContext implements [authn.ContextKeychain].
func (k userKeychain) ResolveContext(ctx context.Context, target authn.Resource) (authn.Authenticator, error) {
	var result authn.Authenticator = authn.Anonymous
	for _, path := range k.files() {
		f, err := readAuthFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, errs.New(errs.Invalid, "cannot read the credentials in %q: %w", path, err).WithHint("mend that file, or log in again: docker login")
		}
		switch auth, err := k.lookup(ctx, f, target); {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil:
			if result == authn.Anonymous {
				result = unanswered{err}
			}
		case auth != nil:
			return auth, nil
		}
	}
	return result, nil
}

// unanswered is the credentials that we do not get; it is used as none.
type unanswered struct{ reason error }

func (unanswered) Authorization() (*authn.AuthConfig, error) { return &authn.AuthConfig{}, nil }

// maxAuthFile bounds a file of credentials, in bytes.
const maxAuthFile = 4 << 20

// authFile is what we read of config.json and auth.json.
type authFile struct {
	// Auths has entries that are parsed when needed, so that a bad one harms no other.
	Auths       map[string]json.RawMessage `json:"auths"`
	CredHelpers map[string]string          `json:"credHelpers"`
	CredsStore  string                     `json:"credsStore"`
}

func readAuthFile(path string) (*authFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it is only read
	raw, err := io.ReadAll(io.LimitReader(f, maxAuthFile+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxAuthFile {
		return nil, errTooLong
	}
	a := &authFile{}
	if len(raw) == 0 {
		return a, nil
	}
	return a, json.Unmarshal(raw, a)
}

// lookup returns the credentials of one file for target, or nil. A registry's own
// helper counts before an entry, and that before the helper for all.
func (k userKeychain) lookup(ctx context.Context, f *authFile, target authn.Resource) (authn.Authenticator, error) {
	keys, host := authKeys(target), target.RegistryStr()
	for _, key := range keys {
		if helper := f.CredHelpers[key]; helper != "" {
			return k.ask(ctx, helper, serverOf(host))
		}
	}
	entries := map[string]json.RawMessage{}
	for key, raw := range f.Auths {
		entries[authKey(key)] = raw
	}
	for _, key := range keys {
		raw, ok := entries[key]
		if !ok {
			continue
		}
		var c authn.AuthConfig
		if err := json.Unmarshal(raw, &c); err != nil {
			return nil, errs.New(errs.Invalid, "the credentials for %q are damaged: %w", key, err)
		}
		if c != (authn.AuthConfig{}) {
			return authn.FromConfig(c), nil
		}
	}
	if f.CredsStore != "" {
		return k.ask(ctx, f.CredsStore, serverOf(host))
	}
	return nil, nil
}

// serverOf returns what helpers know a registry as.
func serverOf(host string) string {
	if host == name.DefaultRegistry {
		return authn.DefaultAuthKey
	}
	return host
}

// authKey returns the key of an entry without what Docker's have around the host:
// "https://host/v1/".
func authKey(key string) string {
	rest, found := strings.CutPrefix(key, "https://")
	if !found {
		rest, found = strings.CutPrefix(key, "http://")
	}
	if found {
		rest, _, _ = strings.Cut(rest, "/")
	}
	return strings.TrimSuffix(rest, "/")
}

// authKeys returns the keys that an entry for target may have, the narrowest first:
// Podman has entries for repositories and namespaces too.
func authKeys(target authn.Resource) []string {
	host := target.RegistryStr()
	names := []string{host}
	if host == name.DefaultRegistry {
		names = []string{"docker.io", host, "registry-1.docker.io"}
	}
	path := strings.TrimPrefix(strings.TrimPrefix(target.String(), host), "/")
	var keys []string
	for path != "" {
		for _, n := range names {
			keys = append(keys, n+"/"+path)
		}
		path = path[:max(0, strings.LastIndexByte(path, '/'))]
	}
	return append(keys, names...)
}
