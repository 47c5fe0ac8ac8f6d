package ext4

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"banger/internal/base/testneed"
)

// fuzzImages are small images of several kinds, compressed, in testdata/images.
var fuzzImages = []struct {
	name    string
	options []string
}{
	{"ext2", []string{"-t", "ext2", "-b", "1024", "-I", "128"}},
	{"ext3", []string{"-t", "ext3", "-b", "1024", "-O", "^has_journal"}},
	{"ext4", []string{"-t", "ext4", "-b", "1024", "-O", "^has_journal,^resize_inode"}},
	{"nosum", []string{"-t", "ext4", "-b", "1024", "-O", "^has_journal,^resize_inode,^metadata_csum,ea_inode"}},
	{"inline", []string{"-t", "ext4", "-b", "1024", "-O", "^has_journal,^resize_inode,inline_data,ea_inode,meta_bg"}},
}

func loadFuzzImage(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "images", name+".gz"))
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	image, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// chunk is the unit in which damage is placed: only where an image is not empty.
const chunk = 64

// damageImage changes an image as patches say, four bytes each: a
// chunk, a byte in it, and a value; where the byte is even and the value's low bit
// set, the value fills two bytes.
func damageImage(image []byte, patches []byte, checksums bool) []byte {
	image = bytes.Clone(image)
	var chunks []int
	for off := 0; off+chunk <= len(image); off += chunk {
		if len(bytes.Trim(image[off:off+chunk], "\x00")) > 0 {
			chunks = append(chunks, off)
		}
	}
	for ; len(patches) >= 4; patches = patches[4:] {
		off := chunks[int(le.Uint16(patches))%len(chunks)] + int(patches[2])%chunk
		image[off] = patches[3]
		if off%2 == 0 && patches[3]&1 != 0 {
			image[off+1] = patches[2]
		}
	}
	if checksums {
		repair(image)
	}
	return image
}

// FuzzImage damages whole images, sets their checksums right and reads everything.
func FuzzImage(f *testing.F) {
	var images [][]byte
	for k, kind := range fuzzImages {
		images = append(images, loadFuzzImage(f, kind.name))
		f.Add(uint8(k), []byte{})
		f.Add(uint8(k), []byte{0, 0, 4, 255, 9, 0, 40, 3})
	}
	f.Fuzz(func(t *testing.T, kind uint8, patches []byte) {
		checkUsage(t, damageImage(images[int(kind)%len(images)], patches, true))
	})
}

// Every byte of an image's metadata is made another, one by one in a sample.
func TestOneDamagedByte(t *testing.T) {
	for _, kind := range fuzzImages {
		image := loadFuzzImage(t, kind.name)
		if u := readAll(image); u.open != nil || u.err != nil || u.files < 60 {
			t.Fatalf("%s: %+v", kind.name, u)
		}
		step := 19997
		if testing.Short() || raceEnabled {
			step = 199999
		}
		for n := 0; n < 1<<22; n += step {
			patch := le.AppendUint32(nil, uint32(n)*2654435761)
			damaged := damageImage(image, patch, true)
			if u := checkUsage(t, damaged); t.Failed() {
				t.Fatalf("%s: patch %x: %+v", kind.name, patch, u)
			}
		}
	}
}

// TestMakeFuzzImages makes testdata/images anew, with BANGER_MAKE_IMAGES set.
func TestMakeFuzzImages(t *testing.T) {
	if os.Getenv("BANGER_MAKE_IMAGES") == "" {
		t.Skip("runs only with BANGER_MAKE_IMAGES")
	}
	source := filepath.Join(testneed.Memory(t), "source")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	at := func(name string) string { return filepath.Join(source, name) }
	must(os.MkdirAll(at("dir/sub/deep"), 0o755))
	must(os.WriteFile(at("dir/file"), []byte("hello\n"), 0o644))
	must(os.Link(at("dir/file"), at("hard")))
	must(os.Symlink("dir/file", at("soft")))
	must(os.Symlink(strings.Repeat("t/", 100), at("long-soft")))
	must(os.Symlink("../../..", at("dir/sub/up")))
	must(os.Mkdir(at("many"), 0o755))
	for i := range 60 {
		must(os.WriteFile(at(fmt.Sprintf("many/%s%d", strings.Repeat("n", 40), i)), nil, 0o644))
	}
	f, err := os.Create(at("holes"))
	must(err)
	for i := range int64(12) {
		_, err := f.WriteAt([]byte("data"), i*4096)
		must(err)
	}
	_, err = f.WriteAt([]byte("far"), 300<<10)
	must(err)
	must(f.Close())
	must(os.WriteFile(at("xattrs"), []byte("x"), 0o600))
	for i := range 4 {
		must(syscall.Setxattr(at("xattrs"), fmt.Sprintf("user.x%d", i), noise(60+40*i), 0))
	}
	must(syscall.Setxattr(at("xattrs"), "system.posix_acl_access", aclBytes(0x01, 7, 0x02, 5, 1000, 0x04, 5, 0x10, 7, 0x20, 0), 0))
	must(syscall.Mknod(at("null"), syscall.S_IFCHR|0o666, 1<<8|3))
	must(syscall.Mkfifo(at("fifo"), 0o600))
	must(os.MkdirAll("testdata/images", 0o755))
	for _, kind := range fuzzImages {
		if strings.Contains(strings.Join(kind.options, " "), "ea_inode") {
			must(syscall.Setxattr(at("xattrs"), "user.large", bytes.Repeat([]byte("large"), 600), 0))
		}
		path := newImage(t, "400K", append([]string{"-d", source, "-N", "100"}, kind.options...)...)
		testneed.Status(t, "e2fsck", "-fyD", path) // makes indexes
		testneed.Fsck(t, path)
		b, err := os.ReadFile(path)
		must(err)
		var z bytes.Buffer
		w, _ := gzip.NewWriterLevel(&z, gzip.BestCompression)
		w.Write(b)
		must(w.Close())
		must(os.WriteFile(filepath.Join("testdata/images", kind.name+".gz"), z.Bytes(), 0o644))
	}
}
