package ext4

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"banger/ext4/internal/disk"
	"banger/internal/base/testneed"
)

// entry is one entry of an archive; data is for regular files.
type entry struct {
	tar.Header
	data string
}

func regular(name, data string) entry {
	return entry{tar.Header{Name: name, Mode: 0o644, Typeflag: tar.TypeReg}, data}
}

func folder(name string, mode int64) entry {
	return entry{tar.Header{Name: name, Mode: mode, Typeflag: tar.TypeDir}, ""}
}

func link(name, target string) entry {
	return entry{tar.Header{Name: name, Linkname: target, Mode: 0o777, Typeflag: tar.TypeSymlink}, ""}
}

func hardLink(name, target string) entry {
	return entry{tar.Header{Name: name, Linkname: target, Typeflag: tar.TypeLink}, ""}
}

// with changes a entry's header.
func with(m entry, f func(*tar.Header)) entry {
	f(&m.Header)
	return m
}

func xattrs(m entry, attrs ...string) entry {
	m.PAXRecords = map[string]string{}
	for i := 0; i < len(attrs); i += 2 {
		m.PAXRecords["SCHILY.xattr."+attrs[i]] = attrs[i+1]
	}
	return m
}

func at(m entry, sec, nsec int64) entry {
	m.ModTime, m.Format = time.Unix(sec, nsec), tar.FormatPAX
	return m
}

func archive(t testing.TB, members ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		h := m.Header
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(m.data))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, m.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// built makes an image and returns its path.
func built(t testing.TB, o *Options, fill func(*Builder) error) (string, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := NewBuilder(f, o)
	if err != nil {
		return path, err
	}
	if err := fill(b); err != nil {
		return path, err
	}
	return path, b.Finish()
}

// shown describes a file in one line.
func shown(im *Image, name string) string {
	info, err := im.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "none"
	}
	if err != nil {
		return err.Error()
	}
	st := info.Sys().(*Stat)
	s := fmt.Sprintf("%o %d:%d", st.Mode, st.UID, st.GID)
	if st.Links > 1 && !info.IsDir() {
		s += fmt.Sprintf(" x%d", st.Links)
	}
	switch st.Mode & disk.ModeFmt {
	case disk.ModeRegular:
		b, err := im.ReadFile(name)
		switch {
		case err != nil:
			s += " " + err.Error()
		case len(b) <= 40:
			s += fmt.Sprintf(" %q", b)
		default:
			s += fmt.Sprintf(" %d bytes %x", len(b), sha256.Sum256(b))
		}
	case disk.ModeSymlink:
		s += " -> " + st.Target
	case disk.ModeChar, disk.ModeBlock:
		s += fmt.Sprintf(" %d:%d", st.Major, st.Minor)
	}
	attrs, err := st.Xattrs()
	if err != nil {
		return s + err.Error()
	}
	for _, k := range slices.Sorted(maps.Keys(attrs)) {
		s += fmt.Sprintf(" %s=%q", k, attrs[k])
	}
	return s
}

// checkImage has an image judged by e2fsck, by our own reader, and, as root, by the
// kernel, whose view is compared with the reader's file by file.
func checkImage(t *testing.T, path string, want map[string]string) {
	t.Helper()
	testneed.Fsck(t, path)
	im := openImage(t, path)
	for name, w := range want {
		if got := shown(im, name); got != w {
			t.Errorf("%q is\n%s, not\n%s", name, got, w)
		}
	}
	if os.Getuid() != 0 {
		return
	}
	ours := imageManifest(t, im, false)
	testneed.Mounted(t, path, "ro", func(root string) { kernelManifest(t, root).compare(t, ours) })
}

// both builds the packed and the writable image of some layers.
func both(t *testing.T, layers [][]byte, test func(t *testing.T, path string, err error)) {
	t.Helper()
	for name, size := range map[string]int64{"packed": 0, "writable": 64 << 20} {
		t.Run(name, func(t *testing.T) {
			path, err := built(t, &Options{Size: size}, func(b *Builder) error {
				if len(layers) == 1 {
					return b.Tar(bytes.NewReader(layers[0]))
				}
				var readers []io.Reader
				for _, l := range layers {
					readers = append(readers, bytes.NewReader(l))
				}
				return b.Layers(readers...)
			})
			test(t, path, err)
		})
	}
}

