package archive_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"testing/iotest"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"

	"banger/internal/base/errs"
	"banger/internal/oci"
	"banger/internal/oci/archive"
	"banger/internal/oci/unpack"
)

func TestWriteAndRead(t *testing.T) {
	k := newKeeper()
	img := newImage(t, k, amd64, "hello")
	b := write(t, k, img, "alpine:3.20", "ghcr.io/a/b:c")
	if again := write(t, k, img, "alpine:3.20", "ghcr.io/a/b:c"); !bytes.Equal(again, b) {
		t.Error("another time it is another archive")
	}
	var gz bytes.Buffer
	if _, err := archive.Pack(t.Context(), &gz, bytes.NewReader(b), unpack.Gzip); err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	for name, packed := range map[string][]byte{"plain": b, "gzip": gz.Bytes(), "zstd": z.EncodeAll(b, nil)} {
		k := newKeeper()
		images, err := archive.Read(t.Context(), iotest.HalfReader(bytes.NewReader(packed)), opts, k.put)
		if err != nil || len(images) != 1 {
			t.Fatalf("%s: %v, %v", name, images, err)
		}
		same(t, k, images[0], img)
		if want := []string{"docker.io/library/alpine:3.20", "ghcr.io/a/b:c"}; !slices.Equal(images[0].Names, want) {
			t.Errorf("%s: names %q", name, images[0].Names)
		}
		if len(k.blobs) != 2 {
			t.Errorf("%s: %d blobs were kept", name, len(k.blobs))
		}
	}
}

func TestOrderOfMembersIsNothing(t *testing.T) {
	k := newKeeper()
	img := newImage(t, k, amd64, "hello")
	all := members(t, write(t, k, img, "alpine:3.20"))
	for seed := range uint64(20) {
		rand.New(rand.NewPCG(seed, 0)).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		k := newKeeper()
		images, err := archive.Read(t.Context(), bytes.NewReader(tarOf(t, all...)), opts, k.put)
		if err != nil || len(images) != 1 {
			t.Fatalf("seed %d: %v, %v", seed, images, err)
		}
		same(t, k, images[0], img)
	}
	// Some name everything from the top, or from here.
	for i := range all {
		all[i].name = []string{"./", "/"}[i%2] + all[i].name
	}
	if images, err := archive.Read(t.Context(), bytes.NewReader(tarOf(t, all...)), opts, newKeeper().put); err != nil || len(images) != 1 {
		t.Errorf("other names: %v, %v", images, err)
	}
}

func TestReadLayout(t *testing.T) {
	k := newKeeper()
	img, other := newImage(t, k, amd64, "hello"), newImage(t, k, arm64, "arm")
	l := newLayout(t)
	l.add(named(l.image(k, img), "a/b:c"), named(l.image(k, other), "a/arm:c"))
	dir, files := t.TempDir(), fstest.MapFS{}
	for _, m := range members(t, l.tar()) {
		files[m.name] = &fstest.MapFile{Data: m.content}
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, m.name)), 0o700), os.WriteFile(filepath.Join(dir, m.name), m.content, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close() //nolint:errcheck // it is only read
	for name, fsys := range map[string]fs.FS{"fs.FS": files, "os.Root": root.FS()} {
		k := newKeeper()
		images, err := archive.ReadLayout(t.Context(), fsys, opts, k.put)
		if err != nil || len(images) != 1 {
			t.Fatalf("%s: %v, %v", name, images, err)
		}
		same(t, k, images[0], img)
		if len(k.blobs) != 2 || images[0].Names[0] != "docker.io/a/b:c" {
			t.Errorf("%s: %d blobs were kept; names %q", name, len(k.blobs), images[0].Names)
		}
	}

	read := func() error {
		_, err := archive.ReadLayout(t.Context(), root.FS(), opts, newKeeper().put)
		return err
	}
	blob := filepath.Join(dir, "blobs/sha256", strings.TrimPrefix(img.Layers[1].Digest, "sha256:"))
	if err := os.WriteFile(blob, bytes.Repeat([]byte{1}, int(img.Layers[1].Size)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := read(); errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error(), "is damaged: it has") {
		t.Errorf("a damaged layer: %v", err)
	}
	if err := os.Remove(blob); err != nil {
		t.Fatal(err)
	}
	if err := read(); errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error(), "does not have the blob "+img.Layers[1].Digest) {
		t.Errorf("a layer that is not there: %v", err)
	}
	for _, path := range []string{"/etc/hostname", "../outside"} { // a link out of the folder
		_ = os.Remove(blob)
		if err := os.Symlink(path, blob); err != nil {
			t.Fatal(err)
		}
		if err := read(); err == nil {
			t.Error("a link led out of the folder")
		}
	}
	_ = os.Remove(blob)
	if err := syscall.Mkfifo(blob, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := read(); errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error(), "is no file") {
		t.Errorf("a pipe: %v", err)
	}
	if _, err := archive.ReadLayout(t.Context(), fstest.MapFS{}, opts, k.put); errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error(), "it has no index.json") {
		t.Errorf("an empty folder: %v", err)
	}
}

