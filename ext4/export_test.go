package ext4

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"banger/ext4/internal/disk"
	"banger/ext4/internal/tarfile"
	"banger/ext4/internal/xattr"
	"banger/internal/base/testneed"
)

// The records of a header are what a reader of package archive/tar makes of them.
func TestTarHeaders(t *testing.T) {
	long := strings.Repeat("directory/", 20)
	for _, m := range []member{
		{typ: tarRegular, name: "a", mode: 0o644, mtime: disk.Time{Sec: 1}},
		{typ: tarDir, name: "d/", mode: 0o1777, uid: 2097151, gid: 2097152, mtime: disk.Time{Sec: 1<<33 - 1}},
		{typ: tarDir, name: "./", mode: 0o755, mtime: disk.Time{Sec: 1 << 33}},
		{typ: tarRegular, name: strings.Repeat("n", 100), mtime: disk.Time{Sec: -1, Nsec: 500_000_000}},
		{typ: tarRegular, name: strings.Repeat("n", 101), mtime: disk.Time{Sec: -2, Nsec: 1}},
		{typ: tarRegular, name: strings.Repeat("n", 155) + "/" + strings.Repeat("n", 100), mtime: disk.Time{Sec: -5}},
		{typ: tarRegular, name: strings.Repeat("n", 156) + "/" + strings.Repeat("n", 100), mtime: disk.Time{Sec: 5, Nsec: 999_999_999}},
		{typ: tarDir, name: strings.Repeat("n", 100) + "/", mtime: disk.Time{Sec: 5, Nsec: 1000}},
		{typ: tarSymlink, name: long + "link", link: long + "target", mode: 0o777},
		{typ: tarLink, name: "\xff", link: "ü"},
		{typ: tarRegular, name: long + "\xff"},
		{typ: tarChar, name: "c", major: 4095, minor: 1<<20 - 1, uid: 4294967294, gid: 4294967295},
		{typ: tarFIFO, name: "f", attrs: []xattr.Attr{{Name: "user.a", Value: []byte("b\nc\x00")}, {Name: "security.b", Value: []byte{}}}},
	} {
		var b bytes.Buffer
		w := newTarWriter(&b)
		if err := errors.Join(w.header(&m), w.close()); err != nil {
			t.Fatal(err)
		}
		h, err := tar.NewReader(&b).Next()
		if err != nil {
			t.Errorf("%+v: %v", m, err)
			continue
		}
		got := member{typ: h.Typeflag, name: h.Name, link: h.Linkname, mode: uint32(h.Mode), uid: uint32(h.Uid), gid: uint32(h.Gid),
			mtime: disk.Time{Sec: h.ModTime.Unix(), Nsec: uint32(h.ModTime.Nanosecond())}, major: uint32(h.Devmajor), minor: uint32(h.Devminor)}
		for key, value := range h.PAXRecords {
			if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
				got.attrs = append(got.attrs, xattr.Attr{Name: name, Value: []byte(value)})
			}
		}
		slices.SortFunc(got.attrs, func(a, b xattr.Attr) int { return strings.Compare(b.Name, a.Name) })
		if a, b := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", m); a != b {
			t.Errorf(" got %s\nwant %s", a, b)
		}
	}
}

// limitedWriter fails after n bytes.
type limitedWriter struct{ n int }

var errFull = errors.New("full")

