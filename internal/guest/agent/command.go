package agent

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
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

// noShells are what passwd(5) has in the place of a shell for users that nobody
// logs in as (nologin(8), false(1)). An image's processes often run as one.
var noShells = []string{"nologin", "false"}

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
	if err := makeDirs(start.GetMakeDirs()); err != nil {
		return nil, err
	}
	if c.dir, err = workDir(u.home, start.GetDir()); err != nil {
		return nil, err
	}
	if len(c.argv) == 0 {
		return c, c.shell(start.GetPlain())
	}
	c.path, err = lookPath(c.argv[0], c.dir, pathOf(c.env))
	return c, err
}

// environ is the default environment, overridden by the caller's; of two entries
// with the same key the last counts.
func environ(u user, start *guestv1.ExecStart) ([]string, error) {
	env := defaults(u, start)
	at := map[string]int{}
	for i, kv := range env {
		at[kv[:strings.IndexByte(kv, '=')]] = i
	}
	for _, entry := range start.GetEnv() {
		kv := string(entry)
		key, _, ok := strings.Cut(kv, "=")
		if !ok || key == "" || strings.Contains(kv, "\x00") {
			return nil, cannotRun("the environment entry %q is not KEY=VALUE", kv)
		}
		if i, known := at[key]; known {
			env[i] = kv
			continue
		}
		at[key] = len(env)
		env = append(env, kv)
	}
	return env, nil
}

// defaults is the environment of a login (login(1)), or of a plain command.
func defaults(u user, start *guestv1.ExecStart) []string {
	env := []string{"HOME=" + u.home, "PATH=" + defaultPath}
	if start.GetPlain() {
		if name, err := os.Hostname(); err == nil {
			env = append(env, "HOSTNAME="+name)
		}
	} else {
		env = append(env, "USER="+u.name, "LOGNAME="+u.name, "SHELL="+cmp.Or(u.shell, defaultShell), "LANG=C.UTF-8")
	}
	if start.GetTty() != nil {
		env = append(env, "TERM="+cmp.Or(start.GetTerm(), defaultTerm))
	}
	return env
}

// makeDirs makes folders that are missing, as root.
func makeDirs(dirs []string) error {
	for _, dir := range dirs {
		if !filepath.IsAbs(dir) {
			return cannotRun("cannot make the folder %q: it is not a path from the root", dir)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return cannotRun("cannot make the folder %q: %v", dir, cause(err))
		}
	}
	return nil
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

// shell makes c the user's shell. A dash tells it that it is a login shell
// (login(1)); a plain one is not, since such a shell sets a PATH of its own.
func (c *command) shell(plain bool) error {
	var sought []string
	for _, shell := range []string{c.user.shell, defaultShell} {
		name := filepath.Base(shell)
		if shell == "" || plain && slices.Contains(noShells, name) || slices.Contains(sought, strconv.Quote(shell)) {
			continue
		}
		sought = append(sought, strconv.Quote(shell))
		path, err := lookPath(shell, "/", "")
		if err != nil {
			continue
		}
		if !plain {
			name = "-" + name
		}
		c.path, c.argv = path, []string{name}
		return nil
	}
	return &runError{codeNotFound, fmt.Sprintf("there is no shell in the VM (looked for %s): give a command", strings.Join(sought, " and "))}
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
