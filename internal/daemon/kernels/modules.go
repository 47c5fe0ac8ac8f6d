package kernels

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/mikelolasagasti/xz"

	"banger/internal/base/errs"
	"banger/internal/kmod"
)

// Bounds of a tar of modules, unpacked, in bytes and entries.
const (
	maxTree    = 4 << 30
	maxFile    = 256 << 20
	maxEntries = 1 << 20
	// maxWindow bounds the memory of a decoder.
	maxWindow = 128 << 20
)

// unpackTree writes the modules, and the lists that come with them, of the tar r into
// the folder dir, which must not exist. The tar may be compressed. Links and other
// files are passed over: nothing outside of dir is written.
func unpackTree(ctx context.Context, r io.Reader, dir string) error {
	plain, done, err := decompress(r)
	if err != nil {
		return err
	}
	defer done()
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	room, seen := int64(maxTree), map[string]bool{}
	archive := tar.NewReader(plain)
	for n := 0; ; n++ {
		h, err := archive.Next()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("it is no tar: %w", err)
		case n == maxEntries:
			return fmt.Errorf("it has more than %d entries", maxEntries)
		}
		name := path.Clean(strings.TrimLeft(h.Name, "/"))
		if h.Typeflag != tar.TypeReg || !isModuleFile(path.Base(name)) {
			continue
		}
		switch room -= h.Size; {
		case !fs.ValidPath(name) || strings.ContainsRune(name, 0):
			return fmt.Errorf("the name %q leads out of it", h.Name)
		case seen[name]:
			return fmt.Errorf("it has %q twice", name)
		case room < 0:
			return fmt.Errorf("its modules have more than %d bytes", int64(maxTree))
		}
		seen[name] = true
		if err := writeFile(filepath.Join(dir, filepath.FromSlash(name)), archive, maxFile); err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
	}
}

// isModuleFile says whether a file is a module, or one of the lists beside them.
func isModuleFile(base string) bool {
	return strings.HasPrefix(base, "modules.") || kmod.NameOf(base) != ""
}

// decompress undoes the compression that the first bytes tell. The caller calls done
// when it has finished reading.
func decompress(r io.Reader) (plain io.Reader, done func(), err error) {
	buffered := bufio.NewReaderSize(r, 64<<10)
	magic, err := buffered.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	none := func() {}
	is := func(s string) bool { return bytes.HasPrefix(magic, []byte(s)) }
	switch {
	case is("\x1f\x8b"):
		plain, err = gzip.NewReader(buffered)
		return plain, none, err
	case is("\xfd7zXZ\x00"):
		plain, err = xz.NewReader(buffered, maxWindow)
		return plain, none, err
	case is("\x28\xb5\x2f\xfd"):
		z, err := zstd.NewReader(buffered, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, nil, err
		}
		return z, z.Close, nil
	}
	return buffered, none, nil
}

// findTree returns the folder below dir that is one kernel's /lib/modules/<release>.
// Of several it is the one of release.
func findTree(dir, release string) (string, error) {
	var listed, bare []string // by their lists; by a folder "kernel" with modules in it
	top := false
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		parent := filepath.Dir(file)
		rel, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		if strings.HasPrefix(d.Name(), "modules.") {
			listed = append(listed, parent)
		} else if before, _, ok := strings.Cut("/"+filepath.ToSlash(rel), "/kernel/"); ok {
			bare = append(bare, filepath.Join(dir, filepath.FromSlash(before)))
		}
		top = true
		return nil
	})
	if err != nil {
		return "", err
	}
	roots := listed
	if len(roots) == 0 {
		roots = bare
	}
	slices.Sort(roots)
	roots = slices.Compact(roots)
	switch {
	case len(roots) == 1:
		return roots[0], nil
	case len(roots) == 0 && top:
		return dir, nil
	case len(roots) == 0:
		return "", errs.New(errs.Invalid, "there are no modules in it").WithHint("give the folder /lib/modules/<release>, or a tar of it")
	}
	var names []string
	for _, root := range roots {
		if filepath.Base(root) == release {
			return root, nil
		}
		names = append(names, filepath.Base(root))
	}
	return "", errs.New(errs.Invalid, "it has the modules of %s, and none of %q", strings.Join(names, ", "), release).
		WithHint("give the modules of this kernel alone")
}
