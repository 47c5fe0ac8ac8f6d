package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/gzip"
)

// writer writes a layer and counts.
type writer struct {
	t     *tar.Writer
	made  map[string]bool
	files int
	bytes int64
}

func (w *writer) write(path string, fill func(*writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	z := gzip.NewWriter(f)
	w.t, w.made = tar.NewWriter(z), map[string]bool{".": true}
	return errors.Join(fill(w), w.t.Close(), z.Close(), f.Close())
}

func (w *writer) header(h *tar.Header) error {
	h.Format = tar.FormatPAX
	w.bytes += h.Size + 512
	if h.Typeflag != tar.TypeDir {
		w.files++
	}
	return w.t.WriteHeader(h)
}

// parents writes the directories that lead to a path.
func (w *writer) parents(path string) error {
	dir := filepath.Dir(path)
	if w.made[dir] {
		return nil
	}
	w.made[dir] = true
	if err := w.parents(dir); err != nil {
		return err
	}
	return w.header(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755})
}

// copies writes folders of the host.
func (w *writer) copies(folders []folder) error {
	for _, f := range folders {
		for _, path := range f.files {
			if err := w.copy(path); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *writer) copy(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	target := ""
	if info.Mode().Type() == fs.ModeSymlink {
		if target, err = os.Readlink(path); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return err
	}
	h.Name = strings.TrimPrefix(path, "/")
	if err := errors.Join(w.parents(h.Name), w.header(h)); err != nil || target != "" {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	_, err = io.CopyN(w.t, f, info.Size())
	return errors.Join(err, f.Close())
}

// changes writes a layer of changes: some files are gone, some are new, and there are
// many small ones.
func (w *writer) changes(folders []folder) error {
	for i, f := range folders {
		first := strings.TrimPrefix(f.files[0], "/")
		switch i % 10 {
		case 0:
			if err := errors.Join(w.parents(first), w.text(filepath.Join(filepath.Dir(first), ".wh."+filepath.Base(first)), 0, 0)); err != nil {
				return err
			}
		case 5:
			if err := errors.Join(w.parents(first), w.text(first, i, 100_000)); err != nil {
				return err
			}
		}
	}
	for i := range madeFiles {
		name := fmt.Sprintf("srv/app/%d/%d/module-%d.js", i%37, i%11, i)
		// Most are small, and a few are many times as large.
		if err := errors.Join(w.parents(name), w.text(name, i, madeLength/4+i*7919%(madeLength/2)+i%64/63*32*madeLength)); err != nil {
			return err
		}
	}
	return nil
}

// text writes a file that is made up of words.
func (w *writer) text(name string, seed, size int) error {
	if err := w.header(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(size)}); err != nil {
		return err
	}
	x := uint32(seed)*2654435761 + 1
	b := make([]byte, 0, size+32)
	for len(b) < size {
		x = x*1664525 + 1013904223
		b = fmt.Appendf(b, "%s_%x(%d); ", words[x>>28], x>>20, x>>24)
	}
	_, err := w.t.Write(b[:size])
	return err
}

var words = [16]string{"const", "return", "function", "export", "require", "module", "value", "index", "length", "await", "state", "props", "render", "if", "else", "for"}
