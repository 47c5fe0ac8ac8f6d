// Package mmdebstrap builds Debian root file systems with mmdebstrap, as root or
// as an ordinary user, and streams them as tars.
//
// A way is how the build gets to install files for many users: in a namespace of
// its own, where it is root over a range of ids; else, for root, directly; else
// with fakechroot, which only pretends. In a namespace every process of the build
// dies with its first one, and that one with us.
package mmdebstrap

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"banger/internal/base/errs"
	"banger/internal/base/progress"
	"banger/internal/base/undo"
)

// customize prepares the root file system for life in a VM.
//
//go:embed customize.sh
var customize string

// record writes down what the image was made of.
//
//go:embed record.sh
var record string

// Options say what to build, and where.
type Options struct {
	// Suite is the release: "bookworm".
	Suite string
	// Sources are the archives to take packages from. They end up in the image.
	Sources []Source
	// Keyring has the keys, binary (RFC 9580, without armor), that sources without a
	// SignedBy must be signed with; empty: those that the host's apt trusts.
	Keyring []byte
	// Include lists packages on top of Debian's minimum.
	Include []string
	// Proxies take the place of those that the host's apt and our environment name; nil
	// leaves these.
	Proxies *Proxies
	// Tmp is an existing, absolute folder on a file system with room for the
	// unpacked packages. Build removes what it makes there; after a crash
	// [RemoveAll] does.
	Tmp string
	// Progress gets the steps of the build as details, without bytes; may be nil.
	Progress progress.Func
}

// Check says whether images can be built on this host: it is nil, or an error that says
// what is missing.
func Check(ctx context.Context) error {
	_, err := findTools(ctx)
	return err
}

func findTools(ctx context.Context) (way, error) {
	if _, err := lookPath("mmdebstrap"); err != nil {
		return way{}, errs.New(errs.Unavailable, "cannot build an image: mmdebstrap is not installed").WithHint("apt-get install mmdebstrap")
	}
	return findWay(ctx)
}

// Build writes the tar of a new root file system to w, and returns what it was made of,
// which the image has at [RecordPath], too. When it returns, no process of the build is
// left, whether it ended by itself or by ctx. An error of w ends the build and is the
// error. A full disk is an error that wraps ENOSPC; a package that there is not is
// errs.NotFound, packages that do not go together are errs.Conflict.
func Build(ctx context.Context, o Options, w io.Writer) (made Record, err error) {
	how, err := findTools(ctx)
	if err != nil {
		return made, err
	}
	proxies, err := o.Proxies.options(ctx)
	if err != nil {
		return made, err
	}
	tmp, err := os.MkdirTemp(o.Tmp, "mmdebstrap-")
	if err != nil {
		return made, err
	}
	var clean undo.Stack
	clean.Add(func() error { return RemoveAll(context.WithoutCancel(ctx), tmp) })
	defer func() { err = errors.Join(err, clean.Run()) }()
	// Apt's unprivileged user must get in; the folders above keep others out.
	if err := os.Chmod(tmp, 0o755); err != nil { //nolint:gosec // see above
		return made, err
	}

	seen := how.tmp(tmp)
	sources := slices.Clone(o.Sources)
	if len(o.Keyring) > 0 {
		if err := os.WriteFile(filepath.Join(tmp, keyringName), o.Keyring, 0o644); err != nil { //nolint:gosec // apt's user reads it
			return made, err
		}
		for i := range sources {
			sources[i].SignedBy = cmp.Or(sources[i].SignedBy, filepath.Join(seen, keyringName))
		}
	}
	lines, err := sourcesList(sources)
	if err != nil {
		return made, err
	}
	args := append(how.prefix(tmp), "mmdebstrap", "--mode="+how.mode, "--variant=minbase", "--format=tar",
		"--include="+strings.Join(o.Include, ","), "--customize-hook="+customize, "--customize-hook="+record)
	for _, p := range proxies {
		args = append(args, "--aptopt="+p)
	}
	args = append(args, "--", o.Suite, "-", "-")
	env := append(o.Proxies.environ(), "HOME="+seen, "TMPDIR="+seen, "BANGER_RECORD="+filepath.Join(seen, recordName))
	if err := run(ctx, args, env, lines, w, o.Progress); err != nil {
		return made, err
	}
	return readRecord(filepath.Join(tmp, recordName))
}

// The files that Build itself has in its temporary folder.
const (
	keyringName = "keys.gpg"
	recordName  = "record"
)

// searchPath has the folders of system tools too, which an ordinary user's PATH lacks.
var searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func lookPath(name string) (string, error) {
	for _, dir := range filepath.SplitList(searchPath) {
		if p, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return p, nil
		}
	}
	return "", exec.ErrNotFound
}

// command returns a command that is a session of its own, gets SIGKILL when we
// die, and is killed as a whole when ctx ends. The caller locks its thread, to
// which the kernel ties our death (prctl(2), PR_SET_PDEATHSIG).
func command(ctx context.Context, env []string, args ...string) (*exec.Cmd, error) {
	path, err := lookPath(args[0])
	if err != nil {
		return nil, errs.New(errs.Unavailable, "cannot build an image: %s is not installed", args[0])
	}
	cmd := exec.CommandContext(ctx, path, args[1:]...)
	cmd.Dir = "/"
	cmd.Env = append([]string{"LC_ALL=C", "PATH=" + searchPath}, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return kill(cmd.Process.Pid) }
	// A process that has left the group may hold our pipes open.
	cmd.WaitDelay = 5 * time.Second
	return cmd, nil
}

func run(ctx context.Context, args, env []string, sources string, w io.Writer, p progress.Func) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd, err := command(ctx, env, args...)
	if err != nil {
		return err
	}
	out := &output{w: w}
	log := &messages{progress: p}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(sources), out, log
	err = cmd.Run()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case out.err != nil:
		return out.err
	case err != nil && log.diskFull():
		return fmt.Errorf("mmdebstrap failed: %w", syscall.ENOSPC)
	case err != nil && log.reason() != nil:
		return log.reason()
	case err != nil:
		return errs.New(errs.Unavailable, "mmdebstrap failed: %w: %s", err, log.tail())
	}
	return nil
}

// output remembers why its writer failed; to the build it is just a closed pipe.
type output struct {
	w   io.Writer
	err error
}

func (o *output) Write(b []byte) (int, error) {
	n, err := o.w.Write(b)
	if err != nil {
		o.err = err
	}
	return n, err
}
