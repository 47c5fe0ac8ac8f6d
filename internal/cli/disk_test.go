package cli

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	bangerv1 "banger/api/banger/v1"
	"banger/ext4"
	"banger/internal/base/disklock"
	"banger/internal/base/testneed"
)

// newImage makes an empty image file and goes to its folder.
func newImage(t *testing.T, o ext4.Options) string {
	t.Helper()
	t.Chdir(t.TempDir())
	makeImage(t, "i.img", o)
	return "i.img"
}

func makeImage(t *testing.T, name string, o ext4.Options) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if o.Size == 0 {
		o.Size = 16 << 20
	}
	if err := errors.Join(ext4.Format(f, &o), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// sound fails the test unless e2fsck has nothing to say.
func sound(t *testing.T, image string) {
	t.Helper()
	if out, err := exec.Command(testneed.Tool(t, "e2fsck", "e2fsprogs"), "-fn", image).CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}
}

// ok runs a command that must succeed, and returns its output.
func ok(t *testing.T, args ...string) string {
	t.Helper()
	r := banger(t, args...)
	if r.code != 0 {
		t.Fatalf("banger %q: %+v", args, r)
	}
	return r.out
}

func TestDiskCommandsOnAnImageFile(t *testing.T) {
	home := newHome(t)
	image := newImage(t, ext4.Options{Label: "test"})
	ok(t, "disk", "mkdir", image, "a/b", "--parents", "--uid", "1000", "--gid", "70000", "--mode", "1750")
	ok(t, "disk", "mkdir", image+":/a/b", "--uid", "7") // keeps the rest
	if r := start(t, strings.NewReader("hello\n"), "disk", "cp", "-", image+":/a/b/x", "--mode", "4711", "--uid", "5").wait(); r.code != 0 {
		t.Fatalf("cp -: %+v", r)
	}
	if out := ok(t, "disk", "cat", image, "a/b/x") + ok(t, "disk", "cat", image+":a/b/x", image+":/a/../a/b/x"); out != "hello\nhello\nhello\n" {
		t.Errorf("cat: %q", out)
	}
	if r := start(t, strings.NewReader("new"), "disk", "cp", "-", image+":/a/b/x").wait(); r.code != 0 {
		t.Fatalf("cp - over a file: %+v", r)
	}
	var files []fileJSON
	if err := json.Unmarshal([]byte(ok(t, "disk", "stat", "--json", image, "/a", "/a/b", "/a/b/x")), &files); err != nil || len(files) != 3 {
		t.Fatal(err, files)
	}
	for i, want := range []fileJSON{
		{Path: "/a", Type: "directory", Mode: "1750", UID: 1000, GID: 70000},
		{Path: "/a/b", Type: "directory", Mode: "1750", UID: 7, GID: 70000},
		{Path: "/a/b/x", Type: "file", Mode: "4711", UID: 5, GID: 0},
	} {
		got := files[i]
		if got.Path != want.Path || got.Type != want.Type || got.Mode != want.Mode || got.UID != want.UID || got.GID != want.GID {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	ok(t, "disk", "chmod", image, "/", "0700")
	ok(t, "disk", "chown", image+":a", image+":a/b", "1:2")
	ok(t, "disk", "chown", image, "a/b/x", ":9")
	ok(t, "disk", "chown", "--uid", "8", image, "a/b/x")
	out := ok(t, "disk", "ls", "-lR", image)
	for _, want := range []string{"dtrwxr-x--- 1750   3      1      2", "/a/b\n", "urwx--x--x 4711   1      8      9            3", "/a/b/x\n", "/lost+found\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("ls -lR has no %q:\n%s", want, out)
		}
	}
	if out := ok(t, "disk", "stat", image, "/"); !strings.Contains(out, "mode:      0700") || !strings.Contains(out, "directory") {
		t.Errorf("the root:\n%s", out)
	}
	if out := ok(t, "disk", "ls", image); out != "a\nlost+found\n" {
		t.Errorf("ls: %q", out)
	}
	ok(t, "disk", "rm", "-r", image, "a", "lost+found")
	ok(t, "disk", "rm", "-f", image, "a")
	if out := ok(t, "disk", "ls", "--json", image); out != "[]\n" {
		t.Errorf("ls of nothing: %q", out)
	}
	ok(t, "disk", "grow", image, "64MiB")
	if info, err := os.Stat(image); err != nil || info.Size() != 64<<20 {
		t.Errorf("grow: %v, %v", info, err)
	}
	if out := ok(t, "disk", "stat", image); !strings.Contains(out, "label:       test") || !strings.Contains(out, "state:       clean") {
		t.Errorf("stat of the file system:\n%s", out)
	}
	if out := ok(t, "disk", "check", image); !strings.Contains(out, "no damage") {
		t.Errorf("check: %q", out)
	}
	sound(t, image)
	if _, err := os.Stat(home.DaemonLog()); err == nil {
		t.Error("a daemon was started")
	}
}

func TestDiskNamesOfAnyBytes(t *testing.T) {
	newHome(t)
	image := newImage(t, ext4.Options{})
	for _, name := range []string{"with space", `quote"s'and\`, "new\nline", "-dash", "col:on", "caf\xe9", "ünï"} {
		if r := start(t, strings.NewReader(name), "disk", "cp", "--", "-", image+":/"+name).wait(); r.code != 0 {
			t.Fatalf("%q: %+v", name, r)
		}
		if out := ok(t, "disk", "cat", "--", image, name); out != name {
			t.Errorf("%q holds %q", name, out)
		}
		ok(t, "disk", "cp", "--", image+":"+name, "./out")
		if b, err := os.ReadFile("out"); string(b) != name {
			t.Errorf("%q was copied as %q, %v", name, b, err)
		}
	}
	if out := ok(t, "disk", "ls", "--json", image); !strings.Contains(out, `"path_base64": "L2NhZuk="`) || !strings.Contains(out, `"path": "/new\nline"`) {
		t.Errorf("ls --json: %s", out)
	}
	sound(t, image)
}

func TestDiskGrammar(t *testing.T) {
	d := startFake(t)
	d.add("dev", bangerv1.State_STATE_STOPPED)
	newImage(t, ext4.Options{})
	for _, name := range []string{"a:b", "dev:work", "plain"} {
		makeImage(t, name, ext4.Options{Label: name})
	}
	makeImage(t, d.disk("work"), ext4.Options{Label: "vm"})
	makeImage(t, d.disk("system"), ext4.Options{Label: "vm"})
	for arg, label := range map[string]string{
		"a:b": "a:b", "dev:work": "dev:work", "./dev:work": "dev:work", "plain": "plain", "dev:system": "vm",
	} {
		if out := ok(t, "disk", "stat", arg); !strings.Contains(out, label) {
			t.Errorf("%s is not %s:\n%s", arg, label, out)
		}
	}
	for arg, want := range map[string]string{
		"a:b:/x": "a:b", "plain:x:y": "plain", "dev:system:/x": "dev:system", "dev:work:x": "dev:work",
	} {
		ref, inside, joined, found := splitDisk(arg)
		if !found || !joined || ref.String() != want || inside != strings.TrimPrefix(arg, want+":") {
			t.Errorf("%s is %q and %q", arg, ref, inside)
		}
	}
	if err := os.Remove("dev:work"); err != nil {
		t.Fatal(err)
	}
	if ref, inside, joined, found := splitDisk("dev:work:/a:b"); !found || !joined || ref.vm != "dev" || ref.name != "work" || inside != "/a:b" {
		t.Errorf("dev:work:/a:b is %+v and %q", ref, inside)
	}
}

func TestDiskRefusals(t *testing.T) {
	d := startFake(t)
	d.add("dev", bangerv1.State_STATE_STOPPED)
	d.add("up", bangerv1.State_STATE_RUNNING)
	image := newImage(t, ext4.Options{})
	makeImage(t, "bare.img", ext4.Options{Size: 2 << 20}) // no journal
	if err := errors.Join(os.WriteFile("junk", make([]byte, 8192), 0o600), os.WriteFile("host", []byte("x"), 0o600), os.Mkdir("dir", 0o700)); err != nil {
		t.Fatal(err)
	}
	ok(t, "disk", "mkdir", image, "/d/e", "-p")
	before, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		code int
		text string // then, behind a bar, the hint
	}{
		{"disk ls none.img", 122, `no image file "none.img"|VM:work`},
		{"disk ls dir", 121, "a directory|VM:work"},
		{"disk ls dev:root", 122, `no disk "root"|VM:work`},
		{"disk ls junk", 121, "junk|ext4"},
		{"disk ls none:work", 122, `no VM "none"|vm list`},
		{"disk ls up:work", 123, "is running|banger vm stop up"},
		{"disk mkdir dev:base /x", 123, "read-only|dev:system"},
		{"disk cat i.img", 121, "path on the disk|--help"},
		{"disk cat i.img /none", 122, "none: file does not exist|disk ls"},
		{"disk cat i.img /d", 121, "is a directory|export"},
		{"disk cat i.img:/d bare.img:/x", 121, "not a path on the disk|i.img:PATH"},
		{"disk mkdir i.img /n/m", 122, "/n/m|--parents i.img /n/m"},
		{"disk mkdir i.img /x --mode 9", 121, `"9"|0755`},
		{"disk mkdir i.img /x --uid root", 121, `"root"|number`},
		{"disk mkdir bare.img /x", 123, "no journal|--without-journal"},
		{"disk rm i.img /d", 121, "is a directory|-r"},
		{"disk rm -r i.img /", 121, "root|"},
		{"disk rm i.img /none", 122, "none|"},
		{"disk chown i.img /d root", 121, `"root" is not the number|number`},
		{"disk chown i.img /d 4294967295", 121, "larger|"},
		{"disk chown i.img", 121, "owner is missing|--help"},
		{"disk chmod i.img /d u+x", 121, "octal|0755"},
		{"disk chmod i.img /d 17777", 121, "octal|0755"},
		{"disk chmod i.img 644", 121, "path on the disk|--help"},
		{"disk grow i.img 4X", 121, "4X|4GiB"},
		{"disk grow i.img 1MiB", 121, "larger already|"},
		{"disk grow i.img:/d 1GiB", 121, "whole disk|i.img"},
		{"disk cp host dir", 121, "neither|--help"},
		{"disk cp i.img:/d bare.img:/x", 121, "disk to disk| - "},
		{"disk cp dir i.img:/x", 121, "is a directory|-r"},
		{"disk cp i.img:/d dir", 121, "is a directory|-r"},
		{"disk cp none i.img:/x", 122, "none|"},
		{"disk cp host i.img:/none/x", 122, "/none/x|--parents i.img /none"},
		{"disk cp host i.img:/none/", 122, "/none|--parents i.img /none"},
		{"disk cp host dev:work", 121, "path on it is missing|dev:work:/"},
		{"disk cp - i.img:/d", 121, "no name|i.img:/d/NAME"},
		{"disk cp i.img:/none dir", 122, "none|"},
		{"disk cp -r --mode 600 dir i.img:/x", 121, "--mode|"},
		{"disk cp -r dir i.img:/d/e/../../d/e/f/g", 122, "/d/e/f/g|"},
		{"disk export i.img /none", 122, "none|"},
		{"disk export i.img /d /e", 121, "arg|"},
	} {
		text, hint, _ := strings.Cut(c.text, "|")
		r := start(t, strings.NewReader("x"), strings.Fields(c.args)...).wait()
		if r.code != c.code || !strings.Contains(r.errOut, text) || !strings.HasPrefix(r.errOut, "banger: ") || r.out != "" {
			t.Errorf("banger %s: exit %d, stdout %q, stderr %q; want %d, %q", c.args, r.code, r.out, r.errOut, c.code, text)
		}
		if _, try, _ := strings.Cut(r.errOut, "\n  try: "); hint != "" && !strings.Contains(try, hint) {
			t.Errorf("banger %s: hint %q, want %q", c.args, try, hint)
		}
	}
	after, err := os.ReadFile(image)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("a command that was refused changed the image: %v", err)
	}
	ok(t, "disk", "mkdir", "--without-journal", "bare.img", "/x")
	sound(t, "bare.img")
}

// TestDiskEditIsOneTransaction: a command that fails at its last path changes nothing.
func TestDiskEditIsOneTransaction(t *testing.T) {
	newHome(t)
	image := newImage(t, ext4.Options{})
	ok(t, "disk", "mkdir", image, "/a", "/b")
	if r := banger(t, "disk", "rm", "-r", image, "/a", "/b", "/none"); r.code != 122 {
		t.Errorf("rm: %+v", r)
	}
	if out := ok(t, "disk", "ls", image); out != "a\nb\nlost+found\n" {
		t.Errorf("after a failure: %q", out)
	}
}

func TestDiskLocks(t *testing.T) {
	d := startFake(t)
	d.add("dev", bangerv1.State_STATE_STOPPED)
	image := newImage(t, ext4.Options{})
	for _, disk := range []string{"work", "system", "base"} {
		makeImage(t, d.disk(disk), ext4.Options{})
	}
	ok(t, "disk", "mkdir", "dev:work", "/x")
	if out := ok(t, "disk", "ls", "dev:work:/") + ok(t, "disk", "ls", "dev:base"); out != "lost+found\nx\nlost+found\n" {
		t.Errorf("ls: %q", out)
	}
	// A VM that has just started.
	lock, err := disklock.Take(filepath.Join(d.dir, "lock"), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"disk", "ls", "dev:work"}, {"disk", "mkdir", "dev:system", "/y"}} {
		if r := banger(t, args...); r.code != 123 || !strings.Contains(r.errOut, "another process uses the VM's disks") {
			t.Errorf("%q: %+v", args, r)
		}
	}
	ok(t, "disk", "ls", "dev:base")
	_ = lock.Close()
	// While an edit waits for its input, others find the disk in use.
	in, w := io.Pipe()
	p := start(t, in, "disk", "cp", "-", image+":/slow")
	q := start(t, in, "disk", "cp", "-", "dev:work:/slow")
	if _, err := w.Write([]byte("12345")); err != nil {
		t.Fatal(err)
	}
	until(t, "the VM's lock is held", func() bool {
		held, who, _ := disklock.Holder(filepath.Join(d.dir, "lock"))
		return held && strings.HasPrefix(who, "banger disk cp (process ")
	})
	until(t, "the image's lock is held", func() bool { return banger(t, "disk", "ls", image).code == 123 })
	if r := banger(t, "disk", "mkdir", image, "/z"); r.code != 123 || !strings.Contains(r.errOut, "in use\n  try: wait") {
		t.Errorf("an edit beside an edit: %+v", r)
	}
	if r := banger(t, "disk", "ls", "dev:work"); r.code != 123 || !strings.Contains(r.errOut, "banger disk cp (process ") {
		t.Errorf("a read beside an edit of a VM's disk: %+v", r)
	}
	_ = w.Close()
	if r, s := p.wait(), q.wait(); r.code != 0 || s.code != 0 {
		t.Errorf("the edits: %+v, %+v", r, s)
	}
	sound(t, image)
	sound(t, d.disk("work"))
}

func TestDiskCheckFindsDamage(t *testing.T) {
	newHome(t)
	image := newImage(t, ext4.Options{})
	ok(t, "disk", "mkdir", image, "/a/b", "-p")
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	im, err := ext4.Open(f, 16<<20)
	if err != nil {
		t.Fatal(err)
	}
	free := im.Stats().FreeBlocks
	if out := ok(t, "disk", "check", "--json", image); !strings.Contains(out, `"clean": true`) || !strings.Contains(out, `"problems": []`) {
		t.Errorf("check --json: %s", out)
	}
	// The count of free blocks in the superblock, whose checksum is wrong then too.
	if _, err := f.WriteAt([]byte{byte(free + 1)}, 1024+0x0c); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	r := banger(t, "disk", "check", image)
	if r.code != 1 || !strings.Contains(r.out, "superblock") || !strings.Contains(r.out, "problems") {
		t.Errorf("check: %+v", r)
	}
	if r := banger(t, "disk", "check", "--json", image); r.code != 1 || !strings.Contains(r.out, `"clean": false`) {
		t.Errorf("check --json: %+v", r)
	}
	if r := banger(t, "disk", "ls", image); r.code != 123 || !strings.Contains(r.errOut, "try: banger disk check i.img") {
		t.Errorf("ls of a damaged image: %+v", r)
	}
}

func TestDiskExport(t *testing.T) {
	newHome(t)
	image := newImage(t, ext4.Options{})
	ok(t, "disk", "mkdir", image, "/a/b", "-p", "--uid", "3")
	if r := start(t, strings.NewReader("data"), "disk", "cp", "-", image+":/a/f").wait(); r.code != 0 {
		t.Fatal(r)
	}
	var names []string
	for r := tar.NewReader(strings.NewReader(ok(t, "disk", "export", image+":/a"))); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
	if got := strings.Join(names, " "); got != "./ b/ f" && got != "./ ./b/ ./f" {
		t.Errorf("members %q", got)
	}
}

func TestDiskCompletion(t *testing.T) {
	d := startFake(t)
	d.add("dev", bangerv1.State_STATE_STOPPED)
	d.add("up", bangerv1.State_STATE_RUNNING)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"disk", "ls", ""}, "dev:work:\ndev:system:\ndev:base:\n:2\n"},
		{[]string{"disk", "ls", "dev:w"}, "dev:work:\n:2\n"},
		{[]string{"disk", "ls", "./im"}, ":0\n"},
		{[]string{"disk", "cp", "x", "de"}, "dev:work:\ndev:system:\ndev:base:\n:2\n"},
		{[]string{"disk", "cat", "dev:work", ""}, ":4\n"},
	} {
		if r := banger(t, append([]string{"__complete"}, c.args...)...); r.out != c.want {
			t.Errorf("%q: %q, want %q", c.args, r.out, c.want)
		}
	}
	if r := banger(t, "__complete", "disk", "ch"); !strings.Contains(r.out, "chmod\t") || !strings.Contains(r.out, "check\t") || !strings.Contains(r.out, "chown\t") {
		t.Errorf("verbs: %q", r.out)
	}
}