const dirDefault = "40755 0:0"

func TestTrees(t *testing.T) {
	long := strings.Repeat("n", 255)
	capability := "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	acl := "\x02\x00\x00\x00\x01\x00\x07\x00\xff\xff\xff\xff\x02\x00\x04\x00\xe8\x03\x00\x00\x04\x00\x05\x00\xff\xff\xff\xff\x10\x00\x05\x00\xff\xff\xff\xff\x20\x00\x00\x00\xff\xff\xff\xff"
	var many []string
	wantMany := "100644 0:0 \"\""
	for i := range 80 {
		many = append(many, fmt.Sprintf("user.a%02d", i), "v")
		wantMany += fmt.Sprintf(" user.a%02d=\"v\"", i)
	}
	var nested []entry
	deep := ""
	for range 1000 {
		deep += "d/"
		nested = append(nested, folder(deep, 0o700))
	}
	device := func(name string, kind byte, major, minor int64) entry {
		return entry{tar.Header{Name: name, Typeflag: kind, Mode: 0o660, Devmajor: major, Devminor: minor}, ""}
	}
	for name, c := range map[string]struct {
		members []entry
		want    map[string]string
	}{
		"empty":            {nil, map[string]string{".": dirDefault, "lost+found": "40700 0:0"}},
		"quotes":           {[]entry{regular(`a "b" 'c'`, "1"), regular("new\nline", "2"), regular(`back\slash`, "3")}, map[string]string{`a "b" 'c'`: `100644 0:0 "1"`, "new\nline": `100644 0:0 "2"`, `back\slash`: `100644 0:0 "3"`}},
		"utf-8":            {[]entry{regular("héé/日本", "x")}, map[string]string{"héé/日本": `100644 0:0 "x"`, "héé": dirDefault}},
		"255 bytes":        {[]entry{regular(long, "long"), regular(long+"/../x", "")}[:1], map[string]string{long: `100644 0:0 "long"`}},
		"acl":              {[]entry{xattrs(folder("d", 0o750), "system.posix_acl_access", acl, "system.posix_acl_default", acl)}, map[string]string{"d": fmt.Sprintf("40750 0:0 system.posix_acl_access=%q system.posix_acl_default=%q", acl, acl)}},
		"acl and mode":     {[]entry{xattrs(regular("f", ""), "system.posix_acl_access", acl, "system.posix_acl_default", acl)}, map[string]string{"f": fmt.Sprintf("100644 0:0 \"\" system.posix_acl_access=%q", aclBytes(0x01, 6, 0x02, 4, 1000, 0x04, 5, 0x10, 4, 0x20, 4))}},
		"acl as a mode":    {[]entry{xattrs(regular("f", ""), "system.posix_acl_access", string(aclBytes(0x01, 7, 0x04, 7, 0x20, 7)))}, map[string]string{"f": `100644 0:0 ""`}},
		"xattrs misplaced": {[]entry{xattrs(link("s", "x"), "user.a", "b", "trusted.t", "u", "system.posix_acl_access", acl), xattrs(device("p", tar.TypeFifo, 0, 0), "user.a", "b", "system.posix_acl_access", acl)}, map[string]string{"s": `120777 0:0 -> x trusted.t="u"`, "p": fmt.Sprintf("10660 0:0 system.posix_acl_access=%q", aclBytes(0x01, 6, 0x02, 4, 1000, 0x04, 5, 0x10, 6, 0x20, 0))}},
		"capability":       {[]entry{xattrs(regular("ping", "p"), "security.capability", capability, "user.note", "hi", "bogus.x", "y")}, map[string]string{"ping": fmt.Sprintf("100644 0:0 \"p\" security.capability=%q user.note=\"hi\"", capability)}},
		"80 xattrs":        {[]entry{xattrs(regular("f", ""), many...)}, map[string]string{"f": wantMany}},
		"owner":            {[]entry{with(regular("f", ""), func(h *tar.Header) { h.Uid, h.Gid, h.Mode = 70000, 4_000_000_000, 0o6751 })}, map[string]string{"f": `106751 70000:4000000000 ""`}},
		"link before":      {[]entry{hardLink("early", "usr/sh"), regular("usr/sh", "shell")}, map[string]string{"early": `100644 0:0 x2 "shell"`, "usr/sh": `100644 0:0 x2 "shell"`}},
		"link after":       {[]entry{regular("a", "1"), hardLink("b", "a"), hardLink("c/d", "./b")}, map[string]string{"c/d": `100644 0:0 x3 "1"`}},
		"link chain":       {[]entry{hardLink("a", "b"), hardLink("b", "c"), regular("c", "x")}, map[string]string{"a": `100644 0:0 x3 "x"`}},
		"link to symlink":  {[]entry{link("s", "to"), hardLink("h", "s")}, map[string]string{"h": "120777 0:0 x2 -> to"}},
		"link to itself":   {[]entry{regular("a", "1"), hardLink("a", "a")}, map[string]string{"a": `100644 0:0 "1"`}},
		"target replaced":  {[]entry{regular("a", "1"), hardLink("b", "a"), regular("a", "2")}, map[string]string{"a": `100644 0:0 "2"`, "b": `100644 0:0 "1"`}},
		"link replaced":    {[]entry{regular("a", "1"), hardLink("b", "a"), regular("b", "2")}, map[string]string{"a": `100644 0:0 "1"`, "b": `100644 0:0 "2"`}},
		"link over parent": {[]entry{regular("d/f", "1"), hardLink("d", "d/f")}, map[string]string{"d": `100644 0:0 "1"`}},
		"file twice":       {[]entry{regular("f", strings.Repeat("x", 9000)), regular("f", "two")}, map[string]string{"f": `100644 0:0 "two"`}},
		"dir to file":      {[]entry{regular("d/e/f", "1"), regular("d", "2")}, map[string]string{"d": `100644 0:0 "2"`}},
		"dir to link":      {[]entry{folder("d", 0o700), regular("d/f", "1"), link("d", "e")}, map[string]string{"d": "120777 0:0 -> e"}},
		"file to dir":      {[]entry{regular("d", "1"), folder("d", 0o711), regular("d/f", "2")}, map[string]string{"d": "40711 0:0", "d/f": `100644 0:0 "2"`}},
		"link to dir":      {[]entry{folder("real", 0o755), link("d", "real"), folder("d", 0o700), regular("d/f", "")}, map[string]string{"d": "40700 0:0", "real/f": "none"}},
		"dir twice":        {[]entry{folder("d", 0o700), regular("d/f", "1"), xattrs(folder("d", 0o1777), "user.x", "y")}, map[string]string{"d": `41777 0:0 user.x="y"`, "d/f": `100644 0:0 "1"`}},
		"no parents":       {[]entry{regular("a/b/c", "1")}, map[string]string{"a": dirDefault, "a/b": dirDefault}},
		"through links":    {[]entry{folder("usr/sbin", 0o755), link("sbin", "usr/sbin"), link("abs", "/usr/../sbin"), link("chain", "abs"), regular("chain/f", "1"), regular("/abs/g", "2"), hardLink("sbin/h", "chain/f")}, map[string]string{"usr/sbin/f": `100644 0:0 x2 "1"`, "usr/sbin/g": `100644 0:0 "2"`, "sbin": "120777 0:0 -> usr/sbin"}},
		"links lead up":    {[]entry{link("d/up", "../../../../x"), regular("d/up/f", "1")}, map[string]string{"x/f": `100644 0:0 "1"`}},
		"dangling link":    {[]entry{link("made", "in/the"), regular("made/up", "u")}, map[string]string{"in/the/up": `100644 0:0 "u"`}},
		"root":             {[]entry{with(xattrs(folder("./", 0o711), "user.r", "1"), func(h *tar.Header) { h.Uid = 5 })}, map[string]string{".": `40711 5:0 user.r="1"`}},
		"slashes":          {[]entry{folder("//a//", 0o700), regular("./a/.//f", "1"), regular("a/.", "")}[:2], map[string]string{"a/f": `100644 0:0 "1"`, "a": "40700 0:0"}},
		"global header":    {[]entry{{tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "pax_global_header", PAXRecords: map[string]string{"comment": "x"}}, ""}, regular("f", "1")}, map[string]string{"pax_global_header": "none", "f": `100644 0:0 "1"`}},
		"devices":          {[]entry{device("null", tar.TypeChar, 1, 3), device("big", tar.TypeBlock, 259, 70000), device("odd", tar.TypeChar, 4095, 1<<20-1), {tar.Header{Name: "fifo", Typeflag: tar.TypeFifo, Mode: 0o600}, ""}}, map[string]string{"null": "20660 0:0 1:3", "big": "60660 0:0 259:70000", "odd": "20660 0:0 4095:1048575", "fifo": "10600 0:0"}},
		"socket":           {[]entry{with(regular("sock", ""), func(h *tar.Header) { h.Mode |= 0o140000 })}, map[string]string{"sock": "none"}},
		"symlinks":         {[]entry{link("s59", strings.Repeat("x", 59)), link("s60", strings.Repeat("y", 60)), link("s4095", strings.Repeat("z/", 2047)+"z")}, map[string]string{"s59": "120777 0:0 -> " + strings.Repeat("x", 59), "s60": "120777 0:0 -> " + strings.Repeat("y", 60), "s4095": "120777 0:0 -> " + strings.Repeat("z/", 2047) + "z"}},
		"nested":           {append(nested, regular(deep+"f", "deep")), map[string]string{deep + "f": `100644 0:0 "deep"`}},
		"lost+found":       {[]entry{folder("lost+found", 0o711), regular("lost+found/f", "1")}, map[string]string{"lost+found/f": `100644 0:0 "1"`, "lost+found": "40711 0:0"}},
		"no whiteouts":     {[]entry{regular("a", "1"), regular(".wh.a", ""), regular("d/.wh..wh..opq", "")}, map[string]string{"a": `100644 0:0 "1"`, ".wh.a": `100644 0:0 ""`, "d/.wh..wh..opq": `100644 0:0 ""`}},
		"block edges":      {[]entry{regular("f0", ""), regular("f1", "x"), regular("f4095", strings.Repeat("a", 4095)), regular("f4096", strings.Repeat("b", 4096)), regular("f4097", strings.Repeat("c", 4097))}, map[string]string{"f0": `100644 0:0 ""`}},
	} {
		t.Run(name, func(t *testing.T) {
			both(t, [][]byte{archive(t, c.members...)}, func(t *testing.T, path string, err error) {
				if err != nil {
					t.Fatal(err)
				}
				checkImage(t, path, c.want)
			})
		})
	}
}

