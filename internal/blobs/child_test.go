package blobs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"banger/internal/base/errs"
	"banger/internal/base/testneed"
	"banger/internal/blobs"
)

// A test that needs a process of its own runs this binary again, with the work and
// its argument in these variables.
const (
	workVar = "BLOBS_TEST_WORK"
	dirVar  = "BLOBS_TEST_DIR"
	stepVar = "BLOBS_TEST_STEP"
)

func TestMain(m *testing.M) {
	works := map[string]func() error{"kill": killWork, "full": fullWork}
	work := works[os.Getenv(workVar)]
	if work == nil {
		os.Exit(m.Run())
	}
	if err := work(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func child(t *testing.T, work, dir string, step int) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	// The race detector waits a second at exit for reports of what still runs.
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", workVar+"="+work, dirVar+"="+dir, stepVar+"="+strconv.Itoa(step))
	return cmd
}

// What the killed process works on: an import that has to make room later, a
// download that is given up and goes on, one that is read, and another import.
var killed = [][]byte{random(100, 40_000), random(101, 100_000), random(102, 80_000), random(103, 60_000)}

const killCap = 250_000

// steps ends the process, as kill -9 does, at one of its steps: a line of the log,
// or a read of foreign bytes.
type steps struct {
	slog.Handler
	at, done int
}

func (s *steps) step() {
	if s.done++; s.done == s.at {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

func (s *steps) Enabled(context.Context, slog.Level) bool  { return true }
func (s *steps) Handle(context.Context, slog.Record) error { s.step(); return nil }
func (s *steps) WithAttrs([]slog.Attr) slog.Handler        { return s }

func (s *steps) reading(r io.Reader) io.Reader {
	return readerFunc(func(b []byte) (int, error) { s.step(); return r.Read(b) })
}

// source is one whose reads are steps; of the first answer only so many bytes come.
func (s *steps) source(data []byte, first int) blobs.Source {
	o := &origin{data: data, plan: []trouble{{after: first, hang: first < len(data), drip: 12_000}}}
	return func(ctx context.Context, offset int64) (io.ReadCloser, int64, error) {
		r, from, err := o.source(ctx, offset)
		return io.NopCloser(s.reading(r)), from, err
	}
}

// killWork prints how many steps it has, unless it is killed at one of them.
func killWork() error {
	at, err := strconv.Atoi(os.Getenv(stepVar))
	if err != nil {
		return err
	}
	st := &steps{Handler: slog.DiscardHandler, at: at}
	s, err := blobs.Open(os.Getenv(dirVar), blobs.Options{Max: killCap, Log: slog.New(st)})
	if err != nil {
		return err
	}
	ctx := context.Background()
	if _, err := s.Put(ctx, st.reading(bytes.NewReader(killed[0])), 1<<20); err != nil {
		return err
	}
	source := st.source(killed[1], 50_000)
	r, err := s.Open(ctx, describe(killed[1]), source, nil)
	if err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, r, 40_000); err != nil {
		return err
	}
	if err := errors.Join(r.Close(), s.Fetch(ctx, describe(killed[1]), source, nil)); err != nil {
		return err
	}
	if r, err = s.Open(ctx, describe(killed[2]), st.source(killed[2], len(killed[2])), nil); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	if _, err := s.Put(ctx, st.reading(bytes.NewReader(killed[3])), 1<<20); err != nil {
		return err
	}
	err = errors.Join(r.Close(), s.Close())
	fmt.Print(st.done)
	return err
}

// TestKill kills a process at each of its steps. What is left is a good blob, a
// partial that the next process goes on with, or nothing.
func TestKill(t *testing.T) {
	out, err := child(t, "kill", t.TempDir(), 0).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	n, err := strconv.Atoi(string(out))
	if err != nil || n < 20 {
		t.Fatalf("%q steps, %v", out, err)
	}
	// How many reads of the source come before it is given up varies a little.
	var kills, resumed atomic.Int32
	var wg sync.WaitGroup
	places := make(chan struct{}, 8) // they mostly wait for the disk
	for step := 1; step <= n; step++ {
		dir := filepath.Join(t.TempDir(), "blobs")
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			out, err := child(t, "kill", dir, step).CombinedOutput()
			exit, ok := errors.AsType[*exec.ExitError](err)
			switch {
			case ok && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL: //nolint:forcetypeassert // Linux
				kills.Add(1)
			case err != nil:
				t.Errorf("step %d: %v\n%s", step, err, out)
				return
			}
			if err := afterKill(t, dir, &resumed); err != nil {
				t.Errorf("step %d: %v", step, err)
			}
		})
	}
	wg.Wait()
	if kills.Load() < 20 || resumed.Load() < 10 {
		t.Errorf("%d of %d steps were reached, and %d times a partial was left", kills.Load(), n, resumed.Load())
	}
}

