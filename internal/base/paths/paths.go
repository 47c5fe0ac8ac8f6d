// Package paths names every file and folder that banger keeps on the host, so
// that there is one list of them.
//
// Three roots, after the XDG base directory specification:
//
//	state    $XDG_STATE_HOME/banger   or ~/.local/state/banger: records, disks, images, kernels
//	cache    $XDG_CACHE_HOME/banger   or ~/.cache/banger: what can be made again
//	runtime  $XDG_RUNTIME_DIR/banger-<hash>  or $TMPDIR/banger-<uid>-<hash>: sockets, gone after a reboot
//
// The hash is that of the state root, so that two homes of one user never share a
// daemon. All folders are made with mode 0700.
package paths

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"banger/internal/base/errs"
)

// maxSocketPath is the room in sockaddr_un.sun_path (unix(7)), less the final NUL.
const maxSocketPath = 107

// longestSocket is the longest name below the runtime root: "vm/<16>/guest.sock".
const longestSocket = len("vm/0123456789abcdef/guest.sock")

// Dirs are banger's roots. All are absolute.
type Dirs struct {
	State, Cache, Runtime string
	// Config holds what the user writes; banger makes nothing in it. It may be missing.
	Config string
}

// FromEnv returns the roots for the current user and makes them, mode 0700. A
// runtime root in the shared temporary directory is refused unless it is a real
// directory owned by the user and closed to others.
func FromEnv() (Dirs, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return Dirs{}, errs.New(errs.Unavailable, "cannot find the home directory: %w", err).WithHint("set HOME")
	}
	d := Dirs{
		State:  filepath.Join(xdg("XDG_STATE_HOME", filepath.Join(home, ".local", "state")), "banger"),
		Cache:  filepath.Join(xdg("XDG_CACHE_HOME", filepath.Join(home, ".cache")), "banger"),
		Config: filepath.Join(xdg("XDG_CONFIG_HOME", filepath.Join(home, ".config")), "banger"),
	}
	hash := sha256.Sum256([]byte(d.State))
	suffix := "-" + hex.EncodeToString(hash[:4])
	d.Runtime = filepath.Join(os.TempDir(), "banger-"+strconv.Itoa(os.Getuid())+suffix)
	if x := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(x) {
		d.Runtime = filepath.Join(x, "banger"+suffix)
	}
	if len(d.Runtime)+1+longestSocket > maxSocketPath {
		return Dirs{}, errs.New(errs.Invalid, "the runtime directory %q is too long for a unix socket below it (at most %d bytes)",
			d.Runtime, maxSocketPath-1-longestSocket).WithHint("set XDG_RUNTIME_DIR to a shorter path")
	}
	for _, dir := range []string{d.State, d.Cache, d.Runtime} {
		if err := makePrivate(dir); err != nil {
			return Dirs{}, err
		}
	}
	return d, nil
}

func xdg(variable, fallback string) string {
	if v := os.Getenv(variable); filepath.IsAbs(v) {
		return v
	}
	return fallback
}

// makePrivate makes dir and checks that nobody else can have a hand in it.
func makePrivate(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return errs.New(errs.Unavailable, "cannot make the directory %q: %w", dir, err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.IsDir():
		return errs.New(errs.Unavailable, "%q is not a directory", dir).WithHint("remove it")
	case !ok || int(st.Uid) != os.Getuid():
		return errs.New(errs.Unavailable, "the directory %q belongs to another user (uid %d)", dir, st.Uid).
			WithHint("set HOME and XDG_RUNTIME_DIR to directories of your own")
	case info.Mode().Perm()&0o077 != 0:
		if err := os.Chmod(dir, 0o700); err != nil {
			return errs.New(errs.Unavailable, "cannot close the directory %q to others: %w", dir, err)
		}
	}
	return nil
}

// The daemon's files.

// Database is the SQLite file of all records.
func (d Dirs) Database() string { return filepath.Join(d.State, "banger.db") }

// DaemonLog is the daemon's log.
func (d Dirs) DaemonLog() string { return filepath.Join(d.State, "daemon.log") }

