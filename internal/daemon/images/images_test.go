package images

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"banger/internal/base/errs"
	"banger/internal/base/paths"
	"banger/internal/base/progress"
	"banger/internal/base/testneed"
	"banger/internal/blobs"
	"banger/internal/oci"
	"banger/internal/vm"
)

// memory is a Store without a disk.
type memory struct {
	mu     sync.Mutex
	images map[string]vm.Image
	// vms has the digests that VMs use.
	vms map[string]bool
	// putErr fails PutImage.
	putErr error
}

func newMemory() *memory { return &memory{images: map[string]vm.Image{}, vms: map[string]bool{}} }

func (m *memory) PutImage(_ context.Context, i vm.Image) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.putErr == nil {
		m.images[i.Name] = i
	}
	return m.putErr
}

func (m *memory) Images(context.Context) ([]vm.Image, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []vm.Image
	for _, i := range m.images {
		all = append(all, i)
	}
	slices.SortFunc(all, func(a, b vm.Image) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

func (m *memory) DeleteImage(ctx context.Context, name string) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	digest := m.images[name].Digest
	names := 0
	for _, i := range m.images {
		if i.Digest == digest {
			names++
		}
	}
	if names == 1 && m.vms[digest] {
		return false, errs.New(errs.Conflict, "in use")
	}
	delete(m.images, name)
	return names == 1, nil
}

func (m *memory) ImageDocuments(_ context.Context, name string) (*vm.ImageDocuments, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.images[name].Documents, nil
}

func (m *memory) DiskInUse(_ context.Context, digest string) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, i := range m.images {
		if i.Digest == digest {
			return true, nil
		}
	}
	return m.vms[digest], nil
}

// copyTar stands for diskimage.FromLayers: the disk is the tars.
func copyTar(_ context.Context, path string, layers ...io.Reader) (int64, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o400)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(f, io.MultiReader(layers...))
	return n, errors.Join(err, f.Close())
}

// builderOf streams text as the image name's tar.
func builderOf(name, text string) builder {
	return builder{Name: name, Source: "test", Build: func(_ context.Context, tmp string, p progress.Func, w io.Writer) error {
		p.Send(progress.Report{Detail: "stirring"})
		if err := os.WriteFile(filepath.Join(tmp, "scrap"), nil, 0o600); err != nil {
			return err
		}
		_, err := io.WriteString(w, text)
		return err
	}}
}

// emptyRegistry has no image.
type emptyRegistry struct{}

func (emptyRegistry) Resolve(_ context.Context, ref oci.Reference, _ oci.Platform) (*oci.Image, error) {
	return nil, errs.New(errs.NotFound, "%s has no image %s", ref.Registry(), ref.Familiar())
}

func start(t *testing.T, m *memory, change func(*Options)) *Service {
	t.Helper()
	root := t.TempDir()
	store, err := blobs.Open(filepath.Join(root, "blobs"), blobs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	o := Options{
		Dirs: paths.Dirs{State: root, Cache: root, Runtime: root}, Store: m, Log: slog.New(slog.DiscardHandler), FromLayers: copyTar,
		Registry: emptyRegistry{}, Blobs: store, Catalog: catalogOf(),
	}
	if change != nil {
		change(&o)
	}
	s, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// wantFiles checks which base disks there are, and that nothing is staged.
func wantFiles(t *testing.T, s *Service, digests ...string) {
	t.Helper()
	var want []string
	for _, d := range digests {
		want = append(want, s.disk(d))
	}
	got, err := filepath.Glob(filepath.Join(s.Dirs.Images(), "*.ext4"))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("disks %q, want %q", got, want)
	}
	staged, err := os.ReadDir(s.staging())
	if err != nil || len(staged) > 0 {
		t.Errorf("staged: %v, %v", staged, err)
	}
}

func digestOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256:" + hex.EncodeToString(sum[:])
}