// afterKill looks at what is left, and brings all blobs with another store.
func afterKill(t *testing.T, dir string, resumed *atomic.Int32) error {
	parts := make([]int64, len(killed))
	for i, data := range killed {
		if got, err := os.ReadFile(blobFile(dir, describe(data))); err == nil && !bytes.Equal(got, data) {
			return fmt.Errorf("blob %d has %d wrong bytes", i, len(got))
		}
		if info, err := os.Stat(partFile(dir, describe(data))); err == nil {
			parts[i] = info.Size()
		}
	}
	s, err := blobs.Open(dir, blobs.Options{})
	if err != nil {
		return err
	}
	if spools, err := os.ReadDir(filepath.Join(dir, "spool")); err != nil || len(spools) != 0 {
		return fmt.Errorf("spools %v: %w", spools, err)
	}
	for i, data := range killed {
		there, o := s.Has(describe(data)), &origin{data: data}
		if got, err := readAll(t, s, describe(data), o.source); err != nil || !bytes.Equal(got, data) {
			return fmt.Errorf("blob %d: %d bytes, %w", i, len(got), err)
		}
		var want []int64
		if !there && parts[i] < int64(len(data)) {
			want = []int64{parts[i]}
		}
		if !slices.Equal(o.asked(), want) {
			return fmt.Errorf("blob %d is there: %t; its partial had %d bytes, and the source was asked for %v", i, there, parts[i], o.asked())
		}
		if !there && parts[i] > 0 {
			resumed.Add(1)
		}
	}
	if u, err := s.Usage(); u.Blobs != len(killed) || u.Partials != 0 || err != nil {
		return fmt.Errorf("%+v, %w", u, err)
	}
	return s.Close()
}

// fullWork runs in a mount namespace of its own, where it may mount a small file
// system, and returns nil if all is as it should be.
func fullWork() error {
	dir := os.Getenv(dirVar)
	mount := func(size string, flags uintptr) error {
		return os.NewSyscallError("mount", unix.Mount("tmpfs", dir, "tmpfs", flags, "size="+size))
	}
	if err := mount("512k", 0); err != nil {
		return err
	}
	plenty := func(string) (int64, error) { return 1 << 40, nil }
	s, err := blobs.Open(dir, blobs.Options{FreeSpace: plenty})
	if err != nil {
		return err
	}
	data := random(110, 2_000_000)
	ctx := context.Background()
	isFull := func(what string, err error) error {
		if errs.KindOf(err) != errs.Unavailable || !errors.Is(err, syscall.ENOSPC) || !strings.Contains(errs.HintOf(err), dir) {
			return fmt.Errorf("%s on a full disk: %v (%s, hint %q)", what, err, errs.KindOf(err), errs.HintOf(err)) //nolint:errorlint // it is only shown
		}
		return nil
	}
	if _, err := s.Put(ctx, bytes.NewReader(data), 1<<30); isFull("Put", err) != nil {
		return isFull("Put", err)
	}
	if u, err := s.Usage(); u != (blobs.Usage{}) || err != nil {
		return fmt.Errorf("Put has left %+v, %v", u, err)
	}
	o := &origin{data: data}
	r, err := s.Open(ctx, describe(data), o.source, nil)
	if err != nil {
		return err
	}
	n, err := io.Copy(io.Discard, r)
	if isFull("a download", err) != nil || n > 512<<10 {
		return fmt.Errorf("%d bytes, %w", n, isFull("a download", err))
	}
	info, err := os.Stat(partFile(dir, describe(data)))
	if err := errors.Join(err, r.Close(), mount("8m", unix.MS_REMOUNT)); err != nil {
		return err
	}
	if err := s.Fetch(ctx, describe(data), o.source, nil); err != nil {
		return err
	}
	if asked := o.asked(); !slices.Equal(asked, []int64{0, info.Size()}) || info.Size() < 256<<10 {
		return fmt.Errorf("asked for %v, with %d bytes there", asked, info.Size())
	}
	got, err := os.ReadFile(blobFile(dir, describe(data)))
	if err != nil || !bytes.Equal(got, data) {
		return fmt.Errorf("the blob has %d bytes, %w", len(got), err)
	}
	return s.Close()
}

func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	testneed.InMountNamespace(t, child(t, "full", dir, 0))
}