func TestTimes(t *testing.T) {
	times := map[string][2]int64{"1901": {-1 << 31, 5}, "before": {-1, 999_999_999}, "epoch": {0, 0}, "2038": {1 << 31, 1}, "2106": {1 << 32, 7}, "2446": {disk.MaxTime, 999_999_999}}
	var members []entry
	for name, s := range times {
		members = append(members, at(regular(name, ""), s[0], s[1]))
	}
	members = append(members, at(regular("too-late", ""), 1<<35, 0), at(regular("too-early", ""), -1<<40, 1))
	times["too-late"], times["too-early"] = [2]int64{disk.MaxTime, 999_999_999}, [2]int64{disk.MinTime, 0}
	both(t, [][]byte{archive(t, members...)}, func(t *testing.T, path string, err error) {
		if err != nil {
			t.Fatal(err)
		}
		checkImage(t, path, nil)
		im := openImage(t, path)
		for name, s := range times {
			info, err := im.Stat(name)
			if err != nil || !info.ModTime().Equal(time.Unix(s[0], s[1])) {
				t.Errorf("%s: %v, %v", name, info, err)
			}
		}
	})
}

func TestRefusedTrees(t *testing.T) {
	whole := archive(t, regular("a", strings.Repeat("x", 2000)), regular("b", "y"))
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"empty":             {nil, "cut short"},
		"cut in the data":   {whole[:1024], "cut short"},
		"cut in the end":    {whole[:len(whole)-1024], "cut short"},
		"data behind":       {append(slices.Clone(whole), "more"...), "follows the end"},
		"up and out":        {archive(t, regular("a/../../b", "")), `".."`},
		"up by a hard link": {archive(t, regular("a", ""), hardLink("b", "../a")), `".."`},
		"unknown type":      {archive(t, entry{tar.Header{Name: "odd", Typeflag: 'Q'}, ""}), `entry "odd"`},
		"file as a folder":  {archive(t, regular("a", "1"), regular("a/b", "2")), "not a directory"},
		"link to nothing":   {archive(t, hardLink("a", "b")), `"b": file does not exist`},
		"link to a folder":  {archive(t, folder("b", 0o755), hardLink("a", "b")), "directory"},
		"file as the root":  {archive(t, regular(".", "x")), "root"},
		"loop":              {archive(t, link("a", "b"), link("b", "a"), regular("a/x", "")), "symbolic links"},
		"long part":         {archive(t, regular(strings.Repeat("n", 256), "")), "name too long"},
		"long path":         {archive(t, regular(strings.Repeat("n/", 3000)+"x", "")), "name too long"},
		"long target":       {archive(t, link("a", strings.Repeat("n", 4096))), "target"},
		"large xattr":       {archive(t, xattrs(regular("f", ""), "user.x", strings.Repeat("x", 5000))), "user.x"},
		"bad acl":           {archive(t, xattrs(regular("f", ""), "system.posix_acl_access", "junk")), `entry "f"`},
	} {
		t.Run(name, func(t *testing.T) {
			path, err := built(t, nil, func(b *Builder) error { return b.Tar(bytes.NewReader(c.data)) })
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := Open(f, 1<<20); err == nil {
				t.Error("the file holds a file system")
			}
		})
	}
}

