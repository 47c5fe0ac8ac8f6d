package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"banger/internal/guestabi"
)

// mount is one file system to mount; target is made if it is missing.
type mount struct {
	source, target, fstype string
	flags                  uintptr
	data                   string
}

// nosuidDev are the flags of file systems that hold no programs.
const nosuidDev = unix.MS_NOSUID | unix.MS_NODEV

// kernelFilesystems are the kernel's own, both in the initramfs and in the root.
var kernelFilesystems = []mount{
	{"proc", "/proc", "proc", nosuidDev | unix.MS_NOEXEC, ""},
	{"sysfs", "/sys", "sysfs", nosuidDev | unix.MS_NOEXEC, ""},
	{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID, "mode=0755"},
}

// rootFilesystems are what a Linux system expects besides; an init that comes
// after us finds them mounted and leaves them. Group 5 is tty in every
// distribution.
var rootFilesystems = []mount{
	{"devpts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "mode=0620,gid=5,ptmxmode=0666"},
	{"tmpfs", "/dev/shm", "tmpfs", nosuidDev, "mode=1777"},
	{"tmpfs", "/run", "tmpfs", nosuidDev, "mode=0755,size=20%"},
}

// devLinks are the links in /dev that programs expect and devtmpfs lacks.
var devLinks = map[string]string{
	"/dev/fd": "/proc/self/fd", "/dev/stdin": "/proc/self/fd/0", "/dev/stdout": "/proc/self/fd/1", "/dev/stderr": "/proc/self/fd/2",
}

func (m mount) do() error {
	if err := ensureDir(m.target); err != nil {
		return err
	}
	if err := unix.Mount(m.source, m.target, m.fstype, m.flags, m.data); err != nil {
		return fmt.Errorf("cannot mount %s at %s: %w", m.source, m.target, err)
	}
	return nil
}

func mountAll(all []mount) error {
	for _, m := range all {
		if err := m.do(); err != nil {
			return err
		}
	}
	return nil
}

func mountKernelFilesystems() error { return mountAll(kernelFilesystems) }

// layer is a tree without a place yet: the result of open_tree(2).
type layer struct {
	tree   int
	target string
}

// dockerDirs are bound from the system disk itself, since overlay on overlay
// fails.
var dockerDirs = map[string]string{"docker": "/var/lib/docker", "containerd": "/var/lib/containerd"}

// mountRoot mounts base and system disk and the overlay of both at /newroot.
func (b *booter) mountRoot() error {
	// noload: the base has no journal worth reading, and cannot be written to.
	err := mountAll([]mount{
		{guestabi.BaseDisk, "/base", "ext4", unix.MS_RDONLY, "noload"},
		{guestabi.SystemDisk, "/disk", "ext4", 0, ""},
	})
	if err != nil {
		return err
	}
	if b.system, err = os.Open("/disk"); err != nil {
		return err
	}
	if err := makeLayers("/base", "/disk"); err != nil {
		return err
	}
	// redirect_dir lets a program rename a directory of the image; without it that
	// fails with EXDEV. It is safe because the base below an upper layer never changes.
	overlay := mount{"overlay", "/newroot", "overlay", 0, "lowerdir=/base,upperdir=/disk/upper,workdir=/disk/work,redirect_dir=on"}
	if err := overlay.do(); err != nil {
		return err
	}
	for name, target := range dockerDirs {
		tree, err := unix.OpenTree(unix.AT_FDCWD, filepath.Join("/disk", name), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err != nil {
			return fmt.Errorf("cannot bind %s: %w", target, err)
		}
		b.layers = append(b.layers, layer{tree, target})
	}
	return nil
}

// makeLayers makes the directories of a new system disk. The upper layer's mode
// and owner become those of "/", so they are the base's.
func makeLayers(base, system string) error {
	var st unix.Stat_t
	if err := unix.Stat(base, &st); err != nil {
		return err
	}
	upper := filepath.Join(system, "upper")
	switch err := unix.Mkdir(upper, st.Mode&0o7777); {
	case err == nil:
		if err := unix.Chown(upper, int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
	case !errors.Is(err, unix.EEXIST):
		return fmt.Errorf("cannot make %s: %w", upper, err)
	}
	for _, name := range []string{"work", "docker", "containerd"} {
		if err := unix.Mkdir(filepath.Join(system, name), 0o710); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("cannot make %s: %w", filepath.Join(system, name), err)
		}
	}
	return nil
}

// changeRoot makes /newroot the root of this process and its children and frees
// the memory of the initramfs. The running program stays alive without a name.
func changeRoot() error {
	if err := errors.Join(os.RemoveAll(guestabi.InitPath), os.RemoveAll(guestabi.ModulesDir)); err != nil {
		return err
	}
	if err := unix.Chdir("/newroot"); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return err
	}
	return errors.Join(unix.Chroot("."), unix.Chdir("/"))
}

// mountInside mounts everything in the root but the work disk, and empties /tmp.
func (b *booter) mountInside() error {
	if err := errors.Join(mountAll(kernelFilesystems), mountAll(rootFilesystems)); err != nil {
		return err
	}
	for link, target := range devLinks {
		if err := os.Symlink(target, link); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	for _, l := range b.layers {
		if err := l.mount(); err != nil {
			return fmt.Errorf("cannot bind %s: %w", l.target, err)
		}
	}
	if err := mountModules(); err != nil {
		return err
	}
	return emptyTmp("/tmp")
}

func (l layer) mount() error {
	defer unix.Close(l.tree)
	if err := ensureDir(l.target); err != nil {
		return err
	}
	return unix.MoveMount(l.tree, "", unix.AT_FDCWD, l.target, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// mountModules mounts the modules disk, if the VM has one.
func mountModules() error {
	if _, err := os.Stat(guestabi.ModulesDisk); err != nil {
		return nil
	}
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return err
	}
	target := filepath.Join("/lib/modules", filepath.Base(string(release[:len(release)-1])))
	return mount{guestabi.ModulesDisk, target, "ext4", unix.MS_RDONLY, "noload"}.do()
}

// emptyTmp removes what an earlier boot left in dir, which everybody may write
// to. A dir that is a link is left alone: what it leads to has another name, and
// maybe another purpose.
func emptyTmp(dir string) error {
	if err := ensureDir(dir); err != nil {
		return err
	}
	if info, err := os.Lstat(dir); err != nil || !info.IsDir() {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return os.Chmod(dir, os.ModeSticky|0o777)
}

// ensureDir makes the directory path and those above it. A file or a dangling
// link in the way gives way: it belongs to an odd image and is hidden in the
// upper layer only.
func ensureDir(path string) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil
	}
	if parent := filepath.Dir(path); parent != path {
		if err := ensureDir(parent); err != nil {
			return err
		}
	}
	err := os.Mkdir(path, 0o755)
	if errors.Is(err, os.ErrExist) {
		if err := os.Remove(path); err != nil {
			return err
		}
		err = os.Mkdir(path, 0o755)
	}
	return err
}
