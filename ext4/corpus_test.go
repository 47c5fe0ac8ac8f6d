package ext4

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"banger/internal/base/testneed"
)

// corpus returns a folder with the images of e2fsprogs' tests, a file each: made
// from Debian's source package, once, in .cache. The images are never part of this
// repository.
func corpus(t testing.TB) string {
	t.Helper()
	corpusOnce.Do(func() {
		root, err := os.Getwd()
		for ; err == nil; root = filepath.Dir(root) {
			if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
				break
			}
			if root == "/" {
				err = errors.New("there is no go.mod above")
			}
		}
		corpusDir = filepath.Join(root, ".cache", "e2fsprogs", "images")
		if _, err := os.Stat(corpusDir); err == nil {
			return
		}
		if !testneed.Required(testneed.Tools) {
			corpusErr = errors.New("the images of e2fsprogs are fetched only if BANGER_TEST_REQUIRE has \"tools\"")
			return
		}
		corpusErr = fetchCorpus(corpusDir)
	})
	if corpusErr != nil {
		testneed.Missing(t, testneed.Tools, "%v", corpusErr)
	}
	return corpusDir
}

var (
	corpusOnce sync.Once
	corpusDir  string
	corpusErr  error
)

// fetchCorpus has apt get the source package, with the host's mirror and keys but
// lists of its own, and unpacks its tests.
func fetchCorpus(dir string) error {
	uri, suite, err := debianMirror("/etc/apt")
	if err != nil {
		return err
	}
	apt := filepath.Join(filepath.Dir(dir), "apt")
	for _, d := range []string{"parts", "lists/partial", "cache/archives/partial", "source"} {
		if err := os.MkdirAll(filepath.Join(apt, d), 0o755); err != nil {
			return err
		}
	}
	source := fmt.Sprintf("Types: deb-src\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n", uri, suite)
	if err := os.WriteFile(filepath.Join(apt, "parts", "debian.sources"), []byte(source), 0o644); err != nil {
		return err
	}
	for _, args := range [][]string{{"update"}, {"source", "--download-only", "e2fsprogs"}} {
		c := exec.Command("apt-get", append([]string{"-q", "-o", "Dir::Etc::sourcelist=/dev/null", "-o", "Dir::Etc::sourceparts=" + apt + "/parts",
			"-o", "Dir::State::lists=" + apt + "/lists", "-o", "Dir::Cache=" + apt + "/cache", "-o", "APT::Sandbox::User=root"}, args...)...)
		c.Dir = filepath.Join(apt, "source")
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("apt-get %s: %w\n%s", args[0], err, out)
		}
	}
	found, err := filepath.Glob(filepath.Join(apt, "source", "e2fsprogs_*.orig.tar.gz"))
	if err != nil || len(found) == 0 {
		return fmt.Errorf("the source package has no e2fsprogs_*.orig.tar.gz: %w", err)
	}
	if err := unpackCorpus(found[0], dir+".new"); err != nil {
		return err
	}
	os.RemoveAll(apt)
	return os.Rename(dir+".new", dir)
}

// debianMirror reads where the host has its packages from.
func debianMirror(etc string) (uri, suite string, err error) {
	files, _ := filepath.Glob(filepath.Join(etc, "sources.list.d", "*"))
	field := func(text, name string) string {
		m := regexp.MustCompile(`(?m)^` + name + `:\s*(\S+)`).FindStringSubmatch(text)
		if m == nil {
			return ""
		}
		return m[1]
	}
	for _, path := range append(files, filepath.Join(etc, "sources.list")) {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		for stanza := range strings.SplitSeq(string(text), "\n\n") {
			uri, suite := field(stanza, "URIs"), field(stanza, "Suites")
			if m := regexp.MustCompile(`(?m)^deb (?:\[.*\] )?(\S+) (\S+) main`).FindStringSubmatch(stanza); m != nil {
				uri, suite = m[1], m[2]
			}
			if strings.HasSuffix(strings.TrimRight(uri, "/"), "/debian") && suite != "" {
				return uri, suite, nil
			}
		}
	}
	return "", "", errors.New("the host's apt names no Debian mirror")
}

// unpackCorpus makes a sparse file of each image. Programs do it, which -race does not
// slow down.
func unpackCorpus(archive, dir string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	programs := map[string]string{"gz": "gzip", "bz2": "bzip2"}
	r := tar.NewReader(z)
	for {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		m := regexp.MustCompile(`/tests/(\w+)/image\.(gz|bz2)$`).FindStringSubmatch(h.Name)
		if m == nil {
			continue
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		c := exec.Command("sh", "-c", `"$1" -dc | dd status=none bs=64k iflag=fullblock conv=sparse of="$2"`, "sh", programs[m[2]], filepath.Join(dir, m[1]))
		c.Stdin = r
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("cannot unpack %s: %w\n%s", h.Name, err, out)
		}
	}
}

// corpusImages calls f with the path and the bytes of each image.
func corpusImages(t *testing.T, pattern string, f func(t *testing.T, path string, image []byte)) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(corpus(t), pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("no images in %s: %v", corpus(t), err)
	}
	if pattern == "*" {
		files = sampled(t, files)
		t.Logf("%d images", len(files))
	}
	for _, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) {
			f(t, path, mapped(t, path))
		})
	}
}