// DaemonLock is held (flock) by the daemon for as long as it lives.
func (d Dirs) DaemonLock() string { return filepath.Join(d.State, "daemon.lock") }

// StartLock is held (flock) by a command line while it starts the daemon.
func (d Dirs) StartLock() string { return filepath.Join(d.Runtime, "start.lock") }

// DaemonSocket is the daemon's API socket.
func (d Dirs) DaemonSocket() string { return filepath.Join(d.Runtime, "daemon.sock") }

// Images holds one "<digest>.ext4" for each image, and "staging/".
func (d Dirs) Images() string { return filepath.Join(d.State, "images") }

// BaseDisk is the disk of an image by its digest, with or without "sha256:".
func (d Dirs) BaseDisk(digest string) string {
	return filepath.Join(d.Images(), strings.TrimPrefix(digest, "sha256:")+".ext4")
}

// Kernels holds one folder for each kernel, named by its release.
func (d Dirs) Kernels() string { return filepath.Join(d.State, "kernels") }

// Initramfs holds initramfs archives, named by content.
func (d Dirs) Initramfs() string { return filepath.Join(d.Cache, "initramfs") }

// Downloads holds verified package files and archive indexes.
func (d Dirs) Downloads() string { return filepath.Join(d.Cache, "downloads") }

// Blobs holds downloaded layers, configurations and manifests by digest: see blobs.
func (d Dirs) Blobs() string { return filepath.Join(d.Cache, "blobs") }

// DebianSources names the Debian mirrors to use in the place of those that the host's
// apt is configured with, in the format of sources.list(5) (deb822); "" for roots
// without a Config.
func (d Dirs) DebianSources() string { return d.config("debian.sources") }

// ConfigFile is the user's configuration; "" for roots without a Config.
func (d Dirs) ConfigFile() string { return d.config("config.toml") }

// ImageCatalog is the user's part of the image catalog; "" for roots without a Config.
func (d Dirs) ImageCatalog() string { return d.config("images.toml") }

func (d Dirs) config(name string) string {
	if d.Config == "" {
		return ""
	}
	return filepath.Join(d.Config, name)
}

// VMs is the folder of all VMs' state.
func (d Dirs) VMs() string { return filepath.Join(d.State, "vms") }

// VM returns the files of one VM.
func (d Dirs) VM(id string) VM {
	return VM{State: filepath.Join(d.VMs(), id), Run: filepath.Join(d.Runtime, "vm", id)}
}

// RunVMs is the folder of all VMs' sockets.
func (d Dirs) RunVMs() string { return filepath.Join(d.Runtime, "vm") }

// VM is the two folders of one VM.
type VM struct {
	// State survives a reboot: disks, logs.
	State string
	// Run holds the sockets while the VM runs.
	Run string
}

// SystemDisk is the upper layer of the root file system.
func (v VM) SystemDisk() string { return filepath.Join(v.State, "system.ext4") }

// WorkDisk is mounted at /root.
func (v VM) WorkDisk() string { return filepath.Join(v.State, "work.ext4") }

// ConsoleLog is the newest part of the console log.
func (v VM) ConsoleLog() string { return filepath.Join(v.State, "console.log") }

// OldConsoleLog is the part before it.
func (v VM) OldConsoleLog() string { return filepath.Join(v.State, "console.log.1") }

// ShimLog is the shim's own log.
func (v VM) ShimLog() string { return filepath.Join(v.State, "shim.log") }

// Lock is held by the shim and its VMM, or by a command that edits the disks: see
// disklock.
func (v VM) Lock() string { return filepath.Join(v.State, "lock") }

// Exit is the last status that a shim left behind, as JSON.
func (v VM) Exit() string { return filepath.Join(v.State, "exit.json") }

// ShimSocket is the shim's API socket.
func (v VM) ShimSocket() string { return filepath.Join(v.Run, "shim.sock") }

// GuestSocket is the socket whose connections reach the guest agent.
func (v VM) GuestSocket() string { return filepath.Join(v.Run, "guest.sock") }
