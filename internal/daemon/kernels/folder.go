package kernels

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"banger/internal/bzimage"
	"banger/internal/debian"
	"banger/internal/kmod"
)

// Names in a kernel's folder.
const (
	fileELF    = "vmlinux"
	fileDisk   = "modules.ext4"
	fileConfig = "config"
	dirModules = "modules"
	// dirTree holds /lib/modules/<release> while the kernel is made.
	dirTree = "tree"
)

// Bounds of what is taken out of a package, in bytes.
const (
	maxImage  = 256 << 20
	maxConfig = 4 << 20
	maxTree   = 4 << 30
)

// initramfsModules is what an initramfs may need with any driver, as far as the
// kernel has it.
var initramfsModules = []string{
	"virtio_mmio", "virtio_pci", "virtio_blk", "virtio_console", "virtio_net", "virtio_rng",
	"vmw_vsock_virtio_transport", "virtio_balloon", "virtio_mem", "ext4", "overlay", "erofs",
}

// builder makes the files of one kernel in a folder of its own.
type builder struct {
	dir, release string
	elfBytes     int64
	digest       hash.Hash
}

// unpack takes the ELF, the configuration and the modules out of a package.
func (b *builder) unpack(ctx context.Context, deb string) error {
	f, err := os.Open(deb)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // it was only read
	var image bytes.Buffer
	room := int64(maxTree)
	err = debian.WalkDeb(f, func(h *tar.Header, r io.Reader) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		name := strings.TrimPrefix(h.Name, "usr/") // where /usr is merged, modules are below it
		file, inTree := strings.CutPrefix(name, "lib/modules/"+b.release+"/")
		switch {
		case h.Typeflag != tar.TypeReg:
			return nil
		case name == "boot/vmlinuz-"+b.release:
			return copyAtMost(&image, r, maxImage)
		case name == "boot/config-"+b.release:
			return writeFile(filepath.Join(b.dir, fileConfig), r, maxConfig)
		case inTree:
			if room -= h.Size; room < 0 {
				return fmt.Errorf("its modules have more than %d bytes", int64(maxTree))
			}
			return writeFile(filepath.Join(b.dir, dirTree, filepath.FromSlash(file)), r, h.Size)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if image.Len() == 0 {
		return errors.New("the package has no kernel")
	}
	return b.extract(image.Bytes())
}

// extract writes the ELF inside image.
func (b *builder) extract(image []byte) (err error) {
	f, err := os.OpenFile(filepath.Join(b.dir, fileELF), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := bzimage.Extract(f, bytes.NewReader(image), int64(len(image))); err != nil {
		return err
	}
	b.digest = sha256.New()
	b.elfBytes, err = io.Copy(b.digest, io.NewSectionReader(f, 0, bzimage.MaxELF))
	return err
}

// makeModules turns the tree of modules into the modules disk and the folder of
// uncompressed ones, removes it, and returns the disk's size.
func (b *builder) makeModules(ctx context.Context, fromTar func(context.Context, string, io.Reader) (int64, error)) (int64, error) {
	root := filepath.Join(b.dir, dirTree)
	if err := os.MkdirAll(root, 0o700); err != nil { // a kernel may have no modules
		return 0, err
	}
	tree := os.DirFS(root)
	set, err := kmod.Scan(ctx, tree)
	if err != nil {
		return 0, err
	}
	index, err := set.Index()
	if err != nil {
		return 0, err
	}
	for name, data := range index {
		if err := os.WriteFile(filepath.Join(root, name), data, 0o600); err != nil {
			return 0, err
		}
	}
	if err := b.keepModules(set); err != nil {
		return 0, err
	}
	r, w := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := tarTree(w, root)
		packed <- errors.Join(err, w.CloseWithError(err))
	}()
	n, err := fromTar(ctx, filepath.Join(b.dir, fileDisk), r)
	_ = r.CloseWithError(io.ErrClosedPipe) // lets the writer go if fromTar has left early
	if tarErr := <-packed; err == nil && !errors.Is(tarErr, io.ErrClosedPipe) {
		err = tarErr
	}
	if err != nil {
		return 0, err
	}
	return n, os.RemoveAll(root)
}

// keepModules copies what an initramfs may need into the folder of uncompressed
// modules: the files, and modules.builtin to know what needs none.
func (b *builder) keepModules(set *kmod.Set) error {
	root, dir := filepath.Join(b.dir, dirTree), filepath.Join(b.dir, dirModules)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	var wanted []string
	for _, name := range initramfsModules {
		if set.Known(name) {
			wanted = append(wanted, name)
		}
	}
	modules, err := set.Order(wanted...)
	if err != nil {
		return err
	}
	for _, m := range modules {
		data, err := kmod.Read(os.DirFS(root), m.Path)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, m.Name+".ko"), data, 0o600); err != nil {
			return err
		}
	}
	builtin, err := os.ReadFile(filepath.Join(root, "modules.builtin"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
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
		err = fmt.Errorf("a file of it is larger than %d bytes", limit)
	}
	return err
}
