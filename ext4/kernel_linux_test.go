package ext4

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"banger/ext4/internal/disk"
	"banger/internal/base/testneed"
)

// readerImages are the kinds of images that Linux and mke2fs have made.
var readerImages = []struct {
	name, size string
	options    []string
}{
	{"ext2-1k", "64M", []string{"-t", "ext2", "-b", "1024"}},
	{"ext2-2k-noindex", "64M", []string{"-t", "ext2", "-b", "2048", "-O", "^dir_index"}},
	{"ext2-4k-128", "64M", []string{"-t", "ext2", "-b", "4096", "-I", "128"}},
	{"ext2-nofiletype", "64M", []string{"-t", "ext2", "-b", "1024", "-O", "^filetype"}},
	{"ext2-rev0", "64M", []string{"-t", "ext2", "-r", "0", "-b", "1024", "-O", "none"}},
	{"ext3-1k", "64M", []string{"-t", "ext3", "-b", "1024"}},
	{"ext3-4k", "64M", []string{"-t", "ext3", "-b", "4096", "-I", "128"}},
	{"ext4-1k", "64M", []string{"-t", "ext4", "-b", "1024"}},
	{"ext4-2k", "64M", []string{"-t", "ext4", "-b", "2048"}},
	{"ext4-4k", "64M", []string{"-t", "ext4", "-b", "4096"}},
	{"ext4-2010", "64M", []string{"-t", "ext4", "-O", "^64bit,^metadata_csum,uninit_bg"}},
	{"ext4-128", "64M", []string{"-t", "ext4", "-I", "128"}},
	{"ext4-noextents", "64M", []string{"-t", "ext4", "-O", "^extent,^64bit"}},
	{"ext4-noflex", "64M", []string{"-t", "ext4", "-b", "1024", "-O", "^flex_bg,^resize_inode"}},
	{"inline", "64M", []string{"-t", "ext4", "-O", "inline_data"}},
	{"inline-1k-512", "64M", []string{"-t", "ext4", "-b", "1024", "-I", "512", "-O", "inline_data"}},
	{"ea_inode", "64M", []string{"-t", "ext4", "-O", "ea_inode"}},
	{"ea_inode-inline", "64M", []string{"-t", "ext4", "-O", "ea_inode,inline_data,^metadata_csum"}},
	{"bigalloc", "512M", []string{"-t", "ext4", "-O", "bigalloc", "-C", "16384"}},
	{"meta_bg", "96M", []string{"-t", "ext4", "-b", "1024", "-O", "meta_bg,^resize_inode"}},
	{"meta_bg-32", "96M", []string{"-t", "ext4", "-b", "1024", "-g", "1024", "-O", "meta_bg,^resize_inode,^64bit,^flex_bg"}},
	{"sparse_super2", "96M", []string{"-t", "ext4", "-b", "1024", "-O", "sparse_super2"}},
	{"large_dir-seed", "64M", []string{"-t", "ext4", "-O", "large_dir,metadata_csum_seed"}},
	{"mmp", "64M", []string{"-t", "ext4", "-O", "mmp"}},
	{"orphan_file-verity-encrypt", "64M", []string{"-t", "ext4", "-O", "orphan_file,verity,encrypt,stable_inodes"}},
	{"tea", "64M", []string{"-t", "ext4", "-b", "1024", "-E", "hash_alg=tea"}},
	{"legacy-hash", "64M", []string{"-t", "ext3", "-b", "1024", "-E", "hash_alg=legacy"}},
}

