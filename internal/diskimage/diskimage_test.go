package diskimage

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"banger/internal/base/errs"
	"banger/internal/base/testneed"
	"banger/internal/vm"
)

// xattrPrefix begins the PAX keys of extended attributes (star(5), also GNU tar's).
const xattrPrefix = "SCHILY.xattr."

// oracle returns a tool of e2fsprogs that judges what we made.
func oracle(t *testing.T, name string) string {
	t.Helper()
	return testneed.Tool(t, name, "e2fsprogs")
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(oracle(t, name), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func debugfs(t *testing.T, disk, command string) string {
	t.Helper()
	return output(t, "debugfs", "-R", command, disk)
}

// entry is one member of an archive; data is for regular files.
type entry struct {
	tar.Header
	data string
}

func file(name, data string) entry {
	return entry{tar.Header{Name: name, Mode: 0o644, Typeflag: tar.TypeReg}, data}
}

func link(name, target string) entry {
	return entry{tar.Header{Name: name, Linkname: target, Mode: 0o777, Typeflag: tar.TypeSymlink}, ""}
}

func hardLink(name, target string) entry {
	return entry{tar.Header{Name: name, Linkname: target, Typeflag: tar.TypeLink}, ""}
}

func dir(name string, mode int64) entry {
	return entry{tar.Header{Name: name, Mode: mode, Typeflag: tar.TypeDir}, ""}
}

func archive(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := e.Header
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(e.data))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestRoundTrip(t *testing.T) {
	long := strings.Repeat("n", 255)
	capability := "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	withXattrs := file("usr/bin/ping", "p")
	withXattrs.PAXRecords = map[string]string{xattrPrefix + "security.capability": capability, xattrPrefix + "user.note": "hi", xattrPrefix + "bogus": "x"}
	withACL := dir("acl", 0o755)
	withACL.PAXRecords = map[string]string{xattrPrefix + "system.posix_acl_access": userACL()}
	owned := file("owned", "")
	owned.Uid, owned.Gid, owned.Mode = 70000, 4_000_000_000, 0o6751
	owned.ModTime = time.Unix(1_700_000_000, 123_000_000)
	owned.Format = tar.FormatPAX
	ancient := file("ancient", "")
	ancient.ModTime = time.Unix(-5, 0)
	sock := file("sock", "")
	sock.Mode |= 0o140000
	data := archive(t,
		entry{tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "pax_global_header", PAXRecords: map[string]string{"comment": "x"}}, ""},
		dir("./", 0o711),
		hardLink("early", "usr/bin/sh"),
		dir("usr/", 0o755), dir("usr/bin", 0o1777),
		link("bin", "usr/bin"), link("abs", "/usr/../usr/./bin"), link("chain", "abs"),
		file("bin/sh", "shell"), file("/abs/ls", "list"), file("./chain//cat", "cat"),
		hardLink("hard", "bin/sh"), hardLink("bin/hard", "chain/ls"),
		link("made", "in/the/making"), file("made/up", "u"),
		file(long, "long"), link("far", strings.Repeat("t/", 200)),
		withXattrs, withACL, owned, ancient, sock,
		entry{tar.Header{Name: "null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 300, Mode: 0o666}, ""},
		entry{tar.Header{Name: "fifo", Typeflag: tar.TypeFifo, Mode: 0o600}, ""},
		dir("usr/", 0o750),
		file("big", strings.Repeat("0123456789abcdef", 1<<16)),
	)
	disk := filepath.Join(t.TempDir(), "disk")
	n, err := FromTar(t.Context(), disk, bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(disk)
	if err != nil || info.Size() != n || info.Mode() != 0o400 {
		t.Errorf("%v, %v, want %d bytes", info, err, n)
	}
	if out := output(t, "e2fsck", "-fn", disk); strings.Contains(strings.ToLower(out), "fix") {
		t.Errorf("e2fsck complains:\n%s", out)
	}
	for path, want := range map[string]string{
		"/usr/bin/sh": "shell", "/early": "shell", "/hard": "shell", "/usr/bin/ls": "list", "/usr/bin/hard": "list",
		"/usr/bin/cat": "cat", "/in/the/making/up": "u", "/" + long: "long",
	} {
		if got := debugfs(t, disk, "cat "+path); !strings.HasSuffix(got, "\n"+want) {
			t.Errorf("%s holds %q, not %q", path, got, want)
		}
	}
	for path, want := range map[string][]string{
		"/":             {"Mode:  0711"},
		"/usr":          {"Type: directory    Mode:  0750"},
		"/usr/bin":      {"Mode:  01777"},
		"/bin":          {"Type: symlink", `Fast link dest: "usr/bin"`},
		"/far":          {"Type: symlink", "Size: 400"},
		"/hard":         {"Links: 3"},
		"/owned":        {"Mode:  06751", "User: 70000", "Group: -294967296", "mtime: 0x6553f100:1d535300"}, // debugfs prints ids as signed
		"/ancient":      {"mtime: 0xfffffffb:00000000"},
		"/null":         {"Type: character special", "01:300"},
		"/fifo":         {"Type: FIFO"},
		"/usr/bin/ping": {"security.capability (20)", `user.note (2) = "hi"`},
		"/acl":          {"system.posix_acl_access"},
		"/big":          {"Size: 1048576"},
	} {
		got := debugfs(t, disk, "stat "+path)
		for _, s := range want {
			if !strings.Contains(got, s) {
				t.Errorf("%s has no %q:\n%s", path, s, got)
			}
		}
	}
	for _, path := range []string{"sock", "pax_global_header"} {
		if got := debugfs(t, disk, "stat /"+path); !strings.Contains(got, "File not found") {
			t.Errorf("%s is there:\n%s", path, got)
		}
	}
	if got := debugfs(t, disk, "ea_list /usr/bin/ping"); strings.Contains(got, "bogus") {
		t.Error("an attribute of no namespace is there")
	}
}

// userACL is "u::rwx,u:1000:r--,g::r-x,m::r-x,o::---" as getxattr(2) gives it.
func userACL() string {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range [][3]uint32{{1, 7, 0xffffffff}, {2, 4, 1000}, {4, 5, 0xffffffff}, {0x10, 5, 0xffffffff}, {0x20, 0, 0xffffffff}} {
		b = binary.LittleEndian.AppendUint16(b, uint16(e[0]))
		b = binary.LittleEndian.AppendUint16(b, uint16(e[1]))
		b = binary.LittleEndian.AppendUint32(b, e[2])
	}
	return string(b)
}

func TestRefused(t *testing.T) {
	whole := archive(t, file("a", strings.Repeat("x", 2000)), file("b", "y"))
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"empty":              {nil, "cut short"},
		"garbage":            {bytes.Repeat([]byte("garbage!"), 1000), "not a valid tar archive"},
		"cut in the data":    {whole[:1024], `"a"`},
		"cut after an entry": {whole[:512+2048], "cut short"},
		"cut in a header":    {whole[:512+2048+100], "cut short"},
		"one zero block":     {whole[:512+2048+1024+512], "cut short"},
		"data behind":        {append(slices.Clone(whole), "more"...), "follows the end"},
		"up and out":         {archive(t, file("a/../../b", "")), `entry "a/../../b"`},
		"up by a hard link":  {archive(t, file("a", ""), hardLink("b", "../a")), `entry "b"`},
		"unknown type":       {archive(t, entry{tar.Header{Name: "odd", Typeflag: 'Q'}, ""}), `entry "odd"`},
		"link to nothing":    {archive(t, hardLink("a", "b")), `entry "a"`},
		"link to a folder":   {archive(t, dir("b", 0o755), hardLink("a", "b")), "directory"},
		"file as the root":   {archive(t, file(".", "x")), "root"},
		"loop":               {archive(t, link("a", "b"), link("b", "a"), file("a/x", "")), `entry "a/x"`},
		"long part":          {archive(t, file(strings.Repeat("n", 256), "")), `entry "nnn`},
		"too many xattrs":    {archive(t, entry{tar.Header{Name: "a", Typeflag: tar.TypeReg, PAXRecords: map[string]string{xattrPrefix + "user.x": strings.Repeat("x", 5000)}}, ""}), `entry "a"`},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "disk")
			_, err := FromTar(t.Context(), path, bytes.NewReader(c.data))
			if err == nil || errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a file is left: %v", err)
			}
		})
	}
}

