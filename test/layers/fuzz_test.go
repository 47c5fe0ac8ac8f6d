package layers_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"testing"

	"banger/ext4"
	"banger/internal/oci/unpack"
)

// FuzzLayers gives the whole way from compressed bytes to a disk two layers of
// anything. What comes of it is an error or a disk without damage, of which all can
// be read. xz is left out: it is another program's. With repair the layers are taken
// for tars, whose checksums are made right, since what changes bytes at random hardly
// ever finds one. "-fuzzminimizetime=10x" keeps it from looking for ever for smaller
// inputs.
func FuzzLayers(f *testing.F) {
	lower := archive(f, dir("d").chmod(0o700), file("d/a", noise(5000, 1)), symlink("s", "d"), hard("h", "d/a"), file("x", "").attr("user.a", "b"))
	upper := archive(f, whiteout("d/a"), file("s/b", "new"), opaque("e"), dir("x"), file("h", ""))
	for _, formats := range [][2]unpack.Format{{unpack.Plain, unpack.Plain}, {unpack.Gzip, unpack.Zstd}, {unpack.Zstd, unpack.Gzip}} {
		f.Add(packed(f, formats[0], lower), packed(f, formats[1], upper), formats[0] == unpack.Plain)
	}
	for _, s := range sparseFiles(f) {
		if s.size < 1<<20 {
			f.Add(archive(f, s.entry), archive(f, hard("h", s.Name)), true)
		}
	}
	f.Add(archive(f, dir(".").chmod(0o711), fifo("p"), device('3', "c", 1, 3), file("acl", "").attr("system.posix_acl_access", acl(0x01, 6, 0x02, 4, 5, 0x04, 4, 0x10, 4, 0x20, 0))), archive(f, verbatim("g", paxHeader('g', "uid", "77")), file(nasty[3], "1")), true)
	f.Fuzz(func(t *testing.T, lower, upper []byte, repair bool) {
		const limit = 1 << 20
		var layers []io.Reader
		for _, b := range [][]byte{lower, upper} {
			if repair {
				b = repaired(b)
			}
			if unpack.Detect(b) == unpack.Xz {
				return
			}
			plain, err := unpack.Decompress(t.Context(), bytes.NewReader(b), limit)
			if err != nil {
				return
			}
			defer plain.Close()
			layers = append(layers, plain)
		}
		disk, err := inMemory(64*limit, layers...)
		if err != nil {
			return
		}
		im, err := disk.checked(t)
		if err != nil {
			t.Fatal(err)
		}
		if err := readAll(im); err != nil {
			t.Fatal(err)
		}
	})
}

// repaired is a tar with the checksums that its headers should have, and an end.
func repaired(tar []byte) []byte {
	b := padded(bytes.Clone(tar))
	for at := 0; at < len(b); {
		h := b[at : at+512]
		if at += 512; len(bytes.Trim(h, "\x00")) == 0 {
			continue
		}
		copy(h[148:156], "        ")
		sum := 0
		for _, c := range h {
			sum += int(c)
		}
		copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
		var size int
		if _, err := fmt.Sscanf(string(h[124:135]), "%o", &size); err == nil && size > 0 && size < len(b) && (h[156] < '1' || h[156] > '6') {
			at += size + -size&511
		}
	}
	return append(b, make([]byte, 1024)...)
}

// readAll reads all of a disk but the bytes of holes far away.
func readAll(im *ext4.Image) error {
	return fs.WalkDir(im, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := im.Lstat(name)
		if err != nil {
			return err
		}
		if _, err := info.Sys().(*ext4.Stat).Xattrs(); err != nil {
			return err
		}
		switch info.Mode().Type() {
		case fs.ModeSymlink:
			_, err = im.ReadLink(name)
		case 0:
			r, openErr := im.Open(name)
			if openErr != nil {
				return openErr
			}
			_, err = io.Copy(io.Discard, io.LimitReader(r, 8<<20))
			if last := make([]byte, 1); err == nil && info.Size() > 0 {
				_, err = r.(io.ReaderAt).ReadAt(last, info.Size()-1)
			}
		}
		if errors.Is(err, io.EOF) { // behind the last byte
			return nil
		}
		return err
	})
}