// What the kernel wrote is read as the kernel reads it: entry by entry.
func TestReadWhatTheKernelWrote(t *testing.T) {
	for _, kind := range sampled(t, readerImages) {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			testneed.Loop(t)
			var early []string
			options := slices.Clone(kind.options)
			if i := slices.Index(options, "-E"); i >= 0 {
				early = append(early, options[i+1])
				options = slices.Delete(options, i, i+2)
			}
			path := newImage(t, kind.size, options...)
			if early != nil {
				testneed.Run(t, "tune2fs", "-E", early[0], path)
			}
			var want manifest
			testneed.Mounted(t, path, "noatime", func(root string) {
				populate(t, root, kind.name)
				testneed.Run(t, "sync", "-f", root) // or blocks that are not yet allocated are not counted right
				want = kernelManifest(t, root)
			})
			testneed.Fsck(t, path)
			im := openImage(t, path)
			want.compare(t, imageManifest(t, im, kind.name == "ext2-rev0" || strings.HasSuffix(kind.name, "128") || kind.name == "ext3-4k"))
			s := im.Stats()
			if !s.Clean || s.NeedsRecovery || s.Errors || s.Blocks == 0 || s.FreeBlocks == 0 {
				t.Errorf("%+v", s)
			}
			// Not all of it, and one kind for each form of maps: TestFS reads bytes one by one.
			if !slices.Contains([]string{"ext2-1k", "ext4-4k", "inline"}, kind.name) {
				return
			}
			for dir, name := range map[string]string{"plain": "hello", "xattrs": "one", "special": "socket"} {
				if sub, err := fs.Sub(im, dir); err != nil {
					t.Fatal(err)
				} else if err := fstest.TestFS(sub, name); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// populate makes one of everything. What a kind of file system cannot hold is left
// out; the kernel decides.
func populate(t testing.TB, root, kind string) {
	t.Helper()
	at := func(name string) string { return filepath.Join(root, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	may := func(err error) {
		if err != nil {
			t.Logf("not here: %.40v", err)
		}
	}
	must(os.Mkdir(at("plain"), 0o755))
	for _, n := range []int{0, 1, 59, 60, 61, 100, 150, 160, 300, 1023, 1024, 4095, 4096, 4097, 65537} {
		must(os.WriteFile(at(fmt.Sprintf("plain/%d", n)), noise(n), 0o644))
	}
	must(os.WriteFile(at("plain/hello"), []byte("hello\n"), 0o640))

	must(os.Mkdir(at("names"), 0o700))
	for _, name := range nastyNames {
		must(os.WriteFile(at("names")+"/"+name, []byte(name), 0o600))
	}

	must(os.Mkdir(at("many"), 0o755))
	for i := range 1500 {
		must(os.Symlink("x", at(fmt.Sprintf("many/%04d-a-longer-name-for-more-blocks", i))))
	}
	for i := 0; i < 1500; i += 7 {
		must(os.Remove(at(fmt.Sprintf("many/%04d-a-longer-name-for-more-blocks", i))))
	}

	must(os.Mkdir(at("dirs"), 0o2775))
	for n := range 40 { // some inline, some not
		d := at(fmt.Sprintf("dirs/%d", n))
		must(os.MkdirAll(filepath.Join(d, "sub"), 0o1777))
		for i := range n {
			must(os.WriteFile(filepath.Join(d, fmt.Sprint("f", i)), nil, 0o644))
		}
	}
	holes(t, at, must, may)

	must(os.Mkdir(at("links"), 0o755))
	for _, n := range []int{1, 30, 58, 59, 60, 61, 100, 158, 200, 1000, 2000, 4000} {
		may(os.Symlink(strings.Repeat("t", n), at(fmt.Sprintf("links/%d", n))))
	}
	must(os.Symlink("../plain/hello", at("links/to-hello")))
	must(os.Link(at("plain/hello"), at("links/hard")))
	must(os.Link(at("plain/hello"), at("hello-too")))
	must(os.Link(at("links/to-hello"), at("links/hard-soft")))

	must(os.Mkdir(at("special"), 0o755))
	for name, dev := range map[string]int{"null": 1<<8 | 3, "large": 300<<8 | 70000&0xff | 70000&^0xff<<12, "edge": 255<<8 | 255} {
		must(syscall.Mknod(at("special/c-"+name), syscall.S_IFCHR|0o666, dev))
		must(syscall.Mknod(at("special/b-"+name), syscall.S_IFBLK|0o660, dev))
	}
	must(syscall.Mkfifo(at("special/fifo"), 0o600))
	must(syscall.Mknod(at("special/socket"), syscall.S_IFSOCK|0o755, 0))
	must(os.WriteFile(at("special/suid"), nil, 0o755))
	must(syscall.Chmod(at("special/suid"), 0o6755))
	must(os.WriteFile(at("special/none"), nil, 0))
	must(os.WriteFile(at("special/owned"), nil, 0o644))
	may(os.Lchown(at("special/owned"), 100000, 4294967294))
	must(os.WriteFile(at("special/shared"), nil, 0o644))
	must(os.Lchown(at("special/shared"), 1000, 65535))

	must(os.Mkdir(at("times"), 0o755))
	for _, s := range []int64{-1 << 31, -1, 0, 1, 1<<31 - 1, 1 << 31, 1<<32 + 5, 1<<33 + 5, 1<<34 - 1<<31 - 1} {
		if kind == "ext2-rev0" && s >= 1<<31 {
			continue // the kernel forgets to cut them before they are on the disk
		}
		name := at(fmt.Sprintf("times/%d", s))
		must(os.WriteFile(name, nil, 0o644))
		must(os.Chtimes(name, time.Unix(s, 999_999_999), time.Unix(s, 123_456_789)))
	}
	attributes(t, root, must, may)
}

var nastyNames = []string{
	"quote\"'`$()", "back\\slash", "new\nline", "tab\t", " space ", "-dash", "ünïcode-\u00e9\U0001f600", "\xff\xfe raw \x80", "a=b", "%41%3D", "#hash", "~",
	strings.Repeat("n", 255), strings.Repeat("\u00e9", 127), "...", "..a", ".hidden",
}

func noise(n int) []byte {
	b := make([]byte, n)
	x := uint32(n)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}

// holes makes sparse and preallocated files.
func holes(t testing.TB, at func(string) string, must, may func(error)) {
	t.Helper()
	must(os.Mkdir(at("holes"), 0o755))
	write := func(name string, size int64, offs ...int64) {
		t.Helper()
		f, err := os.Create(at("holes/" + name))
		must(err)
		for _, off := range offs {
			_, err := f.WriteAt(noise(5000), off)
			must(err)
		}
		may(f.Truncate(size))
		must(f.Close())
	}
	write("all", 1<<20)
	write("start", 105000, 100000)
	write("end", 1<<20, 0)
	write("middle", 3<<20, 0, 1<<20, 3<<20-5000)
	write("far", 72<<20, 13<<10, 300<<10, 70<<20) // up to three levels of indirect blocks
	write("farther", 5<<30, 4<<30+5<<20)
	var offs []int64
	for i := range int64(400) {
		offs = append(offs, i*20000)
	}
	write("tree", 9<<20, offs...)
	f, err := os.Create(at("holes/allocated"))
	must(err)
	_, err = f.WriteAt(noise(9000), 30000)
	must(err)
	may(syscall.Fallocate(int(f.Fd()), 0, 0, 200000))
	may(syscall.Fallocate(int(f.Fd()), 1 /* FALLOC_FL_KEEP_SIZE */, 200000, 100000))
	must(f.Close())
}

// attributes sets extended attributes and ACLs.
func attributes(t testing.TB, root string, must, may func(error)) {
	t.Helper()
	dir := filepath.Join(root, "xattrs")
	must(os.Mkdir(dir, 0o755))
	set := func(name string, attr string, value []byte) {
		t.Helper()
		path := filepath.Join(dir, name)
		if _, err := os.Lstat(path); err != nil {
			must(os.WriteFile(path, []byte("x"), 0o644))
		}
		may(syscall.Setxattr(path, attr, value, 0))
	}
	set("one", "user.small", []byte("value"))
	set("one", "user.empty", nil)
	set("one", "trusted.t", []byte{0, 1, 2, 255})
	set("one", "user.a=b%c", []byte("=\n"))
	set("capability", "security.capability", []byte{1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	for _, name := range []string{"large", "large-twin"} { // in one shared block
		set(name, "user.large", noise(800))
		set(name, "user.larger", noise(3000))
	}
	for i := range 60 {
		set("many", fmt.Sprintf("user.%d", i), noise(i%7))
	}
	set("huge", "user.huge", noise(20000))
	set("huge", "user.huge-2", noise(40000))
	set("huge", "user.little", noise(10))
	acl := aclBytes(0x01, 7, 0x02, 5, 1000, 0x02, 4, 70000, 0x04, 5, 0x08, 2, 3000, 0x10, 7, 0x20, 0)
	set("acl", "system.posix_acl_access", acl)
	must(os.Mkdir(filepath.Join(dir, "acl-dir"), 0o755))
	set("acl-dir", "system.posix_acl_access", acl)
	set("acl-dir", "system.posix_acl_default", acl)
	must(os.WriteFile(filepath.Join(dir, "acl-dir", "heir"), nil, 0o644))
	must(os.Symlink("one", filepath.Join(dir, "link")))
	onLink(t, filepath.Join(dir, "link"), func(path string) { may(syscall.Setxattr(path, "trusted.on-link", []byte("l"), 0)) })
}

// aclBytes is an ACL in the form of the system calls: of each entry the tag, the
// permissions, and for tags of names the id.
func aclBytes(v ...uint32) []byte {
	b := le.AppendUint32(nil, 2)
	for len(v) > 0 {
		tag, perm, id := v[0], v[1], ^uint32(0)
		v = v[2:]
		if tag == 0x02 || tag == 0x08 {
			id, v = v[0], v[1:]
		}
		b = le.AppendUint32(le.AppendUint16(le.AppendUint16(b, uint16(tag)), uint16(perm)), id)
	}
	return b
}

// onLink gives a path that system calls follow to the link itself.
func onLink(t testing.TB, path string, f func(string)) {
	t.Helper()
	const oPath = 0x200000
	fd, err := syscall.Open(path, oPath|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	f(fmt.Sprintf("/proc/self/fd/%d", fd))
}

// kernelManifest describes a mounted tree as system calls show it.
func kernelManifest(t testing.TB, root string) manifest {
	t.Helper()
	m := manifest{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(root, path)
		if name == "lost+found" {
			return fs.SkipDir
		}
		var st syscall.Stat_t
		if err := syscall.Lstat(path, &st); err != nil {
			return err
		}
		m.add(name, "mode %o links %d uid %d gid %d ino %d blocks %d", st.Mode, st.Nlink, st.Uid, st.Gid, st.Ino, st.Blocks)
		m.add(name, "size %d", st.Size)
		m.add(name, "times %d.%d %d.%d %d.%d", st.Atim.Sec, st.Atim.Nsec, st.Mtim.Sec, st.Mtim.Nsec, st.Ctim.Sec, st.Ctim.Nsec)
		switch st.Mode & syscall.S_IFMT {
		case syscall.S_IFCHR, syscall.S_IFBLK:
			m.add(name, "device %d:%d", st.Rdev>>8&0xfff, st.Rdev&0xff|st.Rdev>>12&0xfff00)
		case syscall.S_IFLNK:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			m.add(name, "target %q", target)
		case syscall.S_IFREG:
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			m.add(name, "content %x", contentHash(t, f, st.Size))
		}
		onLink(t, path, func(path string) {
			list := make([]byte, 64<<10)
			n, err := syscall.Listxattr(path, list)
			if err != nil {
				t.Fatal(name, err)
			}
			var lines []string
			for attr := range strings.SplitSeq(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00") {
				if attr == "" {
					continue
				}
				value := make([]byte, 64<<10)
				n, err := syscall.Getxattr(path, attr, value)
				if err != nil {
					t.Fatal(name, attr, err)
				}
				lines = append(lines, fmt.Sprintf("%s=%x", attr, sha256.Sum256(value[:n])))
			}
			slices.Sort(lines)
			m.add(name, "xattrs %s", strings.Join(lines, " "))
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// imageManifest describes the same tree as this package shows it.
func imageManifest(t testing.TB, im *Image, oldTimes bool) manifest {
	t.Helper()
	m := manifest{}
	err := fs.WalkDir(im, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name == "lost+found" {
			return fs.SkipDir
		}
		info, err := im.Lstat(name)
		if err != nil {
			return err
		}
		if again, err := d.Info(); err != nil || again.Mode() != info.Mode() || d.Type() != info.Mode().Type() || again.Size() != info.Size() {
			t.Errorf("%q: %v and %v, %v", name, again, info, err)
		}
		st := info.Sys().(*Stat)
		m.add(name, "mode %o links %d uid %d gid %d ino %d blocks %d", st.Mode, st.Links, st.UID, st.GID, st.Ino, st.Blocks)
		m.add(name, "size %d", info.Size())
		m.add(name, "times %d.%d %d.%d %d.%d", st.Atime.Unix(), st.Atime.Nanosecond(), st.Mtime.Unix(), st.Mtime.Nanosecond(), st.Ctime.Unix(), st.Ctime.Nanosecond())
		if st.Crtime.IsZero() != oldTimes {
			t.Errorf("%q: made %v", name, st.Crtime)
		}
		switch st.Mode & disk.ModeFmt {
		case disk.ModeChar, disk.ModeBlock:
			m.add(name, "device %d:%d", st.Major, st.Minor)
		case disk.ModeSymlink:
			target, err := im.ReadLink(name)
			if err != nil {
				return err
			}
			if target != st.Target {
				t.Errorf("%q: two targets", name)
			}
			m.add(name, "target %q", target)
		case disk.ModeRegular:
			f, err := im.Open(name)
			if err != nil {
				return err
			}
			m.add(name, "content %x", contentHash(t, f.(io.ReaderAt), info.Size()))
		}
		attrs, err := st.Xattrs()
		if err != nil {
			return err
		}
		var lines []string
		for attr, value := range attrs {
			lines = append(lines, fmt.Sprintf("%s=%x", attr, sha256.Sum256(value)))
		}
		slices.Sort(lines)
		m.add(name, "xattrs %s", strings.Join(lines, " "))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// contentHash hashes a file, of large ones a sample.
func contentHash(t testing.TB, r io.ReaderAt, size int64) []byte {
	t.Helper()
	piece, stride := int64(1<<20), int64(1<<20)
	if size > 16<<20 {
		piece = 8 << 10
		if stride = 64 << 10; size > 128<<20 {
			stride = 1 << 20
		}
	}
	h := sha256.New()
	b := make([]byte, min(piece, size))
	for off := int64(0); off < size; off += stride {
		n, err := r.ReadAt(b, off)
		if err != nil && err != io.EOF {
			t.Fatal(err)
		}
		h.Write(b[:n])
	}
	return h.Sum(nil)
}
