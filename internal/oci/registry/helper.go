package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"banger/internal/oci"
)

// helperTimeout is for a helper, which may ask its user something.
const helperTimeout = 30 * time.Second

var helperName = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]*$`)

// ask returns the credentials that a helper has for a server, or nil
// (docker-credential-helpers, "Development": the command get).
func (k userKeychain) ask(ctx context.Context, helper, server string) (authn.Authenticator, error) {
	if !helperName.MatchString(helper) {
		return nil, fmt.Errorf("%q is no name of a helper", oci.Printable(helper))
	}
	program := "docker-credential-" + helper
	path, err := k.find(program)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, helperTimeout, fmt.Errorf("it did not answer in %s", helperTimeout))
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "get")
	cmd.Env, cmd.Stdin = k.env, strings.NewReader(server)
	cmd.WaitDelay = time.Second // children of it may hold its output open
	var out bytes.Buffer
	cmd.Stdout = &capped{w: &out, left: maxAnswer}
	err = cmd.Run()
	said := strings.TrimSpace(out.String())
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%s: %w", program, context.Cause(ctx))
	case err != nil && (strings.Contains(said, "credentials not found") || strings.Contains(said, "no credentials server URL")):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("%s: %w: %s", program, err, oci.Printable(said))
	}
	var c struct{ Username, Secret string }
	if err := json.Unmarshal(out.Bytes(), &c); err != nil {
		return nil, fmt.Errorf("%s answers with something that is no JSON: %w", program, err)
	}
	switch {
	case c.Secret == "":
		return nil, nil
	case c.Username == "<token>":
		return authn.FromConfig(authn.AuthConfig{IdentityToken: c.Secret}), nil
	}
	return authn.FromConfig(authn.AuthConfig{Username: c.Username, Password: c.Secret}), nil
}

// find looks a program up in the PATH of the user.
func (k userKeychain) find(program string) (string, error) {
	for _, dir := range filepath.SplitList(k.getenv("PATH")) {
		if !filepath.IsAbs(dir) {
			continue
		}
		if path, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("there is no %s in PATH", program)
}

var errTalkative = errors.New("it says too much")

// capped is a writer of at most left bytes.
type capped struct {
	w    io.Writer
	left int
}

func (c *capped) Write(p []byte) (int, error) {
	if len(p) > c.left {
		return 0, errTalkative
	}
	c.left -= len(p)
	return c.w.Write(p)
}
