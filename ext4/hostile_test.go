package ext4

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/base/testneed"
)

// crafted makes an image by commands of debugfs.
func crafted(t testing.TB, commands string, options ...string) []byte {
	t.Helper()
	path := newImage(t, "2M", append([]string{"-t", "ext4", "-b", "1024", "-O", "^has_journal,^resize_inode"}, options...)...)
	out := testneed.Debugfs(t, path, commands)
	for line := range strings.SplitSeq(out, "\n") {
		if line != "" && !strings.HasPrefix(line, "debugfs") && !strings.HasPrefix(line, "Allocated inode") {
			t.Log("debugfs: ", line)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func openBytes(t testing.TB, image []byte) *Image {
	t.Helper()
	im, err := Open(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	return im
}

// Directories that are their own ancestors, or have two names, end no walk in a
// circle and are told as damage; what is around them is read.
func TestDirectoriesInCircles(t *testing.T) {
	for name, commands := range map[string]string{
		"root below":    "mkdir a\nmkdir a/b\nlink / a/b/c\nmkdir z\n",
		"root in root":  "mkdir a\nlink / loop\nmkdir z\n",
		"own ancestor":  "mkdir a\nmkdir a/b\nlink a a/b/c\nmkdir z\n",
		"itself":        "mkdir a\nlink a a/a\nmkdir z\n",
		"two parents":   "mkdir a\nmkdir b\nmkdir a/c\nlink a/c b/c\nmkdir z\n",
		"two names":     "mkdir a\nmkdir a/x\nlink a/x a/y\nmkdir a/x/x\nlink a/x/x a/x/y\nmkdir a/x/x/x\nlink a/x/x/x a/x/x/y\nmkdir z\n",
		"wrong parent":  "mkdir a\nmkdir a/b\nmkdir a/b/c\nunlink a/b/..\nlink / a/b/..\nmkdir z\n",
		"no parent":     "mkdir a\nmkdir a/b\nunlink a/b/..\nmkdir z\n",
		"freed":         "mkdir a\nmkdir a/b\nclri a/b\nmkdir z\n",
		"not a folder":  "mkdir a\nmkdir a/b\nsif a/b mode 0100644\nmkdir z\n",
		"unknown type":  "mkdir a\nmkdir a/b\nsif a/b mode 0170644\nmkdir z\n",
		"huge folder":   "mkdir a\nmkdir a/b\nsif a/b size 0xfffffffffffffc00\nmkdir z\n",
		"many holes":    "mkdir a\nmkdir a/b\nsif a/b size 0x7ffffc00\nmkdir z\n",
		"encrypted":     "mkdir a\nmkdir a/b\nsif a/b flags 0x80800\nmkdir z\n",
		"ancestor dirs": "mkdir a\nmkdir a/b\nmkdir a/b/c\nlink a/b a/b/c/d\nlink a a/b/c/e\nmkdir z\n",
	} {
		t.Run(name, func(t *testing.T) {
			image := crafted(t, commands)
			im := openBytes(t, image)
			seen, bad := map[string]bool{}, 0
			err := fs.WalkDir(im, ".", func(name string, d fs.DirEntry, err error) error {
				seen[name] = true
				if len(seen) > 50 {
					return errors.New("it does not end")
				}
				if err == nil {
					_, err = d.Info()
				}
				if err != nil {
					bad++
					if !damaged(err) {
						t.Errorf("%s: %v", name, err)
					}
				}
				return nil
			})
			if err != nil || bad == 0 || !seen["a"] || !seen["z"] || !seen["lost+found"] {
				t.Errorf("%v, %d errors, saw %v", err, bad, seen)
			}
			if name == "not a folder" {
				return // a file to all who do not ask the entry
			}
			if err := im.ExportTar(io.Discard); !damaged(err) || err == nil {
				t.Errorf("export: %v", err)
			}
			var b bytes.Buffer
			skipped := 0
			if err := im.ExportTree(&b, ExportOptions{Skip: func(name string, err error) error { skipped++; return nil }}); err != nil || skipped == 0 {
				t.Errorf("export: %v, %d skipped", err, skipped)
			}
			if b.Len() > 100<<10 || !bytes.Contains(b.Bytes(), []byte("z/")) {
				t.Errorf("an archive of %d bytes", b.Len())
			}
			checkUsage(t, image)
		})
	}
}

// Files whose inodes lie give errors, or what is there, and no hang.
func TestFilesThatLie(t *testing.T) {
	source := filepath.Join(testneed.Memory(t), "f")
	if err := os.WriteFile(source, noise(20000), 0o600); err != nil {
		t.Fatal(err)
	}
	write := "write " + source + " f\nwrite " + source + " g\nsymlink l target\n"
	for name, commands := range map[string]string{
		"negative size":    "sif f size 0xffffffffffffffff\n",
		"exabyte hole":     "sif f size 0x1000000000000000\n",
		"terabytes":        "sif f size 0xffffffff000\n",
		"no inode":         "clri f\n",
		"too many names":   "link f h\nlink f i\n",
		"long link":        "sif l size 4096\n",
		"empty link":       "sif l size 0\n",
		"link in 2 blocks": "sif l size 1000\nsif l flags 0x80000\n",
		"zero in link":     "sif l size 20\n",
		"attributes":       "sif f file_acl 5\n",
		"far attributes":   "sif f file_acl 0xfffffff0\n",
		"inline":           "sif f flags 0x10000000\n",
		"blocks not tree":  "sif f flags 0\n",
		"depth":            "sif f block[1] 0x00030004\n",
		"outside":          "sif f block[5] 0x7fffffff\n",
		"extra":            "sif f extra_isize 0xfffc\n",
	} {
		t.Run(name, func(t *testing.T) {
			image := crafted(t, write+commands)
			repair(image)
			u := checkUsage(t, image)
			t.Logf("%+v: %v", u, u.err)
			im := openBytes(t, image)
			if b, err := im.ReadFile("g"); err != nil || !bytes.Equal(b, noise(20000)) {
				t.Errorf("the other file: %d bytes, %v", len(b), err)
			}
			switch name {
			case "exabyte hole", "terabytes":
				if _, err := im.ReadFile("f"); !errors.Is(err, errTooBig) {
					t.Errorf("ReadFile: %v", err)
				}
				f, err := im.Open("f")
				if err != nil {
					t.Fatal(err)
				}
				b := make([]byte, 30000)
				if _, err := io.ReadFull(f, b); err != nil || !bytes.Equal(b, append(noise(20000), make([]byte, 10000)...)) {
					t.Errorf("Open: %v", err)
				}
				var tar bytes.Buffer
				if err := im.ExportTar(&tar); err != nil || tar.Len() > 100<<10 {
					t.Errorf("export: %d bytes, %v", tar.Len(), err)
				}
			default:
				if u.bad+u.skipped == 0 {
					t.Error("no error")
				}
			}
		})
	}
}

// What cannot be read at all is refused by name.
func TestRefusedImages(t *testing.T) {
	for _, c := range []struct {
		set     func(image []byte)
		feature string // or
		err     error
	}{
		{func(b []byte) { b[1024+0x60] |= 0x08 }, "journal_dev", nil},
		{func(b []byte) { b[1024+0x60] |= 0x01 }, "compression", nil},
		{func(b []byte) { b[1024+0x61] |= 0x10 }, "dirdata", nil},
		{func(b []byte) { b[1024+0x63] |= 0x80 }, "incompat bit 0x80000000", nil},
		{func(b []byte) { b[1024+0x38] = 0 }, "", ErrNotExt4},
		{func(b []byte) { b[1024+0x18] = 7 }, "", ErrCorrupt},
		{func(b []byte) { b[1024+0x20] = 1 }, "", ErrCorrupt},
		{func(b []byte) { b[1024+0x60] |= 0x04 }, "", ErrCorrupt}, // a journal to replay, and none there
	} {
		image := crafted(t, "")
		c.set(image)
		if c.err != ErrNotExt4 {
			repair(image)
		}
		_, err := Open(bytes.NewReader(image), int64(len(image)))
		var feature *FeatureError
		switch {
		case c.err != nil && !errors.Is(err, c.err):
			t.Errorf("%v, want %v", err, c.err)
		case c.err == nil && (!errors.As(err, &feature) || feature.Features[0] != c.feature):
			t.Errorf("%v, want %s", err, c.feature)
		}
	}
	for _, n := range []int{0, 1, 1024, 1500, 2047} {
		if _, err := Open(bytes.NewReader(make([]byte, n)), int64(n)); !errors.Is(err, ErrNotExt4) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// An image cut short gives errors where blocks are missing, and nowhere else.
func TestImageCutShort(t *testing.T) {
	image := crafted(t, "mkdir a\n")
	for n := 2048; n < len(image); n += 3000 {
		u := checkUsage(t, image[:n])
		if n < 10<<10 && u.open == nil && u.err == nil {
			t.Errorf("%d bytes are enough", n)
		}
	}
	im, err := Open(bytes.NewReader(image), -1)
	if err != nil {
		t.Fatal(err)
	}
	if list, err := im.ReadDir("."); err != nil || len(list) != 2 {
		t.Errorf("%v, %v", list, err)
	}
}
