package ext4

import (
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"banger/internal/base/testneed"
)

// kernel makes steps on an image that is mounted; without the right to do so it
// makes none, and agrees with everything.
type kernel struct {
	t    *testing.T
	root string
	m    *model // says what to agree with where nothing is mounted
}

func newKernel(t *testing.T, args string, mib int) *kernel {
	k := &kernel{t: t}
	if os.Getuid() != 0 || strings.Contains(args, "-b 65536") || testing.Short() {
		k.m = newModel() // the page size bounds what can be mounted
		return k
	}
	k.root, _ = testneed.Mount(t, mkfsImage(t, args, mib), "acl,user_xattr")
	os.Remove(filepath.Join(k.root, "lost+found"))
	os.Chmod(k.root, 0o755)
	return k
}

func (k *kernel) step(s editStep) error {
	if k.root == "" {
		return k.m.step(s)
	}
	p, to := filepath.Join(k.root, s.path), filepath.Join(k.root, s.to)
	owned := func() error {
		return errors.Join(os.Lchown(p, int(s.a.UID), int(s.a.GID)), os.Chmod(p, s.a.Mode))
	}
	info, missing := os.Lstat(p)
	regular := func() error {
		switch {
		case missing != nil:
			return missing
		case info.IsDir():
			return syscall.EISDIR
		case !info.Mode().IsRegular():
			return syscall.EINVAL
		}
		return nil
	}
	switch s.op {
	case "mkdir":
		if missing != nil {
			if err := os.Mkdir(p, 0o700); err != nil {
				return err
			}
		} else if !info.IsDir() {
			return syscall.EEXIST
		}
		return owned()
	case "write":
		if missing == nil {
			if err := regular(); err != nil {
				return err
			}
		}
		if err := os.WriteFile(p, s.data, 0o600); err != nil {
			return err
		}
		return owned()
	case "overwrite":
		if err := regular(); err != nil {
			return err
		}
		f, err := os.OpenFile(p, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteAt(s.data, s.n)
		f.Close()
		return errors.Join(err, os.Chmod(p, modeOf(info))) // the kernel drops setuid
	case "truncate":
		if err := regular(); err != nil {
			return err
		}
		return errors.Join(os.Truncate(p, s.n), os.Chmod(p, modeOf(info)))
	case "chmod":
		return os.Chmod(p, s.a.Mode)
	case "chown":
		if missing != nil {
			return missing
		}
		err := os.Lchown(p, int(s.a.UID), int(s.a.GID))
		if info.Mode()&fs.ModeSymlink == 0 {
			err = errors.Join(err, os.Chmod(p, modeOf(info)))
		}
		return err
	case "times":
		if missing != nil {
			return missing
		}
		return lutimes(p, s.a.ModTime)
	case "symlink":
		if err := os.Symlink(s.to, p); err != nil {
			return err
		}
		return os.Lchown(p, int(s.a.UID), int(s.a.GID))
	case "link":
		return os.Link(p, to)
	case "mknod":
		dev := 1<<8 | s.n&0xff | s.n>>8<<20
		if err := syscall.Mknod(p, syscall.S_IFCHR|0o600, int(dev)); err != nil {
			return err
		}
		return owned()
	case "rename":
		return syscall.Rename(p, to)
	case "remove":
		return os.Remove(p)
	case "removeall":
		if missing != nil {
			if errors.Is(missing, fs.ErrNotExist) {
				return nil
			}
			return missing
		}
		return os.RemoveAll(p)
	case "setxattr":
		if missing == nil && !info.IsDir() && !info.Mode().IsRegular() {
			return syscall.EPERM
		}
		return syscall.Setxattr(p, s.to, s.data, 0)
	case "removexattr":
		if missing == nil && info.Mode()&fs.ModeSymlink != 0 {
			return syscall.ENODATA
		}
		if missing == nil && !info.IsDir() && !info.Mode().IsRegular() {
			return syscall.ENODATA
		}
		return syscall.Removexattr(p, s.to)
	}
	panic(s.op)
}

func modeOf(info fs.FileInfo) fs.FileMode {
	return info.Mode() & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)
}

// lutimes sets the time of a file, not following a link.
func lutimes(p string, mtime time.Time) error {
	return exec.Command("touch", "-h", "-m", "-d", mtime.UTC().Format("2006-01-02T15:04:05.999999999Z"), p).Run()
}

// compare compares the kernel's tree, and what the kernel sees of ours, which it then
// writes to, with the model.
func (k *kernel) compare(t *testing.T, image string, m *model, want treeLines) {
	if k.root == "" {
		return
	}
	if d := m.unstamped(kernelLines(t, k.root)).diff(want); d != "" {
		t.Fatalf("the kernel's own result: %s", d)
	}
	testneed.Mounted(t, image, "acl,user_xattr", func(root string) {
		if d := m.unstamped(kernelLines(t, root)).diff(want); d != "" {
			t.Fatalf("the kernel's view of our result: %s", d)
		}
		must(t, os.WriteFile(filepath.Join(root, "by the kernel"), pattern(3, 50_000), 0o600))
		must(t, os.MkdirAll(filepath.Join(root, "new/by the kernel"), 0o755))
	})
	quietAfter(t, image)
}

// kernelLines reads a tree that is mounted.
func kernelLines(t *testing.T, root string) treeLines {
	t.Helper()
	out := treeLines{}
	first := map[uint64]string{}
	err := filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		if rel == "lost+found" {
			return filepath.SkipDir
		}
		info, err := os.Lstat(p)
		if err != nil {
			return err
		}
		s := info.Sys().(*syscall.Stat_t)
		l := line{mode: uint16(s.Mode), uid: s.Uid, gid: s.Gid, links: uint32(s.Nlink), mtime: info.ModTime().UnixNano(), attrs: map[string][]byte{}}
		switch {
		case info.Mode().IsRegular():
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			l.size, l.hash = int64(len(b)), sha256.Sum256(b)
		case info.Mode()&fs.ModeSymlink != 0:
			l.target, _ = os.Readlink(p)
		case info.Mode()&fs.ModeDevice != 0:
			l.major, l.minor = uint32(s.Rdev>>8&0xfff), uint32(s.Rdev&0xff|s.Rdev>>12&0xfff00)
		}
		if s.Nlink > 1 && !info.IsDir() {
			if first[s.Ino] == "" {
				first[s.Ino] = rel
			}
			l.same = first[s.Ino]
		}
		if info.IsDir() || info.Mode().IsRegular() {
			l.attrs = listXattrs(p)
		}
		out[rel] = l.String()
		return nil
	})
	must(t, err)
	return out
}

func listXattrs(p string) map[string][]byte {
	attrs := map[string][]byte{}
	names := make([]byte, 1<<16)
	n, _ := syscall.Listxattr(p, names)
	for name := range strings.SplitSeq(string(names[:max(n, 0)]), "\x00") {
		if name == "" {
			continue
		}
		b := make([]byte, 1<<16)
		if n, err := syscall.Getxattr(p, name, b); err == nil {
			attrs[name] = slices.Clone(b[:n])
		}
	}
	return attrs
}