// sizeOnly is a header that promises more data than there is.
func sizeOnly(t *testing.T, e entry, size int64) []byte {
	t.Helper()
	e.Size = size
	var b bytes.Buffer
	if err := tar.NewWriter(&b).WriteHeader(&e.Header); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestSourceErrorIsKept(t *testing.T) {
	broken := errors.New("the line is dead")
	r := io.MultiReader(bytes.NewReader(archive(t, file("a", "b"))[:512]), errReader{broken})
	if _, err := FromTar(t.Context(), filepath.Join(t.TempDir(), "disk"), r); !errors.Is(err, broken) || errs.KindOf(err) != errs.Internal {
		t.Errorf("got %v, of kind %s", err, errs.KindOf(err))
	}
}

type errReader struct{ err error }

func (e errReader) Read([]byte) (int, error) { return 0, e.err }

func TestExistingFileIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := FromTar(t.Context(), path, bytes.NewReader(archive(t))); !errors.Is(err, os.ErrExist) {
		t.Errorf("FromTar: %v", err)
	}
	if err := Empty(t.Context(), path, 64*vm.MiB, "x"); !errors.Is(err, os.ErrExist) {
		t.Errorf("Empty: %v", err)
	}
	if b, err := os.ReadFile(path); string(b) != "mine" {
		t.Errorf("the file holds %q, %v", b, err)
	}
}

