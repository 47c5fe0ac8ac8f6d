package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"banger/ext4"
)

// hostTree makes a tree with one of everything that an ordinary user can make.
func hostTree(t *testing.T, dir string) {
	t.Helper()
	when := time.Date(2001, 2, 3, 4, 5, 6, 789_000_000, time.UTC)
	must := func(errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(dir, "sub/deep"), 0o755),
		os.WriteFile(filepath.Join(dir, "file"), bytes.Repeat([]byte("0123456789"), 30_000), 0o640),
		os.WriteFile(filepath.Join(dir, "empty"), nil, 0o600),
		os.WriteFile(filepath.Join(dir, "sub/run"), []byte("#!"), 0o755),
		os.Chmod(filepath.Join(dir, "sub/run"), 0o755|os.ModeSetuid),
		os.Symlink("../file", filepath.Join(dir, "sub/link")), os.Symlink("/no/where", filepath.Join(dir, "dangling")),
		os.Link(filepath.Join(dir, "file"), filepath.Join(dir, "sub/hard")),
		syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o622))
	f, err := os.Create(filepath.Join(dir, "sparse"))
	must(err)
	_, err = f.WriteAt([]byte("end"), 8<<20)
	must(err, f.Truncate(9<<20), f.Close())
	_ = unix.Setxattr(filepath.Join(dir, "file"), "user.note", []byte("hi"), 0) // tmpfs may have none
	must(os.Chtimes(filepath.Join(dir, "file"), when, when), os.Chmod(filepath.Join(dir, "sub"), 0o2751|os.ModeSetgid), os.Chtimes(filepath.Join(dir, "sub"), when, when))
}

func TestDiskCpTreeThereAndBack(t *testing.T) {
	newHome(t)
	image := newImage(t, ext4.Options{Size: 32 << 20})
	hostTree(t, "tree")
	ok(t, "disk", "cp", "-r", "tree", image+":/new") // becomes /new
	ok(t, "disk", "cp", "-r", "tree", image+":/")    // becomes /tree
	ok(t, "disk", "mkdir", image, "/merged", "--mode", "700")
	ok(t, "disk", "cp", "-r", "tree/.", image+":/merged", "--uid", "1000", "--gid", "1001")
	sound(t, image)
	stat := map[string]fileJSON{}
	var all []fileJSON
	if err := json.Unmarshal([]byte(ok(t, "disk", "ls", "-R", "--json", image)), &all); err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		stat[f.Path] = f
	}
	uid := uint32(0)
	if os.Geteuid() == 0 {
		uid = uint32(os.Getuid())
	}
	for _, top := range []string{"/new", "/tree", "/merged"} {
		file, sparse, sub := stat[top+"/file"], stat[top+"/sparse"], stat[top+"/sub"]
		if file.Mode != "0640" || file.Size != 300_000 || file.Links != 2 || !file.Mtime.Equal(time.Date(2001, 2, 3, 4, 5, 6, 789_000_000, time.UTC)) || file.Inode != stat[top+"/sub/hard"].Inode {
			t.Errorf("%s/file: %+v", top, file)
		}
		if sparse.Size != 9<<20 || sparse.UsedBytes > 64<<10 {
			t.Errorf("%s/sparse: %+v", top, sparse)
		}
		if sub.Mode != "2751" || !sub.Mtime.Equal(file.Mtime) || stat[top+"/sub/run"].Mode != "4755" {
			t.Errorf("%s/sub: %+v, %+v", top, sub, stat[top+"/sub/run"])
		}
		if stat[top+"/sub/link"].Target != "../file" || stat[top+"/dangling"].Target != "/no/where" || stat[top+"/fifo"].Type != "fifo" {
			t.Errorf("%s: %+v, %+v, %+v", top, stat[top+"/sub/link"], stat[top+"/dangling"], stat[top+"/fifo"])
		}
		if want := map[bool]uint32{true: 1000, false: uid}[top == "/merged"]; file.UID != want || sub.UID != want {
			t.Errorf("%s belongs to %d and %d, want %d", top, file.UID, sub.UID, want)
		}
	}
	if stat["/merged"].Mode != "0700" {
		t.Errorf("a directory that existed has the mode %s", stat["/merged"].Mode)
	}
	ok(t, "disk", "cp", "-r", image+":/new", "back")
	ok(t, "disk", "cp", "-r", image+":/new", ".")
	sameTree(t, "tree", "back", true)
	sameTree(t, "tree", "new", true)
	ok(t, "disk", "cp", "-r", image+":/new/.", "back") // again, over what is there
	sameTree(t, "tree", "back", false)
}

