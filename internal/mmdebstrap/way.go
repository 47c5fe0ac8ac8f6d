package mmdebstrap

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"

	"banger/internal/base/errs"
)

// way is how a build gets its rights.
type way struct {
	// unshare are the flags of unshare(1), or nil without a namespace.
	unshare []string
	// mode is mmdebstrap's.
	mode string
}

// privateTmp is where the build sees its temporary folder in a namespace. It is
// bound over /mnt, because a folder in a closed home is out of reach for the users
// that the build takes on.
const privateTmp = "/mnt"

// isolate are flags for namespaces in which nothing outlives the first process.
var isolate = []string{"--mount", "--pid", "--fork", "--kill-child", "--mount-proc"}

// asRoot maps our own user to root, and our subordinate ids (subuid(5)) to the rest.
var asRoot = []string{"--map-root-user", "--map-auto"}

// findWay tries the ways in order of how well they clean up after themselves.
func findWay(ctx context.Context) (way, error) {
	w := way{unshare: isolate, mode: "root"}
	if os.Getuid() != 0 {
		w.unshare = append(asRoot[:len(asRoot):len(asRoot)], isolate...)
	}
	err := try(ctx, append(append([]string{"unshare"}, w.unshare...), "mount", "--bind", os.TempDir(), privateTmp)...)
	switch {
	case err == nil:
		return w, nil
	case ctx.Err() != nil:
		return way{}, ctx.Err()
	case os.Getuid() == 0:
		return way{mode: "root"}, nil
	}
	for _, tool := range []string{"fakechroot", "fakeroot"} {
		if _, lookErr := lookPath(tool); lookErr != nil {
			return way{}, errs.New(errs.Unavailable,
				"cannot build an image as an ordinary user: no namespace with subordinate user ids can be made (%w), and %s is not installed", err, tool).
				WithHint("apt-get install uidmap, then usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER; or apt-get install fakechroot fakeroot")
		}
	}
	return way{mode: "fakechroot"}, nil
}

// prefix is the command before mmdebstrap's own; tmp is the folder as we see it.
func (w way) prefix(tmp string) []string {
	if w.unshare == nil {
		return nil
	}
	args := append([]string{"unshare"}, w.unshare...)
	return append(args, "sh", "-ec", `mount --bind "$0" `+privateTmp+`; exec "$@"`, tmp)
}

// tmp is the folder as the build sees it.
func (w way) tmp(dir string) string {
	if w.unshare == nil {
		return dir
	}
	return privateTmp
}

// try runs a short command; its error ends with what the command said.
func try(ctx context.Context, args ...string) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd, err := command(ctx, []string{"HOME=" + os.TempDir(), "TMPDIR=" + os.TempDir()}, args...)
	if err != nil {
		return err
	}
	said := new(messages)
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", args[0], err, said.tail())
	}
	return nil
}

// RemoveAll removes a folder like [os.RemoveAll]. It also takes what a build that
// was killed has left there for other users of its namespace.
func RemoveAll(ctx context.Context, dir string) error {
	err := os.RemoveAll(dir)
	if err == nil || !errors.Is(err, fs.ErrPermission) || os.Getuid() == 0 {
		return err
	}
	args := append([]string{"unshare"}, asRoot...)
	return try(ctx, append(args, "rm", "-rf", "--", dir)...)
}