func TestResolveBuildsOnce(t *testing.T) {
	m := newMemory()
	s := start(t, m, func(o *Options) { o.Catalog = catalogOf(builderOf("debian", "tar")) })
	var reports []progress.Report
	img, err := s.Resolve(t.Context(), "debian", func(r progress.Report) { reports = append(reports, r) })
	if err != nil {
		t.Fatal(err)
	}
	if img.Name != "debian" || img.Digest != digestOf("tar") || img.Path != s.disk(img.Digest) || img.Bytes != 3 || img.Source != "test" || img.CreatedAt.IsZero() {
		t.Errorf("image %+v", img)
	}
	if b, err := os.ReadFile(img.Path); string(b) != "tar" {
		t.Errorf("disk %q, %v", b, err)
	}
	if len(reports) < 3 || reports[0].Detail != "building debian: asking for test" || reports[1].Detail != "building debian" || reports[2] != (progress.Report{Phase: "image", Detail: "building debian: stirring"}) {
		t.Errorf("reports %+v", reports)
	}
	wantFiles(t, s, img.Digest)
	for _, ref := range []string{"debian", img.Digest, img.Digest[:20], strings.TrimPrefix(img.Digest, "sha256:")[:12]} {
		again, err := s.Resolve(t.Context(), ref, func(progress.Report) { t.Error("it is built again") })
		if err != nil || again != img {
			t.Errorf("%q: %+v, %v", ref, again, err)
		}
	}
	// A disk that somebody removed is built again.
	if err := os.Remove(img.Path); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), "debian"); errs.KindOf(err) != errs.NotFound {
		t.Errorf("Get without a disk: %v", err)
	}
	if _, err := s.Resolve(t.Context(), "debian", nil); err != nil {
		t.Error(err)
	}
	wantFiles(t, s, img.Digest)
}

func TestWaitersShareABuild(t *testing.T) {
	gate, builds := make(chan struct{}), 0
	s := start(t, newMemory(), func(o *Options) {
		o.Catalog = catalogOf(builder{Name: "debian", Build: func(_ context.Context, _ string, _ progress.Func, w io.Writer) error {
			builds++
			<-gate
			_, err := io.WriteString(w, "tar")
			return err
		}})
	})
	var wg sync.WaitGroup
	waiting := make(chan struct{}, 3)
	for range 3 {
		wg.Go(func() {
			once := sync.OnceFunc(func() { waiting <- struct{}{} })
			if _, err := s.Resolve(t.Context(), "debian", func(progress.Report) { once() }); err != nil {
				t.Error(err)
			}
		})
	}
	for range 3 {
		<-waiting
	}
	close(gate)
	wg.Wait()
	if builds != 1 {
		t.Errorf("%d builds", builds)
	}
}

func TestCancelledBuildLeavesNothing(t *testing.T) {
	m := newMemory()
	ctx, cancel := context.WithCancel(t.Context())
	s := start(t, m, func(o *Options) {
		o.Catalog = catalogOf(builder{Name: "debian", Build: func(ctx context.Context, _ string, _ progress.Func, w io.Writer) error {
			if _, err := io.WriteString(w, "half"); err != nil {
				return err
			}
			cancel()
			<-ctx.Done()
			return ctx.Err()
		}})
	})
	if _, err := s.Resolve(ctx, "debian", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	wantFiles(t, s)
	if len(m.images) > 0 {
		t.Errorf("records %v", m.images)
	}
}

func TestFailedBuilds(t *testing.T) {
	full := &os.PathError{Op: "write", Path: "disk", Err: syscall.ENOSPC}
	failing := func(err error) builder {
		return builder{Name: "debian", Build: func(_ context.Context, _ string, _ progress.Func, w io.Writer) error {
			if _, err := io.WriteString(w, "half"); err != nil {
				return err
			}
			return err
		}}
	}
	for name, c := range map[string]struct {
		change func(*Options, *memory)
		kind   errs.Kind
		want   string
	}{
		"the builder": {func(o *Options, _ *memory) {
			o.Catalog = catalogOf(failing(errs.New(errs.Unavailable, "no mirror")))
		}, errs.Unavailable, "no mirror"},
		"a full disk, said by the builder": {func(o *Options, _ *memory) { o.Catalog = catalogOf(failing(full)) }, errs.Unavailable, "is full"},
		"a full disk, met by the writer": {func(o *Options, _ *memory) {
			o.FromLayers = func(context.Context, string, ...io.Reader) (int64, error) { return 0, full }
		}, errs.Unavailable, "is full"},
		"a full disk, met by the store": {func(_ *Options, m *memory) { m.putErr = fullDatabaseError{} }, errs.Unavailable, "is full"},
		"the store":                     {func(_ *Options, m *memory) { m.putErr = errors.New("locked") }, errs.Internal, "locked"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMemory()
			s := start(t, m, func(o *Options) {
				o.Catalog = catalogOf(builderOf("debian", "tar"))
				c.change(o, m)
			})
			_, err := s.Resolve(t.Context(), "debian", nil)
			if errs.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
			if full := c.want == "is full"; full != (errs.HintOf(err) != "") {
				t.Errorf("hint %q", errs.HintOf(err))
			}
			wantFiles(t, s)
		})
	}
}