// sameTree compares what both have.
func sameTree(t *testing.T, want, got string, dirTimes bool) {
	t.Helper()
	n := 0
	err := filepath.WalkDir(want, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		n++
		rel, _ := filepath.Rel(want, p)
		q := filepath.Join(got, rel)
		a, errA := os.Lstat(p)
		b, errB := os.Lstat(q)
		if err := errors.Join(errA, errB); err != nil {
			t.Error(err)
			return nil
		}
		mode := a.Mode()
		if os.Geteuid() != 0 {
			mode &^= os.ModeSetuid | os.ModeSetgid
		}
		if b.Mode() != mode || b.ModTime() != a.ModTime() && (dirTimes || !a.IsDir()) || !a.IsDir() && a.Size() != b.Size() {
			t.Errorf("%s: %v %v %d, want %v %v %d", q, b.Mode(), b.ModTime(), b.Size(), mode, a.ModTime(), a.Size())
		}
		if a.Mode().IsRegular() {
			x, _ := os.ReadFile(p)
			y, _ := os.ReadFile(q)
			if !bytes.Equal(x, y) {
				t.Errorf("%s: other contents", q)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	m := 0
	_ = filepath.WalkDir(got, func(string, os.DirEntry, error) error { m++; return nil })
	if n != m {
		t.Errorf("%s has %d files, %s %d", want, n, got, m)
	}
	x, errX := os.Stat(filepath.Join(got, "file"))
	y, errY := os.Stat(filepath.Join(got, "sub/hard"))
	if errX != nil || errY != nil || !os.SameFile(x, y) {
		t.Errorf("%s: the hard link is none", got)
	}
	value := make([]byte, 10)
	if k, err := unix.Getxattr(filepath.Join(want, "file"), "user.note", value); err == nil {
		had := string(value[:k])
		if k, err := unix.Getxattr(filepath.Join(got, "file"), "user.note", value); err != nil || string(value[:k]) != had {
			t.Errorf("%s: the attribute is %q, %v", got, value[:max(k, 0)], err)
		}
	}
}

// TestDiskCpNeverLeavesItsDestination: what an image holds, and what an earlier copy
// left, leads nowhere else.
func TestDiskCpNeverLeavesItsDestination(t *testing.T) {
	newHome(t)
	image := newImage(t, ext4.Options{})
	if err := errors.Join(os.MkdirAll("src/d", 0o755), os.WriteFile("src/d/f", []byte("evil"), 0o644), os.WriteFile("src/g", []byte("evil"), 0o644),
		os.MkdirAll("out/src", 0o755), os.Mkdir("outside", 0o755), os.WriteFile("outside/keep", []byte("good"), 0o644)); err != nil {
		t.Fatal(err)
	}
	ok(t, "disk", "cp", "-r", "src", image+":/src")
	// A link to a directory where the image has a directory: refused.
	if err := os.Symlink("../../outside", "out/src/d"); err != nil {
		t.Fatal(err)
	}
	if r := banger(t, "disk", "cp", "-r", image+":/src", "out"); r.code != 123 || !strings.Contains(r.errOut, "in the place of a directory") {
		t.Errorf("a link in the place of a directory: %+v", r)
	}
	if err := errors.Join(os.Remove("out/src/d"), os.RemoveAll("out/src/g"), os.Symlink("../../outside/keep", "out/src/g")); err != nil {
		t.Fatal(err)
	}
	// A link where the image has a file: replaced.
	ok(t, "disk", "cp", "-r", image+":/src", "out")
	if info, err := os.Lstat("out/src/g"); err != nil || !info.Mode().IsRegular() {
		t.Errorf("the link: %v, %v", info, err)
	}
	// The destination's own top.
	if err := errors.Join(os.RemoveAll("out"), os.Mkdir("out", 0o755), os.Symlink("../outside", "out/src")); err != nil {
		t.Fatal(err)
	}
	if r := banger(t, "disk", "cp", "-r", image+":/src", "out"); r.code != 123 {
		t.Errorf("a link at the top: %+v", r)
	}
	if b, err := os.ReadFile("outside/keep"); string(b) != "good" {
		t.Errorf("outside/keep holds %q, %v", b, err)
	}
	if list, err := os.ReadDir("outside"); err != nil || len(list) != 1 {
		t.Errorf("outside has %v, %v", list, err)
	}
	// Links of the image itself lead to places in the image.
	if err := os.Symlink("/../../src/g", "src/up"); err != nil {
		t.Fatal(err)
	}
	ok(t, "disk", "cp", "-r", "src/up", image+":/up")
	if out := ok(t, "disk", "cat", image, "/up"); out != "evil" {
		t.Errorf("through a link that leads up: %q", out)
	}
}

func TestDiskCpSmallThings(t *testing.T) {
	newHome(t)
	image := newImage(t, ext4.Options{})
	if err := errors.Join(os.WriteFile("f", []byte("one"), 0o604), os.Mkdir("dir", 0o755), os.Symlink("f", "link"), os.WriteFile("old", []byte("old"), 0o600)); err != nil {
		t.Fatal(err)
	}
	ok(t, "disk", "cp", "f", image+":/")     // into a directory
	ok(t, "disk", "cp", "link", image+":/l") // what it leads to
	ok(t, "disk", "cp", "f", image+":/m", "--mode", "600")
	ok(t, "disk", "cp", image+":/f", "dir")
	ok(t, "disk", "cp", image+":/m", "old")
	ok(t, "disk", "cp", image+":/m", "/dev/null")
	if out := ok(t, "disk", "cp", image+":/f", "-") + ok(t, "disk", "cat", image, "l"); out != "oneone" {
		t.Errorf("contents %q", out)
	}
	for name, mode := range map[string]os.FileMode{"dir/f": 0o604, "old": 0o600} {
		b, err := os.ReadFile(name)
		info, err2 := os.Stat(name)
		if err != nil || err2 != nil || string(b) != "one" || info.Mode() != mode {
			t.Errorf("%s: %q, %v, %v", name, b, info, errors.Join(err, err2))
		}
	}
	if info, err := os.Stat("/dev/null"); err != nil || info.Mode().IsRegular() {
		t.Fatalf("/dev/null: %v, %v", info, err)
	}
	if list, err := filepath.Glob(".banger-*"); err != nil || len(list) != 0 {
		t.Errorf("left: %v, %v", list, err)
	}
	// An interrupted copy changes nothing.
	input := silentInput{asked: make(chan struct{}, 1)}
	p := start(t, input, "disk", "cp", "-", image+":/f")
	select {
	case <-input.asked:
	case <-time.After(time.Minute):
		t.Fatal("the copy does not read its input")
	}
	if r := banger(t, "disk", "ls", image); r.code != 123 {
		t.Errorf("a disk that is being written: %+v", r)
	}
	p.signals <- syscall.SIGINT
	if r := p.wait(); r.code != 130 {
		t.Errorf("interrupted: %+v", r)
	}
	if out := ok(t, "disk", "cat", image, "f"); out != "one" {
		t.Errorf("after an interrupted copy: %q", out)
	}
	sound(t, image)
}

// silentInput is a terminal at which nobody types. It says that it was read.
type silentInput struct{ asked chan struct{} }

func (s silentInput) Read([]byte) (int, error) {
	s.asked <- struct{}{}
	select {}
}
