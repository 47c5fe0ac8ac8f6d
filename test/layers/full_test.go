package layers_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"banger/internal/base/errs"
	"banger/internal/base/testneed"
	"banger/internal/daemon/images"
)

// fullJob is what the process with the small file system is told.
type fullJob struct {
	Ref, File, Pulled, Imported string
	Disks                       map[string]string // where a copy of each is, by digest
}

// TestFullDisk pulls and imports on a file system that has a little more room each time,
// from none to enough.
func TestFullDisk(t *testing.T) {
	im := newTwoImages(t, 150_000)
	job := fullJob{im.ref, im.file, im.pulled, im.imported, map[string]string{}}
	for digest, data := range im.disks {
		path := filepath.Join(t.TempDir(), "disk")
		must(t, os.WriteFile(path, []byte(data), 0o600))
		job.Disks[digest] = path
	}
	cmd := child(t, "full", t.TempDir(), im.ref, string(encode(t, job)))
	out := testneed.InMountNamespace(t, cmd)
	t.Log(out)
	for _, stage := range []string{"pull: download", "pull: disk", "import: store a blob", "import: disk"} {
		if !strings.Contains(out, stage) {
			t.Errorf("nothing failed at %q", stage)
		}
	}
}

// fullWork runs in a mount namespace of its own, where it may mount a small file system.
func fullWork() error {
	var job fullJob
	if err := json.Unmarshal([]byte(os.Getenv(argVar)), &job); err != nil {
		return err
	}
	im := &twoImages{ref: job.Ref, file: job.File, pulled: job.Pulled, imported: job.Imported, disks: map[string]string{}}
	for digest, path := range job.Disks {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		im.disks[digest] = string(b)
	}
	root := os.Getenv(dirVar)
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, "size=8m"); err != nil {
		return os.NewSyscallError("mount", err)
	}
	ctx := context.Background()
	s, end, err := openService(ctx, root, nil)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(im.file)
	if err != nil {
		return err
	}
	for _, way := range []struct {
		name string
		do   func() error
	}{
		{"pull", func() error { _, err := s.Pull(ctx, im.ref, "", nil); return err }},
		{"import", func() error {
			_, err := s.Import(ctx, images.ImportOptions{Name: im.ref}, bytes.NewReader(data), nil)
			return err
		}},
	} {
		if err := im.fillUp(ctx, s, root, way.name, way.do); err != nil {
			return fmt.Errorf("%s: %w", way.name, err)
		}
	}
	return end()
}

// fillUp tries do with more and more room, until it has enough, and prints where it failed.
func (im *twoImages) fillUp(ctx context.Context, s *images.Service, root, name string, do func() error) error {
	const step = 48 << 10
	failed := 0
	for room := int64(0); ; room += step {
		if room > 4<<20 {
			return errors.New("it never has enough room")
		}
		if err := leave(root, room); err != nil {
			return err
		}
		err := do()
		if err == nil && failed < 5 {
			return fmt.Errorf("%d bytes are enough, and only %d trials failed", room, failed)
		}
		enough := err == nil
		if !enough {
			failed++
			stage, told := fullStage(root, err)
			if told != nil {
				return fmt.Errorf("with %d bytes: %w", room, told)
			}
			fmt.Printf("%s: %s, with %d KiB\n", name, stage, room>>10)
			// What the hint says can be done on a full disk.
			if _, err := s.Prune(ctx, nil); err != nil {
				return fmt.Errorf("pruning with %d bytes: %w", room, err)
			}
		}
		if err := os.Remove(filepath.Join(root, ballast)); err != nil {
			return err
		}
		if err := im.check(root, s); err != nil {
			return fmt.Errorf("after %d bytes: %w", room, err)
		}
		if all, err := s.List(ctx); err != nil || (len(all) == 0) == enough {
			return fmt.Errorf("after %d bytes there are %v, %w", room, all, err)
		}
		if err := im.again(ctx, s, root); err != nil {
			return fmt.Errorf("then, with room: %w", err)
		}
		if _, _, err := s.Delete(ctx, im.ref); err != nil {
			return err
		}
		if _, err := s.Prune(ctx, nil); err != nil || enough {
			return err
		}
	}
}

// fullStage says what a full file system has ended. told is what is wrong with how the
// error puts it.
func fullStage(root string, err error) (stage string, told error) {
	text := err.Error()
	for _, stage := range []string{"download", "store a blob"} {
		if strings.Contains(text, "cannot "+stage) {
			return stage, isFull(err, filepath.Join(root, "blobs"))
		}
	}
	return "disk", isFull(err, filepath.Join(root, "images"))
}

// isFull checks that an error names the file system that is full, and the way out.
func isFull(err error, dir string) error {
	if errs.KindOf(err) != errs.Unavailable || !strings.Contains(err.Error(), "the file system of "+dir) || !strings.Contains(err.Error(), "is full") ||
		!strings.Contains(errs.HintOf(err), "banger image prune") {
		return fmt.Errorf("got %v (%s, hint %q)", err, errs.KindOf(err), errs.HintOf(err)) //nolint:errorlint // it is only shown
	}
	return nil
}

const ballast = "ballast"

// leave fills a file system until so many bytes are free.
func leave(root string, room int64) error {
	f, err := os.Create(filepath.Join(root, ballast))
	if err != nil {
		return err
	}
	defer f.Close()
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil {
		return err
	}
	_, err = io.CopyN(f, zeros{}, max(0, int64(st.Bavail)*st.Bsize-room))
	return err
}
