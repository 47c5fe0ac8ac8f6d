package agent

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	guestv1 "banger/api/guest/v1"
)

// Exit codes of commands that could not be run, as a shell has them.
const (
	codeCannotRun = 126
	codeNotFound  = 127
)

const (
	defaultPath  = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	defaultShell = "/bin/sh"
	defaultTerm  = "xterm"
)

// runError says why a command could not be run.
type runError struct {
	code int32
	text string
}

func (e *runError) Error() string { return e.text }

func cannotRun(format string, args ...any) error {
	return &runError{codeCannotRun, fmt.Sprintf(format, args...)}
}

// command is a command that is ready to be started.
type command struct {
	path string
	argv []string
	env  []string
	dir  string
	user user
}

// prepare works out program, environment, directory and user of a command. Its
// errors are runErrors.
func prepare(start *guestv1.ExecStart) (*command, error) {
	u, err := findUser(start.GetUser())
	if err != nil {
		return nil, cannotRun("cannot run as %q: %v", start.GetUser(), err)
	}
	c := &command{user: u}
	for _, arg := range start.GetArgv() {
		if bytes.IndexByte(arg, 0) >= 0 {
			return nil, cannotRun("the argument %q contains a NUL byte", arg)
		}
		c.argv = append(c.argv, string(arg))
	}
	if c.env, err = environ(u, start); err != nil {
		return nil, err
	}
	if c.dir, err = workDir(u.home, start.GetDir()); err != nil {
		return nil, err
	}
	if len(c.argv) == 0 {
		return c, c.loginShell()
	}
	c.path, err = lookPath(c.argv[0], c.dir, pathOf(c.env))
	return c, err
}

// environ is the default environment, overridden by the caller's.
func environ(u user, start *guestv1.ExecStart) ([]string, error) {
	shell := u.shell
	if shell == "" {
		shell = defaultShell
	}
	env := []string{"HOME=" + u.home, "USER=" + u.name, "LOGNAME=" + u.name, "SHELL=" + shell, "PATH=" + defaultPath, "LANG=C.UTF-8"}
	if start.GetTty() != nil {
		term := start.GetTerm()
		if term == "" {
			term = defaultTerm
		}
		env = append(env, "TERM="+term)
	}
	for _, kv := range start.GetEnv() {
		key, _, ok := bytes.Cut(kv, []byte("="))
		if !ok || len(key) == 0 || bytes.IndexByte(kv, 0) >= 0 {
			return nil, cannotRun("the environment entry %q is not KEY=VALUE", kv)
		}
		prefix := string(key) + "="
		env = slices.DeleteFunc(env, func(old string) bool { return strings.HasPrefix(old, prefix) })
		env = append(env, string(kv))
	}
	return env, nil
}

func pathOf(env []string) string {
	for _, kv := range env {
		if path, ok := strings.CutPrefix(kv, "PATH="); ok {
			return path
		}
	}
	return ""
}

// workDir is the directory dir, seen from home, or home itself; a home that does
// not exist is "/".
func workDir(home, dir string) (string, error) {
	if dir == "" {
		if info, err := os.Stat(home); err == nil && info.IsDir() && filepath.IsAbs(home) {
			return home, nil
		}
		return "/", nil
	}
	path := dir
	if !filepath.IsAbs(path) {
		path = filepath.Join("/", home, path)
	}
	switch info, err := os.Stat(path); {
	case err != nil:
		return "", cannotRun("cannot run in %q: %v", dir, cause(err))
	case !info.IsDir():
		return "", cannotRun("cannot run in %q: not a directory", dir)
	}
	return path, nil
}

// loginShell makes c the user's shell, which knows by the dash that it is a login
// shell (login(1)).
func (c *command) loginShell() error {
	for _, shell := range []string{c.user.shell, defaultShell} {
		if shell == "" {
			continue
		}
		path, err := lookPath(shell, "/", "")
		if err == nil {
			c.path, c.argv = path, []string{"-" + filepath.Base(shell)}
			return nil
		}
	}
	return &runError{codeNotFound, fmt.Sprintf("the user %q has no shell in the VM", c.user.name)}
}

// lookPath finds the program name as a shell does: a name with a slash is a path,
// seen from dir; any other is sought in the folders of path.
func lookPath(name, dir, path string) (string, error) {
	if name == "" {
		return "", &runError{codeNotFound, `"": not found`}
	}
	folders := []string{dir}
	if !strings.Contains(name, "/") {
		folders = filepath.SplitList(path)
	}
	denied := false
	for _, folder := range folders {
		candidate := name
		if !filepath.IsAbs(name) {
			if !filepath.IsAbs(folder) {
				folder = filepath.Join(dir, folder)
			}
			candidate = filepath.Join(folder, name)
		}
		info, err := os.Stat(candidate)
		if err != nil {
			continue
		}
		if info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 {
			return candidate, nil
		}
		denied = true
	}
	if denied {
		return "", cannotRun("%q: not an executable file", name)
	}
	return "", &runError{codeNotFound, fmt.Sprintf("%q: not found", name)}
}
