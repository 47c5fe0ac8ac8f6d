package layers_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"banger/internal/base/progress"
	"banger/internal/daemon/images"
	"banger/internal/oci"
	"banger/internal/vm"
)

// killJob is what a process that is killed is told: to end when it does At for the Times-th
// time; never, if that is 0.
type killJob struct {
	At    string
	Times int
	File  string
}

// steps ends the process, as kill -9 does, at one of its steps.
type steps struct {
	killJob
	mu   sync.Mutex
	done map[string]int
}

func (s *steps) step(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done[what]++; what == s.At && s.done[what] == s.Times {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

// change makes steps of all that the service does with the outside: before and after each
// change of records and files, at each report and line of the log, and at the reads between.
func (s *steps) change(o *images.Options) {
	o.Log = slog.New(stepLog{slog.DiscardHandler, s})
	o.Store = stepStore{o.Store, s}
	o.Registry = stepRegistry{o.Registry, s}
	make := o.FromLayers
	o.FromLayers = func(ctx context.Context, path string, layers ...io.Reader) (int64, error) {
		s.step("before the disk")
		read := []io.Reader{}
		for _, l := range layers {
			read = append(read, s.reading("a layer is read", l))
		}
		n, err := make(ctx, path, read...)
		s.step("the disk is made")
		return n, err
	}
	o.RemoveAll = func(_ context.Context, path string) error {
		s.step("before a folder goes")
		err := os.RemoveAll(path)
		s.step("a folder is gone")
		return err
	}
}

func (s *steps) reading(what string, r io.Reader) io.Reader { return stepReader{r, what, s} }

type stepReader struct {
	io.Reader
	what string
	s    *steps
}

func (r stepReader) Read(b []byte) (int, error) {
	r.s.step(r.what)
	return r.Reader.Read(b)
}

type stepLog struct {
	slog.Handler
	s *steps
}

func (l stepLog) Enabled(context.Context, slog.Level) bool { return true }
func (l stepLog) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l stepLog) Handle(_ context.Context, r slog.Record) error {
	l.s.step("log: " + r.Message)
	return nil
}

type stepStore struct {
	images.Store
	s *steps
}

func (d stepStore) PutImage(ctx context.Context, i vm.Image) error {
	d.s.step("before the record") // the disk is in its place
	err := d.Store.PutImage(ctx, i)
	d.s.step("the record is made") // the disk before is still there
	return err
}

func (d stepStore) Images(ctx context.Context) ([]vm.Image, error) {
	all, err := d.Store.Images(ctx)
	d.s.step("the records are read") // the disk is staged
	return all, err
}

func (d stepStore) DeleteImage(ctx context.Context, name string) (bool, error) {
	d.s.step("before a record goes")
	last, err := d.Store.DeleteImage(ctx, name)
	d.s.step("a record is gone") // its disk is not
	return last, err
}

func (d stepStore) DiskInUse(ctx context.Context, digest string) (bool, error) {
	used, err := d.Store.DiskInUse(ctx, digest)
	d.s.step("before a disk goes")
	return used, err
}

type stepRegistry struct {
	images.Registry
	s *steps
}

func (r stepRegistry) Resolve(ctx context.Context, ref oci.Reference, p oci.Platform) (*oci.Image, error) {
	r.s.step("before the registry is asked")
	i, err := r.Registry.Resolve(ctx, ref, p)
	if err != nil {
		return nil, err
	}
	for n := range i.Layers {
		open := i.Layers[n].Source
		i.Layers[n].Source = func(ctx context.Context, offset int64) (io.ReadCloser, int64, error) {
			r.s.step("before a download")
			body, from, err := open(ctx, offset)
			if err != nil {
				return nil, 0, err
			}
			return struct {
				io.Reader
				io.Closer
			}{r.s.reading("a download is read", body), body}, from, nil
		}
	}
	r.s.step("the registry has answered")
	return i, nil
}

// killWork pulls an image, imports another in its place, deletes it and prunes. It prints
// how often it has done each step, unless it is killed at one of them.
func killWork() error {
	st, ctx, ref := &steps{done: map[string]int{}}, context.Background(), os.Getenv(refVar)
	if err := json.Unmarshal([]byte(os.Getenv(argVar)), &st.killJob); err != nil {
		return err
	}
	s, end, err := openService(ctx, os.Getenv(dirVar), st.change)
	if err != nil {
		return err
	}
	report := func(r progress.Report) { st.step("report: " + r.Detail) }
	if _, err := s.Pull(ctx, ref, "", report); err != nil {
		return err
	}
	data, err := os.ReadFile(st.File)
	if err != nil {
		return err
	}
	if _, err := s.Import(ctx, images.ImportOptions{Name: ref}, st.reading("an archive is read", bytes.NewReader(data)), report); err != nil {
		return err
	}
	if _, _, err := s.Delete(ctx, ref); err != nil {
		return err
	}
	_, err = s.Prune(ctx, nil)
	return errors.Join(err, end(), json.NewEncoder(os.Stdout).Encode(st.done))
}

// twoImages are an image in a registry, another in an archive, and what their disks are, by
// digest.
type twoImages struct {
	ref, file string
	disks     map[string]string
	pulled    string // digests
	imported  string
}

func newTwoImages(t testing.TB, size int) *twoImages {
	t.Helper()
	base := archive(t, dir("d"), file("d/a", noise(size, 1)))
	im := &twoImages{
		ref:  serve(t, writeLayout(t, base, archive(t, file("d/b", noise(size, 2)), whiteout("d/a")))),
		file: filepath.Join(t.TempDir(), "archive.tar"), disks: map[string]string{},
	}
	data, err := io.ReadAll(tarOf(t, writeLayout(t, base, archive(t, file("d/c", noise(size, 3))))))
	must(t, errors.Join(err, os.WriteFile(im.file, data, 0o600)))
	s := newService(t)
	for into, make := range map[*string]func() (vm.Image, error){
		&im.pulled: func() (vm.Image, error) { return s.Pull(t.Context(), im.ref, "", nil) },
		&im.imported: func() (vm.Image, error) {
			return s.Import(t.Context(), images.ImportOptions{Name: "other"}, bytes.NewReader(data), nil)
		},
	} {
		img, err := make()
		must(t, err)
		*into, im.disks[img.Digest] = img.Digest, readFile(t, img.Path)
	}
	return im
}

// check says what is wrong in the folder of a service that has just been started, s, or of
// one that has been killed, where s is nil: a disk that is not whole in its place, a record
// without its disk, a file that nobody needs.
func (im *twoImages) check(root string, s *images.Service) error {
	owned := map[string]bool{}
	if s != nil {
		all, err := s.List(context.Background())
		if err != nil {
			return err
		}
		for _, i := range all {
			if owned[i.Path] = true; i.Path == "" {
				return fmt.Errorf("the image %s has no disk", i.Name)
			}
		}
	}
	return filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if rel, _ := filepath.Rel(root, path); s != nil && err == nil && strings.HasPrefix(rel, "images/staging/") {
				return fmt.Errorf("there still is %s", rel)
			}
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name := filepath.Base(rel)
		switch filepath.Dir(rel) {
		case ".":
			if strings.HasPrefix(rel, "db") {
				return nil
			}
		case "images":
			want, known := im.disks["sha256:"+strings.TrimSuffix(name, ".ext4")]
			if known && want != string(data) {
				return fmt.Errorf("the disk %s is another", rel)
			}
			if known && (s == nil || owned[path]) {
				return nil
			}
		case "blobs/sha256":
			if part := strings.HasSuffix(name, ".part"); part || oci.Digest(data) == "sha256:"+name {
				return nil
			}
		default:
			if s == nil { // the next start removes it
				return nil
			}
		}
		return fmt.Errorf("nobody needs %s", rel)
	})
}