func TestTooManyLinks(t *testing.T) {
	t.Parallel()
	members := []entry{regular("f", "")}
	for i := range 65_000 {
		members = append(members, hardLink(fmt.Sprintf("l%d", i), "f"))
	}
	if _, err := built(t, nil, func(b *Builder) error { return b.Tar(bytes.NewReader(archive(t, members...))) }); err == nil || !strings.Contains(err.Error(), "65000") {
		t.Errorf("got %v", err)
	}
	path, err := built(t, nil, func(b *Builder) error {
		return b.Tar(bytes.NewReader(archive(t, members[:65_000]...)))
	})
	if err != nil {
		t.Fatal(err)
	}
	checkImage(t, path, map[string]string{"l7": `100644 0:0 x65000 ""`})
}

func TestFull(t *testing.T) {
	big := archive(t, regular("big", strings.Repeat("x", 2<<20)))
	if _, err := built(t, &Options{Size: 1 << 20}, func(b *Builder) error { return b.Tar(bytes.NewReader(big)) }); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("blocks: %v", err)
	}
	var many []entry
	for i := range 200 {
		many = append(many, regular(fmt.Sprint(i), ""))
	}
	if _, err := built(t, &Options{Size: 1 << 20}, func(b *Builder) error { return b.Tar(bytes.NewReader(archive(t, many...))) }); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("inodes: %v", err)
	}
}

