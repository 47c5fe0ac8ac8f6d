package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"banger/internal/blobs"
)

// material is what the contenders work on: an image in the folder layout, and its
// layers once more in our store of downloads.
type material struct {
	Files         int
	Plain, Packed int64 // bytes
	Layers        []layerOf
}

type layerOf struct {
	Digest, DiffID string
	Size           int64
}

func (b *bench) load() (*material, error) {
	text, err := os.ReadFile(b.at("material.json"))
	if err != nil {
		return nil, err
	}
	m := new(material)
	return m, json.Unmarshal(text, m)
}

func (b *bench) blob(digest string) string {
	return b.at("layout/blobs/sha256/" + strings.TrimPrefix(digest, "sha256:"))
}

// prepare makes what is missing, which takes some minutes the first time.
func (b *bench) prepare(ctx context.Context) (*material, error) {
	if _, err := os.Lstat(b.at("tar2ext4")); err != nil {
		if err := command(ctx, "go", "build", "-C", "bench/ext4/tar2ext4", "-o", b.at("tar2ext4"), "."); err != nil {
			return nil, err
		}
	}
	m, err := b.load()
	if !errors.Is(err, fs.ErrNotExist) {
		return m, err
	}
	fmt.Fprintln(os.Stderr, "preparing an image of files of /usr")
	if err := errors.Join(os.RemoveAll(b.at("layout")), os.RemoveAll(b.at("blobs")), os.RemoveAll(b.at("layers"))); err != nil {
		return nil, err
	}
	m = new(material)
	if err := b.makeLayout(m); err != nil {
		return nil, err
	}
	if err := b.fillStore(ctx, m); err != nil {
		return nil, err
	}
	text, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	return m, errors.Join(os.RemoveAll(b.at("layers")), os.WriteFile(b.at("material.json"), text, 0o644))
}

// The image: what is taken of the host's /usr, and how it is cut; the rest is text that
// is made up, in small files.
const (
	hostBytes  = 1 << 30
	madeFiles  = 12_000
	madeLength = 16 << 10 // bytes on average
)

// shares are the parts of the host's files that the layers have, in percent: a large base
// and less and less on top, as images are.
var shares = []int64{45, 25, 15, 10, 5}

func (b *bench) makeLayout(m *material) error {
	folders, err := pick("/usr", hostBytes)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(b.at("layers"), 0o755); err != nil {
		return err
	}
	var total, taken int64
	for _, f := range folders {
		total += f.bytes
	}
	cut := make([][]folder, len(shares))
	for _, f := range folders {
		i, until := 0, shares[0]
		for i < len(shares)-1 && taken*100 >= until*total {
			i++
			until += shares[i]
		}
		cut[i] = append(cut[i], f)
		taken += f.bytes
	}
	failures := make([]error, len(cut)+1)
	written := make([]writer, len(cut)+1)
	var group sync.WaitGroup
	for i := range written {
		group.Go(func() {
			failures[i] = written[i].write(fmt.Sprintf("%s/%d", b.at("layers"), i), func(w *writer) error {
				if i == len(cut) {
					return w.changes(folders)
				}
				return w.copies(cut[i])
			})
		})
	}
	group.Wait()
	if err := errors.Join(failures...); err != nil {
		return err
	}
	for _, w := range written {
		m.Files, m.Plain = m.Files+w.files, m.Plain+w.bytes
	}
	return b.join(m, len(written))
}

// join makes an image of the layers.
func (b *bench) join(m *material, n int) error {
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for i := range n {
		l, err := tarball.LayerFromFile(fmt.Sprintf("%s/%d", b.at("layers"), i), tarball.WithMediaType(types.OCILayer))
		if err != nil {
			return err
		}
		if img, err = mutate.AppendLayers(img, l); err != nil {
			return err
		}
		digest, err1 := l.Digest()
		diffID, err2 := l.DiffID()
		size, err3 := l.Size()
		if err := errors.Join(err1, err2, err3); err != nil {
			return err
		}
		m.Layers = append(m.Layers, layerOf{Digest: digest.String(), DiffID: diffID.String(), Size: size})
		m.Packed += size
	}
	p, err := layout.Write(b.at("layout"), empty.Index)
	if err != nil {
		return err
	}
	return p.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "x"}))
}

// fillStore puts the layers where our downloads are.
func (b *bench) fillStore(ctx context.Context, m *material) (err error) {
	store, err := blobs.Open(b.at("blobs"), blobs.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	for _, l := range m.Layers {
		f, err := os.Open(b.blob(l.Digest))
		if err != nil {
			return err
		}
		_, err = store.Put(ctx, f, l.Size)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// folder is a folder of the host with the files that lie in it.
type folder struct {
	path  string
	files []string
	bytes int64
}

// pick returns folders of a tree, whole ones, with about so many bytes together, in an
// order that does not depend on the run. Of a tree that has less it is all.
func pick(root string, bytes int64) ([]folder, error) {
	all := map[string]*folder{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil || !info.Mode().IsRegular() && info.Mode().Type() != fs.ModeSymlink {
			return err
		}
		dir := filepath.Dir(path)
		if all[dir] == nil {
			all[dir] = &folder{path: dir}
		}
		all[dir].files = append(all[dir].files, path)
		all[dir].bytes += info.Size()
		return nil
	})
	if err != nil {
		return nil, err
	}
	var folders []folder
	for _, f := range all {
		folders = append(folders, *f)
	}
	slices.SortFunc(folders, func(a, b folder) int {
		return cmp.Or(cmp.Compare(hash(a.path), hash(b.path)), cmp.Compare(a.path, b.path))
	})
	var picked []folder
	for _, f := range folders {
		if f.bytes <= bytes {
			picked = append(picked, f)
			bytes -= f.bytes
		}
	}
	return picked, nil
}

func hash(s string) uint64 {
	h := fnv.New64a()
	_, _ = io.WriteString(h, s) // never fails
	return h.Sum64()
}
