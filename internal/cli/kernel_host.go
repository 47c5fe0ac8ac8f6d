package cli

import (
	"archive/tar"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"banger/internal/base/errs"
	"banger/internal/kmod"
)

// hostKernel is the kernel that the host runs, as files.
type hostKernel struct {
	kernelFiles
	release string
}

// findHostKernel looks for the files of the running kernel below root, where
// distributions have them.
func findHostKernel(root string) (hostKernel, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return hostKernel{}, errs.New(errs.Unavailable, "cannot ask for the host's kernel: %w", err)
	}
	return hostKernelOf(root, unix.ByteSliceToString(name.Release[:]))
}

func hostKernelOf(root, release string) (hostKernel, error) {
	k := hostKernel{release: release}
	modules := filepath.Join(root, "lib/modules", release) // below /usr too, where /lib is a link to it
	images := []string{
		filepath.Join(root, "boot/vmlinuz-"+release), // Debian, Ubuntu, Fedora, SUSE
		filepath.Join(modules, "vmlinuz"),            // Fedora, Arch
		filepath.Join(root, "boot/vmlinux-"+release),
	}
	var denied error
	for _, path := range images {
		f, err := os.Open(path)
		if err == nil {
			_ = f.Close()
			k.image = path
			break
		}
		if errors.Is(err, fs.ErrPermission) && denied == nil {
			denied = err
		}
	}
	if k.image == "" && denied != nil {
		path := images[0]
		if failed, ok := errors.AsType[*fs.PathError](denied); ok {
			path = failed.Path
		}
		return k, errs.New(errs.Invalid, "cannot read the host's kernel %q: %w", release, denied).WithHint(
			"sudo install -m 0644 %s /tmp/vmlinuz && banger kernel import /tmp/vmlinuz --name %s --modules %s", path, release, modules)
	}
	if k.image == "" {
		return k, errs.New(errs.NotFound, "cannot find the host's kernel %q: there is no %s", release, strings.Join(images, ", no ")).
			WithHint("give its file: banger kernel import PATH --name %s; in a container or a VM it is often not there", release)
	}
	if info, err := os.Stat(modules); err == nil && info.IsDir() {
		k.modules = modules
	}
	for _, path := range []string{filepath.Join(root, "boot/config-"+release), filepath.Join(modules, "config"), filepath.Join(root, "proc/config.gz")} {
		if f, err := os.Open(path); err == nil {
			_ = f.Close()
			k.config = path
			break
		}
	}
	return k, nil
}

// tarModules writes the modules below dir, and the lists beside them, as a tar. Links
// are passed over: what a kernel's folder has of them leads to its sources.
func tarModules(w io.Writer, dir string) error {
	out := tar.NewWriter(w)
	// The folder itself may be a link.
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || kmod.NameOf(d.Name()) == "" && !strings.HasPrefix(d.Name(), "modules.") {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close() //nolint:errcheck // it was only read
		info, err := f.Stat()
		if err != nil {
			return err
		}
		if err := out.WriteHeader(&tar.Header{Name: filepath.ToSlash(name), Typeflag: tar.TypeReg, Mode: 0o644, Size: info.Size()}); err != nil {
			return err
		}
		_, err = io.Copy(out, f)
		return err
	})
	if err != nil {
		return err
	}
	return out.Close()
}