func TestLayoutsOfSeveral(t *testing.T) {
	k := newKeeper()
	one, two, arm := newImage(t, k, amd64, "one"), newImage(t, k, amd64, "two"), newImage(t, k, arm64, "arm")
	index := func(l *layout, d ...v1.Descriptor) v1.Descriptor {
		return l.blob(marshal(t, v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: d}), string(types.OCIImageIndex))
	}
	chart := func(l *layout) v1.Descriptor {
		config := l.blob([]byte(`{"name":"chart"}`), "application/vnd.cncf.helm.config.v1+json")
		return l.blob(marshal(t, v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: config}), string(types.OCIManifestSchema1))
	}
	for name, c := range map[string]struct {
		make func(l *layout)
		want map[string]*oci.Image // by Choose's name
		odd  []string              // names that Choose does not have, or cannot decide
	}{
		"two images": {func(l *layout) { l.add(named(l.image(k, one), "x:one"), named(l.image(k, two), "x:two")) },
			map[string]*oci.Image{"x:one": one, "docker.io/library/x:two": two, two.Digest: two, one.ConfigDigest: one}, []string{"", "x", "x:three"}},
		"two names": {func(l *layout) { d := l.image(k, one); l.add(named(d, "x:a"), named(d, "b")) },
			map[string]*oci.Image{"": one, "x:a": one, "b": one}, []string{"a", "c"}},
		"one for each platform": {func(l *layout) { l.add(l.image(k, arm), l.image(k, one)) },
			map[string]*oci.Image{"": one}, nil},
		"an index of platforms": {func(l *layout) { l.add(named(index(l, l.image(k, arm), l.image(k, one)), "latest")) },
			map[string]*oci.Image{"": one, "latest": one}, []string{"x"}},
		"an index, not all there": {func(l *layout) {
			d := l.image(k, one)
			there := slices.Clone(l.all)
			other := l.image(k, arm)
			l.all = there
			l.add(index(l, other, d))
		}, map[string]*oci.Image{"": one}, nil},
		"a chart beside": {func(l *layout) { l.add(chart(l), l.image(k, one)) }, map[string]*oci.Image{"": one}, nil},
		"a nameless one beside": {func(l *layout) { l.add(named(l.image(k, one), "x:one"), l.image(k, two)) },
			map[string]*oci.Image{"x:one": one, two.Digest: two}, []string{""}},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLayout(t)
			c.make(l)
			k := newKeeper()
			images, err := archive.Read(t.Context(), bytes.NewReader(l.tar()), opts, k.put)
			if err != nil {
				t.Fatal(err)
			}
			for name, want := range c.want {
				got, err := archive.Choose(images, name)
				if err != nil {
					t.Errorf("%q: %v", name, err)
					continue
				}
				same(t, k, got, want)
			}
			for _, name := range c.odd {
				_, err := archive.Choose(images, name)
				want := errs.NotFound
				if name == "" {
					want = errs.Invalid
				}
				if errs.KindOf(err) != want || errs.HintOf(err) == "" {
					t.Errorf("%q: %v", name, err)
				}
				if name == "" && strings.Contains(c.want["x:one"].Digest, "sha256:") && !strings.Contains(err.Error(), "x:one, ") {
					t.Errorf("%q: the error does not list what there is: %v", name, err)
				}
			}
		})
	}
	for name, c := range map[string]struct {
		make func(l *layout)
		kind errs.Kind
		want string
	}{
		"only others":  {func(l *layout) { l.add(l.image(k, arm)) }, errs.NotFound, "only for linux/arm64"},
		"only a chart": {func(l *layout) { l.add(chart(l)) }, errs.Invalid, "it is not an image"},
		"nothing":      {func(*layout) {}, errs.Invalid, "there is no image"},
		"without a blob": {func(l *layout) {
			l.add(named(l.image(k, one), "x:one"))
			l.all = l.all[1:]
		}, errs.Invalid, "the image x:one: the archive does not have the blob " + one.Layers[0].Digest},
		"without a manifest": {func(l *layout) {
			l.add(named(l.image(k, one), "x:one"))
			l.all = l.all[:len(l.all)-1]
		}, errs.Invalid, `the image "x:one": the archive does not have the blob ` + one.Digest},
		"a wrong diff id": {func(l *layout) {
			c := one.Config
			c.RootFS.DiffIDs = slices.Clone(c.RootFS.DiffIDs)
			c.RootFS.DiffIDs[1] = c.RootFS.DiffIDs[0]
			m := v1.Manifest{MediaType: types.OCIManifestSchema1, Config: l.blob(marshal(t, c), string(types.OCIConfigJSON))}
			for _, y := range one.Layers {
				m.Layers = append(m.Layers, l.blob(k.blobs[y.Digest], y.MediaType))
			}
			l.add(l.blob(marshal(t, m), string(types.OCIManifestSchema1)))
		}, errs.Invalid, "is not the one that its config knows"},
		"too many": {func(l *layout) { l.add(make([]v1.Descriptor, 1025)...) }, errs.Invalid, ""},
	} {
		l := newLayout(t)
		c.make(l)
		images, err := archive.Read(t.Context(), bytes.NewReader(l.tar()), opts, newKeeper().put)
		if errs.KindOf(err) != c.kind || !strings.Contains(fmt.Sprint(err), c.want) {
			t.Errorf("%s: %v, %v", name, images, err)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	k := newKeeper()
	good := members(t, write(t, k, newImage(t, k, amd64, "hello"), "x:y"))
	with := func(change func(m member) member) []byte {
		var all []member
		for _, m := range good {
			all = append(all, change(m))
		}
		return tarOf(t, all...)
	}
	whole := tarOf(t, good...)
	sparse := tarOf(t, good...)
	copy(sparse[156:], "S") // the type of the first member
	for name, c := range map[string]struct {
		archive []byte
		want    string
	}{
		"nothing":     {nil, "it has neither an index.json nor a manifest.json"},
		"no tar":      {bytes.Repeat([]byte("no tar at all "), 1000), "the archive is no tar"},
		"cut":         {whole[:len(whole)-1024-100], "or is damaged"},
		"a file tree": {layerTar(t, "etc/passwd", "root"), "it is no image archive"},
		"a blob is another": {with(func(m member) member {
			if strings.HasPrefix(m.name, "blobs/sha256/") && len(m.content) > 512 {
				m.content = append(bytes.Clone(m.content[1:]), 1)
			}
			return m
		}), "the archive is damaged: its member \"blobs/sha256/"},
		"a document is another": {with(func(m member) member {
			if bytes.HasPrefix(m.content, []byte(`{"schemaVersion":2`)) && m.name != "index.json" {
				m.content = append(bytes.Clone(m.content), ' ')
			}
			return m
		}), "the archive is damaged: its member \"blobs/sha256/"},
		"a bad index": {with(func(m member) member {
			if m.name == "index.json" {
				m.content = []byte(`{"manifests": 1}`)
			}
			return m
		}), "the index.json is damaged"},
		"sparse":      {sparse, ""},
		"a long name": {tarOf(t, member{name: strings.Repeat("a", 5000)}), "a name of 5000 bytes"},
	} {
		images, err := archive.Read(t.Context(), bytes.NewReader(c.archive), opts, newKeeper().put)
		if errs.KindOf(err) != errs.Invalid || !strings.Contains(fmt.Sprint(err), c.want) {
			t.Errorf("%s: %v, %v", name, images, err)
		}
	}
	o := opts
	var gz bytes.Buffer
	if _, err := archive.Pack(t.Context(), &gz, bytes.NewReader(whole), unpack.Gzip); err != nil {
		t.Fatal(err)
	}
	o.Budget = unpack.NewBudget(int64(len(whole))-1, 1)
	if _, err := archive.Read(t.Context(), bytes.NewReader(gz.Bytes()), o, newKeeper().put); errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error(), "which is the bound") {
		t.Errorf("more than the budget: %v", err)
	}
	o.Budget = unpack.NewBudget(int64(len(whole)), 1)
	if _, err := archive.Read(t.Context(), bytes.NewReader(gz.Bytes()), o, newKeeper().put); err != nil {
		t.Errorf("the budget: %v", err)
	}
	broken := errors.New("the cable is broken")
	for n := 0; n < len(whole)/512; n += 3 {
		_, err := archive.Read(t.Context(), io.MultiReader(bytes.NewReader(whole[:n*512]), iotest.ErrReader(broken)), opts, newKeeper().put)
		if !errors.Is(err, broken) {
			t.Errorf("broken at %d: %v", n*512, err)
		}
	}
	full := newKeeper()
	full.err = syscall.ENOSPC
	if _, err := archive.Read(t.Context(), bytes.NewReader(whole), opts, full.put); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a full disk: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := archive.Read(ctx, bytes.NewReader(whole), opts, newKeeper().put); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// What is a sparse file to a tar stands for zeros that are not there.
func TestSparseMembers(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := w.WriteHeader(&tar.Header{Name: "x.tar", Typeflag: tar.TypeReg, Size: 512, Mode: 0o644, PAXRecords: map[string]string{"VENDOR.key": "1"}})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write(make([]byte, 512))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	// The writer refuses such records, so one is put in the place of another.
	record := "27 GNU.sparse.realsize=999\n"
	archiveOf := bytes.Replace(b.Bytes(), []byte("16 VENDOR.key=1\n"), []byte(record), 1)
	if bytes.Equal(archiveOf, b.Bytes()) {
		t.Fatal("the record is not there")
	}
	grow := len(record) - len("16 VENDOR.key=1\n")
	i := bytes.Index(archiveOf, []byte(record))
	archiveOf = slices.Delete(archiveOf, i+len(record), i+len(record)+grow)
	copy(archiveOf[124:136], fmt.Sprintf("%011o\x00", len(record)))
	checksum(archiveOf[:512])
	if _, err := archive.Read(t.Context(), bytes.NewReader(archiveOf), opts, newKeeper().put); errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error(), "is sparse") {
		t.Errorf("got %v", err)
	}
}

// checksum mends that of a tar header.
func checksum(h []byte) {
	copy(h[148:156], "        ")
	sum := 0
	for _, c := range h[:512] {
		sum += int(c)
	}
	copy(h[148:156], fmt.Sprintf("%06o\x00 ", sum))
}
