package diskimage

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/Microsoft/hcsshim/ext4/tar2ext4"
)

// FuzzFilter feeds any bytes to the filter.
func FuzzFilter(f *testing.F) {
	f.Add(archive(f))
	f.Add(archive(f, dir("./", 0o755), file("a/b", "data"), link("l", "a"), file("l/c", "x"), hardLink("l/d", "a/b")))
	acl := dir("d", 0o755)
	acl.PAXRecords = map[string]string{xattrPrefix + "system.posix_acl_default": userACL(), xattrPrefix + "user.a": "b"}
	f.Add(archive(f, acl, entry{tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "g", PAXRecords: map[string]string{"comment": "x"}}, ""}))
	disk := scratch(f)
	f.Fuzz(func(t *testing.T, data []byte) { checkFilter(t, disk, data) })
}

// FuzzEntries feeds archives that are well-formed, with any names: a line of the
// script is an entry, made of a type, a name, "|" and a link's target.
func FuzzEntries(f *testing.F) {
	f.Add("5./\n0a/b\n2l|a\n0l/c\n1l/d|a/b")
	f.Add("1x|y\n0y\n2y2|/../..//y\n1z|y2\n5y/\n0y")
	f.Add("2a|b\n2b|c/d\n2c|.\n0a/x\n1h|a\n2lost+found|a\n6a/../b\n3b/dev")
	disk := scratch(f)
	f.Fuzz(func(t *testing.T, script string) {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for line := range strings.Lines(script) {
			kind, rest := line[0], strings.TrimSuffix(line[1:], "\n")
			name, target, _ := strings.Cut(rest, "|")
			h := &tar.Header{Typeflag: kind, Name: name, Linkname: target, Mode: int64(len(line)), Format: tar.FormatPAX}
			if w.WriteHeader(h) != nil {
				return
			}
		}
		if w.Close() != nil {
			return
		}
		checkFilter(t, disk, b.Bytes())
	})
}

func scratch(f *testing.F) *os.File {
	f.Helper()
	disk, err := os.Create(filepath.Join(f.TempDir(), "disk"))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = disk.Close() })
	return disk
}

// checkFilter checks what the converter relies on: what passes the filter is a
// whole archive of clean names, each once unless it is a directory, below
// directories, and the converter takes it.
func checkFilter(t *testing.T, disk *os.File, data []byte) {
	t.Helper()
	var out bytes.Buffer
	if err := filter(&limitWriter{w: &out, left: 1 << 20}, bytes.NewReader(data)); err != nil {
		return
	}
	seen := map[string]byte{".": tar.TypeDir}
	r := tar.NewReader(bytes.NewReader(out.Bytes()))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(h.Name, "/")
		if name != path.Clean(name) || path.IsAbs(name) || strings.HasPrefix(name+"/", "../") {
			t.Fatalf("the name %q", h.Name)
		}
		for parent := path.Dir(name); parent != "."; parent = path.Dir(parent) {
			if k, ok := seen[parent]; ok && k != tar.TypeDir {
				t.Fatalf("%q is below %q of type %q", name, parent, k)
			}
			seen[parent] = tar.TypeDir
		}
		if old, ok := seen[name]; ok && (old != tar.TypeDir || h.Typeflag != tar.TypeDir) {
			t.Fatalf("%q comes twice", name)
		}
		if h.Typeflag == tar.TypeLink {
			if k, ok := seen[h.Linkname]; !ok || k == tar.TypeDir {
				t.Fatalf("%q is a link to %q of type %q", name, h.Linkname, k)
			}
		}
		seen[name] = h.Typeflag
	}
	if err := disk.Truncate(0); err != nil {
		t.Fatal(err)
	}
	if _, err := disk.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	err := tar2ext4.ConvertTarToExt4(bytes.NewReader(out.Bytes()), disk, tar2ext4.MaximumDiskSize(int64(maxDisk)))
	if err == nil {
		err = padInodeBitmaps(disk)
	}
	if err != nil && !strings.Contains(err.Error(), "could not fit xattr") && !strings.Contains(err.Error(), "lost+found") {
		t.Fatal(err)
	}
}

// limitWriter keeps a small archive with huge holes from filling the memory.
type limitWriter struct {
	w    io.Writer
	left int
}

func (l *limitWriter) Write(b []byte) (int, error) {
	if l.left -= len(b); l.left < 0 {
		return 0, io.ErrShortWrite
	}
	return l.w.Write(b)
}