// again brings both images, and looks at their disks.
func (im *twoImages) again(ctx context.Context, s *images.Service, root string) error {
	pulled, err := s.Pull(ctx, im.ref, "", nil)
	if err != nil || pulled.Digest != im.pulled {
		return fmt.Errorf("what is pulled is %s: %w", pulled.Digest, err)
	}
	if err := im.check(root, s); err != nil {
		return err
	}
	data, err := os.ReadFile(im.file)
	if err != nil {
		return err
	}
	imported, err := s.Import(ctx, images.ImportOptions{Name: im.ref}, bytes.NewReader(data), nil)
	if err != nil || imported.Digest != im.imported {
		return fmt.Errorf("what is imported is %s: %w", imported.Digest, err)
	}
	return im.check(root, s)
}

// TestKill kills a process at each step of a pull, an import, a deletion and a pruning. No
// image is there in part, the next start removes what is nobody's, and the same disks are
// made again.
func TestKill(t *testing.T) {
	im := newTwoImages(t, 60_000)
	out, err := child(t, "kill", t.TempDir(), im.ref, string(encode(t, killJob{File: im.file}))).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var steps map[string]int
	if err := json.Unmarshal(out, &steps); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var jobs []killJob
	for at, n := range steps {
		for times := range n {
			jobs = append(jobs, killJob{at, times + 1, im.file})
		}
	}
	var mu sync.Mutex
	places := map[string]int{}
	var wg sync.WaitGroup
	slots := make(chan struct{}, 4)
	for _, job := range jobs {
		root := filepath.Join(t.TempDir(), "state")
		must(t, os.Mkdir(root, 0o700))
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			out, err := child(t, "kill", root, im.ref, string(encode(t, job))).CombinedOutput()
			exit, ok := errors.AsType[*exec.ExitError](err)
			killed := ok && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL //nolint:forcetypeassert // Linux
			if err != nil && !killed {
				t.Errorf("%+v: %v\n%s", job, err, out)
				return
			}
			if killed { // how many reads there are varies a little
				mu.Lock()
				places[job.At]++
				mu.Unlock()
			}
			if err := im.afterKill(t.Context(), root); err != nil {
				t.Errorf("%+v: %v", job, err)
			}
		})
	}
	wg.Wait()
	for _, want := range []string{
		"before the registry is asked", "before a download", "a download is read", "before the disk", "a layer is read", "the disk is made",
		"the records are read", "before the record", "the record is made", "before a folder goes", "a folder is gone", "an archive is read",
		"before a record goes", "a record is gone", "before a disk goes", "log: a download is removed",
	} {
		if places[want] == 0 {
			t.Errorf("no process was killed at %q", want)
		}
	}
	t.Logf("%d steps: %v", len(jobs), places)
}

func (im *twoImages) afterKill(ctx context.Context, root string) (err error) {
	if err := im.check(root, nil); err != nil {
		return fmt.Errorf("before the next start: %w", err)
	}
	s, end, err := openService(ctx, root, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	if err := im.check(root, s); err != nil {
		return fmt.Errorf("after the next start: %w", err)
	}
	return im.again(ctx, s, root)
}
