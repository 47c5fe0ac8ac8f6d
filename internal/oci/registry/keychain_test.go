package registry

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"banger/internal/base/errs"
)

// home writes files below a folder, and returns an environment with that home.
func home(t testing.TB, files map[string]string) []string {
	t.Helper()
	dir := t.TempDir()
	for path, text := range files {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return []string{"HOME=/nonexistent", "HOME=" + dir, "XDG_RUNTIME_DIR=" + dir + "/run", "PATH=relative:" + dir + "/bin:/usr/bin:/bin"}
}

func auths(t testing.TB, pairs ...string) string {
	t.Helper()
	var all []string
	for i := 0; i < len(pairs); i += 2 {
		auth := ""
		if pairs[i+1] != "" {
			auth = fmt.Sprintf(`"auth": %q`, base64.StdEncoding.EncodeToString([]byte(pairs[i+1])))
		}
		all = append(all, fmt.Sprintf(`%q: {%s}`, pairs[i], auth))
	}
	return `"auths": {` + strings.Join(all, ",") + `}`
}

// who returns the user and password for a repository, or the identity token.
func who(t testing.TB, env []string, repository string) (string, error) {
	t.Helper()
	repo, err := name.NewRepository(repository)
	if err != nil {
		t.Fatal(err)
	}
	auth, err := authn.Resolve(t.Context(), UserKeychain(env), repo)
	if err != nil {
		return "", err
	}
	if u, ok := auth.(unanswered); ok {
		return "", u.reason
	}
	c, err := auth.Authorization()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(c.Username+":"+c.Password+c.IdentityToken, ":"), nil
}

const helperScript = `#!/bin/sh
read -r server || true
[ "$1" = get ] || exit 3
case $server in
https://index.docker.io/v1/) echo '{"ServerURL":"x","Username":"hub","Secret":"s"}' ;;
token.example) echo '{"Username":"<token>","Secret":"id"}' ;;
bad.example) echo 'no JSON' ;;
fail.example) echo 'the keyring is locked'; exit 1 ;;
talk.example) yes ;;
env.example) printf '{"Username":"%s","Secret":"s"}' "${HOME##*/}" ;;
*) echo 'credentials not found in native keychain'; exit 1 ;;
esac
`

func TestUserKeychain(t *testing.T) {
	docker, podman := ".docker/config.json", ".config/containers/auth.json"
	for _, c := range []struct {
		name  string
		files map[string]string
		env   string
		repo  string
		want  string
	}{
		{"nothing", nil, "", "ghcr.io/a/b", ""},
		{"docker", map[string]string{docker: "{" + auths(t, "ghcr.io", "me:p:w") + "}"}, "", "ghcr.io/a/b", "me:p:w"},
		{"another registry", map[string]string{docker: "{" + auths(t, "ghcr.io", "me:pw") + "}"}, "", "quay.io/a/b", ""},
		{"a port", map[string]string{docker: "{" + auths(t, "localhost:5000", "me:pw") + "}"}, "", "localhost:5000/b", "me:pw"},
		{"hub, by docker", map[string]string{docker: "{" + auths(t, "https://index.docker.io/v1/", "me:pw") + "}"}, "", "alpine", "me:pw"},
		{"hub, by podman", map[string]string{podman: "{" + auths(t, "docker.io", "me:pw") + "}"}, "", "alpine", "me:pw"},
		{"an old key", map[string]string{docker: "{" + auths(t, "https://reg.example/v2/", "me:pw") + "}"}, "", "reg.example/b", "me:pw"},
		{"podman, after docker", map[string]string{docker: "{" + auths(t, "quay.io", "d:d") + "}", podman: "{" + auths(t, "ghcr.io", "p:p") + "}"}, "", "ghcr.io/b", "p:p"},
		{"docker before podman", map[string]string{docker: "{" + auths(t, "ghcr.io", "d:d") + "}", podman: "{" + auths(t, "ghcr.io", "p:p") + "}"}, "", "ghcr.io/b", "d:d"},
		{"podman's runtime file", map[string]string{"run/containers/auth.json": "{" + auths(t, "ghcr.io", "r:r") + "}", podman: "{" + auths(t, "ghcr.io", "p:p") + "}"}, "", "ghcr.io/b", "r:r"},
		{"a repository's own", map[string]string{podman: "{" + auths(t, "ghcr.io", "all:x", "ghcr.io/a", "a:x", "ghcr.io/a/b", "ab:x", "ghcr.io/a/bb", "no:x") + "}"}, "", "ghcr.io/a/b/c", "ab:x"},
		{"DOCKER_CONFIG", map[string]string{docker: "{" + auths(t, "ghcr.io", "d:d") + "}", "else/config.json": "{" + auths(t, "ghcr.io", "e:e") + "}"}, "DOCKER_CONFIG=%s/else", "ghcr.io/b", "e:e"},
		{"REGISTRY_AUTH_FILE", map[string]string{docker: "{" + auths(t, "ghcr.io", "d:d") + "}", "f.json": "{" + auths(t, "ghcr.io", "f:f") + "}"}, "REGISTRY_AUTH_FILE=%s/f.json", "ghcr.io/b", "f:f"},
		{"an empty entry", map[string]string{docker: "{" + auths(t, "ghcr.io", "") + "}", podman: "{" + auths(t, "ghcr.io", "p:p") + "}"}, "", "ghcr.io/b", "p:p"},
		{"an empty file", map[string]string{docker: ""}, "", "ghcr.io/b", ""},
		{"an identity token", map[string]string{docker: `{"auths": {"ghcr.io": {"identitytoken": "id"}}}`}, "", "ghcr.io/b", ":id"},
		{"a bad entry beside", map[string]string{docker: `{"auths": {"quay.io": {"auth": "%"}, "ghcr.io": {"username": "u", "password": "p"}}}`}, "", "ghcr.io/b", "u:p"},
		{"a store", map[string]string{docker: `{"credsStore": "test"}`, "bin/docker-credential-test": helperScript}, "", "alpine", "hub:s"},
		{"a store, with its entry", map[string]string{docker: `{"credsStore": "test", "auths": {"https://index.docker.io/v1/": {}}}`, "bin/docker-credential-test": helperScript}, "", "alpine", "hub:s"},
		{"not in the store", map[string]string{docker: `{"credsStore": "test"}`, "bin/docker-credential-test": helperScript}, "", "ghcr.io/b", ""},
		{"a helper", map[string]string{docker: `{"credHelpers": {"token.example": "test"}, "credsStore": "none"}`, "bin/docker-credential-test": helperScript}, "", "token.example/b", "<token>:id"},
		{"a helper before an entry", map[string]string{docker: `{"credHelpers": {"token.example": "test"}, ` + auths(t, "token.example", "x:y") + "}", "bin/docker-credential-test": helperScript}, "", "token.example/b", "<token>:id"},
	} {
		env := home(t, c.files)
		if c.env != "" {
			env = append(env, fmt.Sprintf(c.env, strings.TrimPrefix(env[1], "HOME=")))
		}
		got, err := who(t, env, c.repo)
		if want := strings.Replace(c.want, "<token>:", ":", 1); err != nil || strings.TrimPrefix(got, "<token>") != want {
			t.Errorf("%s: %q, %v; want %q", c.name, got, err, c.want)
		}
	}
	// The helper has the user's environment and not ours.
	env := home(t, map[string]string{docker: `{"credsStore": "test"}`, "bin/docker-credential-test": helperScript})
	if got, err := who(t, env, "env.example/b"); err != nil || got != filepath.Base(strings.TrimPrefix(env[1], "HOME="))+":s" {
		t.Errorf("the environment: %q, %v", got, err)
	}
}

func TestUserKeychainFails(t *testing.T) {
	const docker = ".docker/config.json"
	for name, text := range map[string]string{"no JSON": "{", "a list": "[]", "other types": `{"auths": []}`, "huge": strings.Repeat(" ", maxAuthFile+1)} {
		env := home(t, map[string]string{docker: text})
		if got, err := who(t, env, "alpine"); errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error(), env[1][5:]) || errs.HintOf(err) == "" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for helper, want := range map[string]string{
		"none": "there is no docker-credential-none in PATH", "../x": "is no name of a helper", "-x y": "is no name of a helper",
	} {
		env := home(t, map[string]string{docker: fmt.Sprintf(`{"credsStore": %q}`, helper)})
		if got, err := who(t, env, "alpine"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q, %v", helper, got, err)
		}
	}
	env := home(t, map[string]string{docker: `{"credsStore": "test", "auths": {"entry.example": {"auth": "%"}}}`, "bin/docker-credential-test": helperScript})
	for server, want := range map[string]string{
		"bad.example": "no JSON", "fail.example": "the keyring is locked", "talk.example": "docker-credential-test", "entry.example": "are damaged",
	} {
		if got, err := who(t, env, server+"/b"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q, %v", server, got, err)
		}
	}
}

func TestHelperThatHangs(t *testing.T) {
	env := home(t, map[string]string{".docker/config.json": `{"credsStore": "test"}`, "bin/docker-credential-test": "#!/bin/sh\nexec sleep 1000\n"})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	repo, err := name.NewRepository("ghcr.io/a/b")
	if err != nil {
		t.Fatal(err)
	}
	if auth, err := authn.Resolve(ctx, UserKeychain(env), repo); err == nil {
		t.Errorf("got %v", auth)
	}
}

func FuzzAuthFile(f *testing.F) {
	f.Add([]byte("{" + auths(f, "ghcr.io", "me:pw") + "}"))
	f.Add([]byte(`{"auths": {"ghcr.io/a": {"auth": "bTpw", "identitytoken": "x"}, "https://ghcr.io/v1/": {}}}`))
	dir := f.TempDir()
	path := filepath.Join(dir, "auth.json")
	repo, err := name.NewRepository("ghcr.io/a/b")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		// Without a PATH no helper is run.
		auth, err := authn.Resolve(t.Context(), UserKeychain([]string{"REGISTRY_AUTH_FILE=" + path}), repo)
		if (auth == nil) == (err == nil) {
			t.Errorf("%v, %v", auth, err)
		}
	})
}