// TestFS copies a host's tree, and an image of our own, through package fs.
func TestFS(t *testing.T) {
	src := t.TempDir()
	for _, err := range []error{
		os.MkdirAll(filepath.Join(src, "d/e"), 0o750), os.WriteFile(filepath.Join(src, "d/f"), []byte("hello"), 0o640),
		os.Symlink("d/f", filepath.Join(src, "s")), os.Link(filepath.Join(src, "d/f"), filepath.Join(src, "h")),
		syscall.Mkfifo(filepath.Join(src, "p"), 0o600), os.Chmod(filepath.Join(src, "d/e"), 0o1777|os.ModeSticky),
		os.WriteFile(filepath.Join(src, "big"), bytes.Repeat([]byte("0123456789"), 1<<16), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	first, err := built(t, nil, func(b *Builder) error { return b.FS(os.DirFS(src)) })
	if err != nil {
		t.Fatal(err)
	}
	me := fmt.Sprintf("%d:%d", os.Getuid(), os.Getgid())
	checkImage(t, first, map[string]string{"d/e": "41777 " + me, "h": "100640 " + me + ` x2 "hello"`, "s": "120777 " + me + " -> d/f", "p": "10600 " + me})
	second, err := built(t, nil, func(b *Builder) error { return b.FS(openImage(t, first)) })
	if err != nil {
		t.Fatal(err)
	}
	imageManifest(t, openImage(t, first), false).compare(t, imageManifest(t, openImage(t, second), false))
}

// TestSparse has holes in the middle, at the end, and a file beyond 2 TiB, from
// GNU tar's own archives.
func TestSparse(t *testing.T) {
	src := t.TempDir()
	for name, pieces := range map[string][]int64{"none": {}, "middle": {0, 1 << 20, 5<<20 + 100}, "end": {3 << 20}, "huge": {100, 3 << 40}} {
		f, err := os.Create(filepath.Join(src, name))
		if err != nil {
			t.Fatal(err)
		}
		size := int64(9 << 20)
		for _, p := range pieces {
			if _, err := f.WriteAt([]byte("data at "+fmt.Sprint(p)), p); err != nil {
				t.Fatal(err)
			}
			size = max(size, p+50)
		}
		if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	for _, format := range [][]string{{"--format=gnu"}, {"--format=posix", "--sparse-version=0.0"}, {"--format=posix", "--sparse-version=0.1"}, {"--format=posix", "--sparse-version=1.0"}} {
		out := filepath.Join(t.TempDir(), "tar")
		testneed.Run(t, "tar", append(format, "-cSf", out, "-C", src, ".")...)
		data, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		path, err := built(t, nil, func(b *Builder) error { return b.Tar(bytes.NewReader(data)) })
		if err != nil {
			t.Fatal(err)
		}
		testneed.Fsck(t, path)
		if st, err := os.Stat(path); err != nil || st.Size() > 2<<20 {
			t.Errorf("%v: %v, %v", format, st.Size(), err)
		}
		im := openImage(t, path)
		for name, at := range map[string]int64{"middle": 5<<20 + 100, "end": 3 << 20, "huge": 3 << 40} {
			f, err := im.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 25)
			want := "data at " + fmt.Sprint(at)
			if _, err := f.(io.ReaderAt).ReadAt(b, at); err != nil && err != io.EOF || !strings.HasPrefix(string(b), want) {
				t.Errorf("%v %s: %q, %v", format, name, b, err)
			}
		}
	}
}

// TestFormat makes empty images of all sizes; those of over 16 TiB have meta groups.
func TestFormat(t *testing.T) {
	for _, size := range []int64{1 << 20, 3<<20 + 5, 8 << 20, 64 << 20, 130 << 20, 1 << 30, 2<<30 + 130<<20, 2<<30 + 400<<10, 8 << 30, 300 << 30, 2 << 40} {
		path, err := built(t, &Options{Size: size, Label: "label", BytesPerInode: max(fullInodeRatio, size>>23)}, func(*Builder) error { return nil })
		if err != nil {
			t.Fatal(size, err)
		}
		testneed.Fsck(t, path)
		if got := testneed.Run(t, "dumpe2fs", path); strings.Count(got, "ITABLE_ZEROED") != strings.Count(got, ": (Blocks ") {
			t.Error("the guest would initialise inode tables")
		}
		if size == 8<<30 {
			var st syscall.Stat_t
			if err := syscall.Stat(path, &st); err != nil || st.Blocks*512 > 200<<10 {
				t.Errorf("8 GiB take %d bytes, %v", st.Blocks*512, err)
			}
		}
	}
	for _, o := range []Options{{Size: 1}, {Size: 1<<20 - 1}, {Size: MaxSize + 1}, {Size: -1}, {Size: 1 << 30, Label: strings.Repeat("x", 17)}, {Size: 1 << 30, JournalSize: 1 << 20}, {Size: 1 << 30, JournalSize: 1 << 30}, {Size: 1 << 30, BytesPerInode: 5}} {
		if _, err := built(t, &o, func(*Builder) error { return nil }); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}

// TestLargest makes 64 TiB where a file may be that long: on tmpfs.
func TestLargest(t *testing.T) {
	t.Parallel()
	f, err := os.CreateTemp("/dev/shm", "ext4-largest")
	if err != nil {
		testneed.Missing(t, testneed.Host, "no tmpfs at /dev/shm: %v", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := Format(f, &Options{Size: MaxSize, BytesPerInode: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	im := openImage(t, f.Name())
	if s := im.Stats(); s.Blocks != MaxSize/blockSize || s.Groups != 1<<19 {
		t.Errorf("%+v", s)
	}
	head := testneed.Run(t, "dumpe2fs", "-h", f.Name())
	for _, want := range []string{"meta_bg", "64bit", "Block count:              17179869184"} {
		if !strings.Contains(head, want) {
			t.Errorf("no %q in\n%s", want, head)
		}
	}
}

// TestManySubdirs has more directories in one than an inode can count, and
// TestManyFiles an index of two levels.
func TestManySubdirs(t *testing.T) {
	t.Parallel()
	var members []entry
	for i := range 70_000 {
		members = append(members, folder(fmt.Sprintf("d/%05d", i), 0o755))
	}
	path, err := built(t, nil, func(b *Builder) error { return b.Tar(bytes.NewReader(archive(t, members...))) })
	if err != nil {
		t.Fatal(err)
	}
	testneed.Fsck(t, path)
	im := openImage(t, path)
	if got := shown(im, "d/69999"); got != dirDefault {
		t.Error(got)
	}
}

func TestManyFiles(t *testing.T) {
	t.Parallel()
	var members []entry
	for i := range 200_000 {
		members = append(members, regular(fmt.Sprintf("d/a-file-with-a-longer-name-%06d", i), ""))
	}
	path, err := built(t, nil, func(b *Builder) error { return b.Tar(bytes.NewReader(archive(t, members...))) })
	if err != nil {
		t.Fatal(err)
	}
	testneed.Fsck(t, path)
	if got := testneed.Run(t, "debugfs", "-R", "htree /d", path); !strings.Contains(got, "Indirect levels: 1") {
		t.Errorf("the directory has no index of two levels:\n%.500s", got)
	}
	if st, err := os.Stat(path); err != nil || st.Size() > 70<<20 {
		t.Errorf("the image has %d bytes, %v", st.Size(), err)
	}
	testneed.Mounted(t, path, "ro", func(root string) {
		for i := 0; i < 200_000; i += 997 {
			if _, err := os.Lstat(filepath.Join(root, fmt.Sprintf("d/a-file-with-a-longer-name-%06d", i))); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestLargeFile needs an extent tree of its own: more extents than an inode holds.
func TestLargeFile(t *testing.T) {
	t.Parallel()
	const size = 700 << 20
	data := io.MultiReader(bytes.NewReader(sizeOnly(t, regular("big", ""), size)), io.LimitReader(repeating{}, size), bytes.NewReader(archive(t, regular("after", "x"))))
	path, err := built(t, &Options{Size: 2 << 30}, func(b *Builder) error { return b.Tar(data) })
	if err != nil {
		t.Fatal(err)
	}
	checkImage(t, path, map[string]string{"after": `100644 0:0 "x"`})
}

// sizeOnly is a header that promises data.
func sizeOnly(t testing.TB, m entry, size int64) []byte {
	t.Helper()
	m.Size = size
	var b bytes.Buffer
	if err := tar.NewWriter(&b).WriteHeader(&m.Header); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// repeating reads as a pattern in which every block is another.
type repeating struct{}

func (repeating) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(i >> 9)
	}
	return len(b), nil
}