func TestCancelInTheMiddle(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	read := 0
	r := readerFunc(func(b []byte) (int, error) {
		if read += len(b); read > 1<<20 {
			cancel()
		}
		clear(b)
		return len(b), nil
	})
	path := filepath.Join(t.TempDir(), "disk")
	_, err := FromTar(ctx, path, io.MultiReader(bytes.NewReader(sizeOnly(t, file("zeros", ""), 1<<30)), r))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file is left: %v", err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

func TestManyGroups(t *testing.T) {
	// More than one group, and a directory of many blocks.
	const zeros = 140 << 20
	var entries []entry
	for i := range 3_000 {
		entries = append(entries, file(fmt.Sprintf("d/%05d", i), ""))
	}
	disk := filepath.Join(t.TempDir(), "disk")
	clearing := readerFunc(func(b []byte) (int, error) { clear(b); return len(b), nil })
	data := io.MultiReader(bytes.NewReader(sizeOnly(t, file("zeros", ""), zeros)), io.LimitReader(clearing, zeros), bytes.NewReader(archive(t, entries...)))
	if _, err := FromTar(t.Context(), disk, data); err != nil {
		t.Fatal(err)
	}
	output(t, "e2fsck", "-fn", disk)
	if groups := output(t, "dumpe2fs", disk); strings.Count(groups, ": (Blocks ") < 2 {
		t.Errorf("only one group:\n%s", groups)
	}
}

func TestEmpty(t *testing.T) {
	for _, size := range []vm.Size{vm.MinDisk, vm.DefaultDisk} {
		disk := filepath.Join(t.TempDir(), "disk")
		if err := Empty(t.Context(), disk, size, "banger-system"); err != nil {
			t.Fatal(err)
		}
		output(t, "e2fsck", "-fn", disk)
		head := output(t, "dumpe2fs", "-h", disk)
		for _, want := range []string{"banger-system", "has_journal", "resize_inode", "Reserved block count:     0", "Block size:               4096"} {
			if !strings.Contains(head, want) {
				t.Errorf("%s: no %q in\n%s", size, want, head)
			}
		}
		// Nothing is left for the guest's ext4lazyinit to write.
		groups := output(t, "dumpe2fs", disk)
		if n, zeroed := strings.Count(groups, ": (Blocks "), strings.Count(groups, "ITABLE_ZEROED"); n == 0 || n != zeroed {
			t.Errorf("%s: %d of %d inode tables are zeroed", size, zeroed, n)
		}
		var st syscallStat
		if err := st.read(disk); err != nil {
			t.Fatal(err)
		}
		if st.size != int64(size) || st.used > 256<<10 || st.mode != 0o600 {
			t.Errorf("%s: %+v", size, st)
		}
	}
}

func TestEmptyFails(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "disk")
	if err := Empty(t.Context(), disk, 4*vm.KiB, "tiny"); err == nil || !strings.Contains(err.Error(), "4096 bytes") {
		t.Errorf("a tiny disk: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Empty(ctx, disk, vm.MinDisk, "x"); !errors.Is(err, context.Canceled) {
		t.Errorf("an ended context: %v", err)
	}
	if _, err := os.Lstat(disk); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file is left: %v", err)
	}
}