// fullDatabaseError is as SQLite's is where there is no room.
type fullDatabaseError struct{}

func (fullDatabaseError) Error() string { return "database or disk is full (13)" }
func (fullDatabaseError) Code() int     { return 13 }

func TestUnknownRefs(t *testing.T) {
	s := start(t, newMemory(), nil)
	for _, img := range []string{"one", "two"} {
		if _, err := s.Import(t.Context(), ImportOptions{Name: img}, strings.NewReader("same"), nil); err != nil {
			t.Fatal(err)
		}
	}
	for ref, kind := range map[string]errs.Kind{
		"nothing": errs.NotFound, "0123456789ab": errs.NotFound, "sha256:0123456789abcdef": errs.NotFound,
		"Upper": errs.Invalid, "": errs.Invalid, "../etc": errs.Invalid, "sha256:01": errs.Invalid, "a b": errs.Invalid,
		strings.Repeat("a", 300): errs.Invalid, digestOf("same"): errs.Invalid,
	} {
		for name, do := range map[string]func() error{
			"Resolve": func() error { _, err := s.Resolve(t.Context(), ref, nil); return err },
			"Get":     func() error { _, err := s.Get(t.Context(), ref); return err },
			"Delete":  func() error { _, _, err := s.Delete(t.Context(), ref); return err },
		} {
			if err := do(); errs.KindOf(err) != kind || errs.HintOf(err) == "" {
				t.Errorf("%s(%q): %v", name, ref, err)
			}
		}
	}
	if _, err := s.Import(t.Context(), ImportOptions{Name: "Upper"}, strings.NewReader(""), nil); errs.KindOf(err) != errs.Invalid {
		t.Errorf("Import: %v", err)
	}
}

func TestNamesAndDisks(t *testing.T) {
	m := newMemory()
	s := start(t, m, func(o *Options) { o.Catalog = catalogOf(builderOf("debian", "d")) })
	add := func(name, text string) {
		t.Helper()
		if _, err := s.Import(t.Context(), ImportOptions{Name: name, Source: "file"}, strings.NewReader(text), nil); err != nil {
			t.Fatal(err)
		}
	}
	add("a", "1")
	add("b", "1")
	add("c", "2")
	wantFiles(t, s, digestOf("1"), digestOf("2"))

	m.vms[digestOf("2")] = true
	add("c", "3") // the VM keeps the disk that the name has left
	wantFiles(t, s, digestOf("1"), digestOf("2"), digestOf("3"))
	add("c", "4")
	wantFiles(t, s, digestOf("1"), digestOf("2"), digestOf("4"))
	add("c", "4")
	wantFiles(t, s, digestOf("1"), digestOf("2"), digestOf("4"))

	list, err := s.List(t.Context())
	var names []string
	for _, i := range list {
		names = append(names, i.Name)
		if (i.Path == "") != (i.Name == "debian") {
			t.Errorf("listed: %+v", i)
		}
	}
	if err != nil || !slices.Equal(names, []string{"a", "b", "c", "debian"}) {
		t.Errorf("list %q, %v", names, err)
	}

	if img, freed, err := s.Delete(t.Context(), "a"); img.Name != "a" || freed != 0 || err != nil {
		t.Errorf("a: %v, %d, %v", img, freed, err)
	}
	if _, freed, err := s.Delete(t.Context(), digestOf("1")); freed != 1 || err != nil {
		t.Errorf("b by its digest: %d, %v", freed, err)
	}
	m.vms[digestOf("4")] = true
	if _, _, err := s.Delete(t.Context(), "c"); errs.KindOf(err) != errs.Conflict {
		t.Errorf("c, in use: %v", err)
	}
	wantFiles(t, s, digestOf("2"), digestOf("4"))
}