// mapped maps a file, so that its holes cost nothing. Writing to the bytes changes
// nothing in the file.
func mapped(t testing.TB, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() == 0 {
		return nil
	}
	b, err := syscall.Mmap(int(f.Fd()), 0, int(info.Size()), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Munmap(b); err != nil {
			t.Error(err)
		}
	})
	return b
}

// usage is what reading all of an image came to.
type usage struct {
	open                error
	files, bad, skipped int
	err                 error // the first one
}

// readAll does everything that can be done to an image that is read.
func readAll(image []byte) (u usage) {
	im, err := Open(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		u.open = err
		return u
	}
	note := func(err error) {
		if err == nil {
			return
		}
		if u.bad++; u.err == nil {
			u.err = err
		}
	}
	im.Stats()
	fs.WalkDir(im, ".", func(name string, d fs.DirEntry, err error) error {
		u.files++
		if err != nil {
			note(err)
			return nil
		}
		info, err := d.Info()
		note(err)
		if err != nil {
			return nil
		}
		_, err = info.Sys().(*Stat).Xattrs()
		note(err)
		switch info.Mode().Type() {
		case 0:
			f, err := im.Open(name)
			if err == nil {
				_, err = io.CopyN(io.Discard, f.(io.Reader), 16<<20)
			}
			if err != io.EOF {
				note(err)
			}
			if info.Size() < 1<<20 {
				_, err = im.ReadFile(name)
				note(err)
			}
		case fs.ModeSymlink:
			_, err := im.ReadLink(name)
			note(err)
			if _, err = im.Stat(name); !errors.Is(err, fs.ErrNotExist) {
				note(err)
			}
		}
		return nil
	})
	note(im.ExportTree(io.Discard, ExportOptions{Skip: func(_ string, err error) error {
		u.skipped++
		return nil
	}}))
	return u
}

// damaged says whether an error is one of those that a damaged image may give.
func damaged(err error) bool {
	var feature *FeatureError
	return err == nil || errors.Is(err, ErrCorrupt) || errors.Is(err, ErrNotExt4) || errors.Is(err, fs.ErrNotExist) || errors.As(err, &feature) ||
		errors.Is(err, errLoop) || errors.Is(err, errNotDir) || errors.Is(err, errTooBig) || errors.Is(err, errTooLong) || errors.Is(err, errors.ErrUnsupported)
}

// checkUsage reads an image and holds that to limits: no panic, a second,
// and memory in proportion to the image.
func checkUsage(t testing.TB, image []byte) usage {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := testneed.CPUTime()
	u := readAll(image)
	took := testneed.CPUTime() - start
	runtime.ReadMemStats(&after)
	// Each file is some ten operations.
	if limit := time.Second + time.Duration(u.files)*20*time.Microsecond; took > limit && !raceEnabled {
		t.Errorf("reading took %v", took)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 512<<20+8*uint64(len(image)) {
		t.Errorf("reading allocated %d MiB for an image of %d", n>>20, len(image)>>20)
	}
	if !damaged(u.open) || !damaged(u.err) {
		t.Errorf("an error that does not say it is damage: %v, %v", u.open, u.err)
	}
	return u
}

// The images on which e2fsck is tested, almost all of them damaged.
func TestCorpusIsReadOrRefused(t *testing.T) {
	var whole, partly, refused int
	corpusImages(t, "*", func(t *testing.T, _ string, image []byte) {
		u := checkUsage(t, image)
		switch {
		case u.open != nil:
			refused++
		case u.bad > 0:
			partly++
		default:
			whole++
		}
		t.Logf("%d files, %d errors: %v; open: %v", u.files, u.bad, u.err, u.open)
	})
	t.Logf("%d read whole, %d with errors, %d refused", whole, partly, refused)
}

// A dirty journal is read over as e2fsck replays it, block for block.
func TestCorpusJournals(t *testing.T) {
	compared := 0
	corpusImages(t, "j_*", func(t *testing.T, from string, image []byte) {
		v, err := openVolume(bytes.NewReader(image), int64(len(image)))
		if err != nil {
			t.Skip("refused: ", err)
		}
		if v.journal == nil {
			t.Skip("there is nothing to replay")
		}
		path := filepath.Join(testneed.Memory(t), "image")
		testneed.Run(t, "cp", "--sparse=always", from, path)
		out, status := testneed.Status(t, "e2fsck", "-y", "-E", "journal_only", path)
		t.Logf("e2fsck: %d\n%s", status, out)
		compared++
		compareReplayed(t, v, mapped(t, path))
	})
	t.Logf("%d replayed", compared)
}

// compareReplayed compares all blocks but those that say whether there is something
// to replay.
func compareReplayed(t testing.TB, v *volume, replayed []byte) {
	t.Helper()
	except := map[uint64]bool{uint64(1024 / v.bs): true}
	i, _, err := v.inode(v.sb.JournalInum)
	if err != nil {
		t.Fatal(err)
	}
	m, err := v.fileMap(v.sb.JournalInum, &i)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range m.extents {
		for n := range e.Len {
			except[e.Physical+uint64(n)] = true
		}
	}
	bad := 0
	for n := range v.sb.Blocks() {
		if except[n] || int(n+1)*v.bs > len(replayed) {
			continue
		}
		b, err := v.block(n)
		if err != nil || !bytes.Equal(b, replayed[int(n)*v.bs:][:v.bs]) {
			if bad++; bad <= 10 {
				t.Errorf("block %d differs (%v)", n, err)
			}
		}
	}
}