// TestLaterEntriesReplace: what one archive says twice is as the last says it.
func TestLaterEntriesReplace(t *testing.T) {
	big := file("big", "")
	data := archive(t,
		file("twice", "1"), file("twice", "2"),
		file("was-file", "x"), dir("was-file", 0o755), file("was-file/in", "y"),
		dir("was-dir", 0o755), file("was-dir/in", "x"), file("was-dir", "z"),
	)
	disk := filepath.Join(t.TempDir(), "disk")
	if _, err := FromTar(t.Context(), disk, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	output(t, "e2fsck", "-fn", disk)
	for path, want := range map[string]string{"/twice": "2", "/was-file/in": "y", "/was-dir": "z"} {
		if got := debugfs(t, disk, "cat "+path); !strings.HasSuffix(got, "\n"+want) {
			t.Errorf("%s holds %q, not %q", path, got, want)
		}
	}
	// A header that promises much is no reason to take space for it.
	if _, err := FromTar(t.Context(), disk+"2", bytes.NewReader(sizeOnly(t, big, 1<<40))); errs.KindOf(err) != errs.Invalid {
		t.Errorf("a promise of 1 TiB: %v", err)
	}
}

func TestSameContentsSameDisk(t *testing.T) {
	data := archive(t, dir("d", 0o755), file("d/a", "1"), link("l", "d/a"))
	var disks [2][]byte
	for i := range disks {
		path := filepath.Join(t.TempDir(), "disk")
		if _, err := FromTar(t.Context(), path, bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		disks[i] = b
	}
	if !bytes.Equal(disks[0], disks[1]) {
		t.Error("the disks differ")
	}
}

// TestDiskOfLayers: whiteouts work, and a tar alone is a layer, too.
func TestDiskOfLayers(t *testing.T) {
	lower, upper := archive(t, file("a", "1"), file("b", "2")), archive(t, file(".wh.a", ""), file("c", "3"))
	for want, layers := range map[string][]io.Reader{
		"b c lost+found": {bytes.NewReader(lower), bytes.NewReader(upper)},
		"c lost+found":   {bytes.NewReader(upper)},
	} {
		path := filepath.Join(t.TempDir(), "disk")
		if _, err := FromLayers(t.Context(), path, layers...); err != nil {
			t.Fatal(err)
		}
		var names []string
		for line := range strings.Lines(debugfs(t, path, "ls -p /")) {
			if name := strings.Split(line, "/"); len(name) > 5 && strings.Trim(name[5], ".") != "" {
				names = append(names, name[5])
			}
		}
		slices.Sort(names)
		if got := strings.Join(names, " "); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestFullDiskIsNotTheArchivesFault: /dev/full stands for a host without space.
func TestFullDiskIsNotTheArchivesFault(t *testing.T) {
	f, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		testneed.Missing(t, testneed.Host, "%v", err)
	}
	defer f.Close()
	_, err = f.WriteAt([]byte{1}, 0)
	if !errors.Is(judge(fmt.Errorf("entry: %w", err), nil), syscall.ENOSPC) || errs.KindOf(judge(err, nil)) != errs.Internal {
		t.Errorf("%v became %v", err, judge(err, nil))
	}
}