func (w *limitedWriter) Write(p []byte) (int, error) {
	if w.n -= len(p); w.n < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestExportTellsTheWritersError(t *testing.T) {
	im := openImage(t, newImage(t, "8M"))
	for _, o := range []ExportOptions{{}, {Skip: func(string, error) error { return nil }}} {
		if err := im.ExportTree(&limitedWriter{100}, o); err != errFull {
			t.Error(err)
		}
	}
}

// An exported tree is read back by three readers of tar as the kernel shows it.
func TestExportIsTheTree(t *testing.T) {
	for _, kind := range []string{"ext4-4k", "inline", "ext2-1k", "ea_inode"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			testneed.Loop(t)
			var options []string
			for _, k := range readerImages {
				if k.name == kind {
					options = k.options
				}
			}
			path := newImage(t, "64M", options...)
			archive := filepath.Join(testneed.Memory(t), "tar")
			var want manifest
			testneed.Mounted(t, path, "noatime", func(root string) {
				populate(t, root, kind)
				want = exported(kernelManifest(t, root))
			})
			exportTo(t, openImage(t, path), archive, ExportOptions{})
			again := archive + "-again"
			exportTo(t, openImage(t, path), again, ExportOptions{})
			if a, b := fileHash(t, archive), fileHash(t, again); a != b {
				t.Error("two exports differ")
			}
			if size, _ := os.Stat(archive); size.Size() > 24<<20 {
				t.Errorf("the archive has %d bytes: holes are filled", size.Size())
			}
			t.Run("tarfile", func(t *testing.T) { want.compare(t, tarManifest(t, archive)) })
			t.Run("archive/tar", func(t *testing.T) { goTarReads(t, archive, len(want)) })
			t.Run("GNU tar", func(t *testing.T) {
				path := newImage(t, "96M", options...)
				testneed.Mounted(t, path, "noatime", func(root string) {
					// Warnings are of names as archive/tar would complain of, too.
					out, status := testneed.Status(t, "tar", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-p", "-C", root, "-xf", archive)
					if status != 0 {
						t.Errorf("tar: exit status %d\n%s", status, out)
					} else if len(out) > 0 {
						t.Logf("tar: %s", out)
					}
					want.compare(t, exported(kernelManifest(t, root)))
				})
			})
		})
	}
}

func exportTo(t testing.TB, im *Image, path string, o ExportOptions) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(im.ExportTree(f, o), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func fileHash(t testing.TB, path string) [32]byte {
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(b)
}

// lineMode is the mode in a manifest's lines.
func lineMode(lines []string) (mode uint32) {
	fmt.Sscanf(lines[0], "mode %o", &mode)
	return mode
}

// exported keeps of a manifest what an archive has.
func exported(m manifest) manifest {
	out := manifest{}
	for name, lines := range m {
		typ := lineMode(lines) >> 12
		if typ == 0o14 || name == "." { // a socket; the root has lost+found below it
			continue
		}
		for _, line := range lines {
			var mode, links, uid, gid, ino, blocks uint64
			var times [3]string
			switch {
			case strings.HasPrefix(line, "mode"):
				fmt.Sscanf(line, "mode %o links %d uid %d gid %d ino %d blocks %d", &mode, &links, &uid, &gid, &ino, &blocks)
				if mode&0o170000 == 0o040000 {
					links = 1
				}
				line = fmt.Sprintf("mode %o links %d uid %d gid %d", mode, links, uid, gid)
			case strings.HasPrefix(line, "size"):
				if typ != 0o10 {
					continue
				}
			case strings.HasPrefix(line, "times"):
				fmt.Sscanf(line, "times %s %s %s", &times[0], &times[1], &times[2])
				line = "mtime " + times[1]
			}
			out[name] = append(out[name], line)
		}
	}
	return out
}

// tarManifest reads an archive with this module's own reader.
func tarManifest(t testing.TB, path string) manifest {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := tarfile.NewReader(f)
	defer r.Close()
	m, links, first := manifest{}, map[string]int{}, map[string]string{}
	for {
		e, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(e.Name, "/")
		if name == "." || name == "lost+found" {
			continue
		}
		first[name] = name
		if e.Type == tarfile.TypeLink {
			first[name] = e.Link
		}
		links[first[name]]++
		types := map[byte]uint32{tarfile.TypeReg: 0o100000, tarfile.TypeDir: 0o040000, tarfile.TypeSymlink: 0o120000,
			tarfile.TypeChar: 0o020000, tarfile.TypeBlock: 0o060000, tarfile.TypeFifo: 0o010000}
		if e.Type == tarfile.TypeLink {
			continue
		}
		m.add(name, "mode %o links LINKS uid %d gid %d", types[e.Type]|e.Mode, e.Uid, e.Gid)
		if e.Type == tarfile.TypeReg {
			m.add(name, "size %d", e.Size)
		}
		m.add(name, "mtime %d.%d", e.Mtime.Sec, e.Mtime.Nsec)
		switch e.Type {
		case tarfile.TypeSymlink:
			m.add(name, "target %q", e.Link)
		case tarfile.TypeChar, tarfile.TypeBlock:
			m.add(name, "device %d:%d", e.Major, e.Minor)
		case tarfile.TypeReg:
			m.add(name, "content %x", contentHash(t, memberData(t, r, e), e.Size))
		}
		var lines []string
		for _, x := range e.Xattrs {
			lines = append(lines, fmt.Sprintf("%s=%x", x.Name, sha256.Sum256(x.Value)))
		}
		slices.Sort(lines)
		m.add(name, "xattrs %s", strings.Join(lines, " "))
	}
	out := manifest{}
	for name, of := range first {
		out[name] = slices.Clone(m[of])
		out[name][0] = strings.Replace(out[name][0], "LINKS", fmt.Sprint(links[of]), 1)
	}
	return out
}

// sparseData is the content of a member.
type sparseData struct {
	regions []tarfile.Run
	data    []byte
	size    int64
}

func (s *sparseData) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	data := s.data
	for _, g := range s.regions {
		from, to := max(g.Offset, off), min(g.Offset+g.Length, off+int64(len(p)))
		if from < to {
			copy(p[from-off:to-off], data[from-g.Offset:])
		}
		data = data[g.Length:]
	}
	return int(min(int64(len(p)), max(s.size-off, 0))), io.EOF
}

