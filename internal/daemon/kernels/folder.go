package kernels

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"banger/internal/base/errs"
	"banger/internal/bzimage"
	"banger/internal/debian"
	"banger/internal/kmod"
	"banger/internal/vm"
)

// Names in a kernel's folder.
const (
	fileELF    = "vmlinux"
	fileDisk   = "modules.ext4"
	fileConfig = "config"
	dirModules = "modules"
	// dirTree holds /lib/modules/<release> while the kernel is made.
	dirTree = "tree"
	// fileImage is the kernel as it came, while it is made.
	fileImage = "image"
	// fileDeleting marks a folder whose record is being deleted.
	fileDeleting = ".deleting"
)

// Bounds of what is taken out of a package or an upload, in bytes.
const (
	maxImage  = 512 << 20
	maxConfig = 4 << 20
)

// unpackDeb takes the kernel of a release, the configuration and the modules out of a
// package.
func (b *builder) unpackDeb(ctx context.Context, deb, release string) error {
	f, err := os.Open(deb)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // it was only read
	image, room := filepath.Join(b.dir, fileImage), int64(maxTree)
	err = debian.WalkDeb(f, func(h *tar.Header, r io.Reader) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		name := strings.TrimPrefix(h.Name, "usr/") // where /usr is merged, modules are below it
		file, inTree := strings.CutPrefix(name, "lib/modules/"+release+"/")
		switch {
		case h.Typeflag != tar.TypeReg:
			return nil
		case name == "boot/vmlinuz-"+release:
			return writeFile(image, r, maxImage)
		case name == "boot/config-"+release:
			var text bytes.Buffer
			err := copyAtMost(&text, r, maxConfig)
			b.config = text.Bytes()
			return err
		case inTree:
			if room -= h.Size; room < 0 {
				return fmt.Errorf("its modules have more than %d bytes", int64(maxTree))
			}
			return writeFile(filepath.Join(b.tree, filepath.FromSlash(file)), r, h.Size)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if !exists(image) {
		return errors.New("the package has no kernel")
	}
	if err := b.extract(image); err != nil {
		return err
	}
	if b.k.Release != release {
		return fmt.Errorf("the package has a kernel of the release %q", b.k.Release)
	}
	return nil
}

// extract writes the ELF inside the file image, which it removes, and notes what the
// kernel says of itself.
func (b *builder) extract(image string) (err error) {
	src, err := os.Open(image)
	if err != nil {
		return err
	}
	defer src.Close() //nolint:errcheck // it was only read
	sum := sha256.New()
	size, err := io.Copy(sum, src)
	if err != nil {
		return err
	}
	b.k.ImageDigest = digestText(sum.Sum(nil))
	f, err := os.OpenFile(filepath.Join(b.dir, fileELF), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	format, err := bzimage.Extract(f, src, size)
	if err != nil {
		return err
	}
	b.k.Format = string(format)
	sum.Reset()
	n, err := io.Copy(sum, io.NewSectionReader(f, 0, bzimage.MaxELF))
	if err != nil {
		return err
	}
	b.k.Digest = digestText(sum.Sum(nil))
	b.k.Bytes += n
	if b.k.Release, err = bzimage.Release(f, n); err != nil {
		return err
	}
	config, err := bzimage.Config(f, n)
	if err != nil {
		return err
	}
	if config != nil { // what is in the kernel itself is true of it
		b.config = config
	}
	return os.Remove(image)
}

func digestText(sum []byte) string { return fmt.Sprintf("sha256:%x", sum) }

// makeModules turns the tree of modules into the modules disk and the folder of
// uncompressed ones, and removes it.
func (b *builder) makeModules(ctx context.Context, parts []part, set *kmod.Set) error {
	index, err := set.Index()
	if err != nil {
		return b.blame(err)
	}
	for name, data := range index {
		if err := os.WriteFile(filepath.Join(b.tree, name), data, 0o600); err != nil {
			return err
		}
	}
	if err := b.keepModules(parts, set); err != nil {
		return err
	}
	if len(b.config) > 0 {
		if err := os.WriteFile(filepath.Join(b.dir, fileConfig), b.config, 0o600); err != nil {
			return err
		}
	}
	disk := filepath.Join(b.dir, fileDisk)
	r, w := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := tarTree(w, b.tree)
		packed <- errors.Join(err, w.CloseWithError(err))
	}()
	n, err := b.s.o.FromTar(ctx, disk, r)
	_ = r.CloseWithError(io.ErrClosedPipe) // lets the writer go if FromTar has left early
	if tarErr := <-packed; err == nil && !errors.Is(tarErr, io.ErrClosedPipe) {
		err = tarErr
	}
	if err != nil {
		return err
	}
	b.k.Bytes += n
	if b.k.ModulesDigest, err = digestOf(disk); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(b.dir, dirTree))
}

// digestOf is the digest of a file's bytes.
func digestOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // it was only read
	sum := sha256.New()
	_, err = io.Copy(sum, f)
	return digestText(sum.Sum(nil)), err
}

// keepModules copies what an initramfs may need into the folder of uncompressed
// modules: the files, and a modules.builtin to know what needs none.
func (b *builder) keepModules(parts []part, set *kmod.Set) error {
	dir := filepath.Join(b.dir, dirModules)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	var wanted []string
	builtin, err := os.ReadFile(filepath.Join(b.tree, "modules.builtin"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if len(builtin) > 0 && builtin[len(builtin)-1] != '\n' {
		builtin = append(builtin, '\n')
	}
	for i, p := range parts {
		switch {
		case p.module == "":
		case b.k.Options[i].State == vm.OptionModule:
			wanted = append(wanted, p.module)
		case b.k.Options[i].State == vm.OptionBuiltin && !set.Builtin(p.module):
			// The configuration says so; the modules came without their list.
			builtin = append(builtin, "kernel/"+p.module+".ko\n"...)
		}
	}
	modules, err := set.Order(wanted...)
	if err != nil {
		return b.blame(err)
	}
	for _, m := range modules {
		data, err := kmod.Read(os.DirFS(b.tree), m.Path)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, m.Name+".ko"), data, 0o600); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, "modules.builtin"), builtin, 0o600)
}

// tarTree writes the folder root as a tar whose entries belong to root and bear
// no date, so that the same tree gives the same disk.
func tarTree(w io.Writer, root string) error {
	out := tar.NewWriter(w)
	err := filepath.WalkDir(root, func(file string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, file)
		if err != nil || name == "." {
			return err
		}
		h := &tar.Header{Name: filepath.ToSlash(name), Typeflag: tar.TypeDir, Mode: 0o755, ModTime: time.Unix(0, 0)}
		if d.IsDir() {
			h.Name += "/"
			return out.WriteHeader(h)
		}
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close() //nolint:errcheck // it was only read
		info, err := f.Stat()
		if err != nil {
			return err
		}
		h.Typeflag, h.Mode, h.Size = tar.TypeReg, 0o644, info.Size()
		if err := out.WriteHeader(h); err != nil {
			return err
		}
		_, err = io.Copy(out, f)
		return err
	})
	return errors.Join(err, out.Close())
}

// writeFile makes a file of r's bytes, at most limit, and the folders above it.
func writeFile(file string, r io.Reader, limit int64) (err error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return copyAtMost(f, r, limit)
}

func copyAtMost(w io.Writer, r io.Reader, limit int64) error {
	n, err := io.Copy(w, io.LimitReader(r, limit+1))
	if err == nil && n > limit {
		err = errs.New(errs.Invalid, "a file of it is larger than %d MiB", limit>>20)
	}
	return err
}