func TestNewSweeps(t *testing.T) {
	m := newMemory()
	s := start(t, m, nil)
	if _, err := s.Import(t.Context(), ImportOptions{Name: "kept"}, strings.NewReader("k"), nil); err != nil {
		t.Fatal(err)
	}
	m.vms[digestOf("vm")] = true
	for _, path := range []string{s.disk(digestOf("vm")), s.disk(digestOf("lost")), filepath.Join(s.Dirs.Images(), "notes")} {
		if err := os.WriteFile(path, nil, 0o400); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(s.staging(), "x", "tmp", "root"), 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := New(t.Context(), s.Options)
	if err != nil {
		t.Fatal(err)
	}
	wantFiles(t, s, digestOf("k"), digestOf("vm"))
	if _, err := os.Stat(filepath.Join(s.Dirs.Images(), "notes")); err != nil {
		t.Errorf("a file of somebody else: %v", err)
	}
}

func TestCloseEndsImports(t *testing.T) {
	s := start(t, newMemory(), nil)
	pr, pw := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		_, err := s.Import(t.Context(), ImportOptions{Name: "a"}, pr, nil)
		ended <- err
	}()
	if _, err := pw.Write(bytes.Repeat([]byte("x"), 1<<20)); err != nil {
		t.Fatal(err)
	}
	go func() { _ = pw.CloseWithError(errors.New("the client has gone")) }()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("an import ended well")
	}
	wantFiles(t, s)
	if _, err := s.Import(t.Context(), ImportOptions{Name: "a"}, strings.NewReader("x"), nil); err == nil {
		t.Error("an import after Close")
	}
}

func TestImportUnpacks(t *testing.T) {
	text := strings.Repeat("some text to pack ", 1<<15)
	pack := map[string]func() []byte{
		"plain": func() []byte { return []byte(text) },
		"empty": func() []byte { return nil },
		"gzip": func() []byte {
			var b bytes.Buffer
			w := gzip.NewWriter(&b)
			_, err := io.WriteString(w, text)
			if err := errors.Join(err, w.Close()); err != nil {
				t.Fatal(err)
			}
			return b.Bytes()
		},
		"zstd": func() []byte {
			w, err := zstd.NewWriter(nil)
			if err != nil {
				t.Fatal(err)
			}
			return w.EncodeAll([]byte(text), nil)
		},
		"xz": func() []byte {
			cmd := exec.Command(testneed.Tool(t, "xz", "xz-utils"), "-c")
			cmd.Stdin = strings.NewReader(text)
			b, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			return b
		},
	}
	for name, packed := range pack {
		t.Run(name, func(t *testing.T) {
			s := start(t, newMemory(), nil)
			want := text
			if name == "empty" {
				want = ""
			}
			b := packed()
			img, err := s.Import(t.Context(), ImportOptions{Name: "a"}, bytes.NewReader(b), nil)
			if err != nil || img.Digest != digestOf(want) {
				t.Fatalf("%v, %v", img.Digest, err)
			}
			if name == "plain" || name == "empty" {
				return
			}
			for what, bad := range map[string][]byte{"cut": b[:len(b)-9], "spoiled": append(slices.Clone(b[:len(b)/2]), bytes.Repeat([]byte{0x55}, 100)...)} {
				if _, err := s.Import(t.Context(), ImportOptions{Name: "b"}, bytes.NewReader(bad), nil); errs.KindOf(err) != errs.Invalid {
					t.Errorf("%s: %v", what, err)
				}
			}
			broken := errors.New("the line is dead")
			if _, err := s.Import(t.Context(), ImportOptions{Name: "b"}, io.MultiReader(bytes.NewReader(b[:len(b)/2]), errReader{broken}), nil); !errors.Is(err, broken) {
				t.Errorf("a broken source: %v", err)
			}
			s.FromLayers = func(context.Context, string, ...io.Reader) (int64, error) { return 0, syscall.ENOSPC }
			if _, err := s.Import(t.Context(), ImportOptions{Name: "b"}, bytes.NewReader(b), nil); !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("a full disk: %v", err)
			}
			wantFiles(t, s, img.Digest)
		})
	}
}

type errReader struct{ err error }

func (e errReader) Read([]byte) (int, error) { return 0, e.err }

func TestReportsAreRare(t *testing.T) {
	n := 0
	m := newMeter(func(progress.Report) { n++ }, "x")
	for range 10_000 {
		if _, err := m.Write([]byte("byte")); err != nil {
			t.Fatal(err)
		}
	}
	if n == 0 || n > 10 {
		t.Errorf("%d reports", n)
	}
}