func memberData(t testing.TB, r *tarfile.Reader, e *tarfile.Entry) *sparseData {
	t.Helper()
	s := &sparseData{size: e.Size, regions: slices.Clone(e.Sparse)}
	if e.Sparse == nil {
		s.regions = []tarfile.Run{{Offset: 0, Length: e.Size}}
	}
	for {
		b, err := r.Data(1 << 20)
		s.data = append(s.data, b...)
		if err == io.EOF {
			return s
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func goTarReads(t testing.TB, path string, want int) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := tar.NewReader(f)
	n := 0
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if n++; h.Size < 100<<20 {
			if copied, err := io.Copy(io.Discard, r); err != nil || h.Typeflag == tar.TypeReg && copied != h.Size {
				t.Errorf("%q: %d of %d bytes, %v", h.Name, copied, h.Size, err)
			}
		}
	}
	if n != want+2 { // the root and lost+found
		t.Errorf("%d members, want %d", n, want+2)
	}
}

// Names of attributes come back as they were, whatever is escaped in between.
func TestTarAttributeNames(t *testing.T) {
	m := member{typ: tarRegular, name: "f"}
	for _, n := range []string{"user.plain", "user.a=b", "user.50%", "user.%3D", "user.%25", "user.%41", "user.%3d=%", "user.ü x"} {
		m.attrs = append(m.attrs, xattr.Attr{Name: n, Value: []byte(n)})
	}
	var b bytes.Buffer
	w := newTarWriter(&b)
	must(t, errors.Join(w.header(&m), w.close()))
	r := tarfile.NewReader(&b)
	defer r.Close()
	e, err := r.Next()
	must(t, err)
	if len(e.Xattrs) != len(m.attrs) {
		t.Errorf("%d attributes, want %d", len(e.Xattrs), len(m.attrs))
	}
	for _, x := range e.Xattrs {
		if x.Name != string(x.Value) {
			t.Errorf("%q became %q", x.Value, x.Name)
		}
	}
}
