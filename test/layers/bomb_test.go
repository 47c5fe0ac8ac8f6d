package layers_test

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"banger/internal/oci"
	"banger/internal/oci/unpack"
)

// TestBombs has layers of some hundred KiB that are a terabyte when decompressed.
func TestBombs(t *testing.T) {
	limit := int64(48 << 20)
	if raceEnabled {
		limit = 12 << 20
	}
	head := file("bomb", "").sized(1 << 40).header(t)
	for _, format := range []unpack.Format{unpack.Plain, unpack.Gzip, unpack.Zstd, unpack.Xz} {
		for name, c := range map[string]struct {
			head []byte
			body []byte // which goes on and on
		}{
			"a large file":       {head, make([]byte, 256<<10)},
			"zeros at the end":   {make([]byte, 1024), make([]byte, 256<<10)},
			"the same file":      {nil, file("a", noise(256<<10, 1)).bytes(t)},
			"a global header":    {nil, bytes.Repeat(paxHeader('g', "comment", "x"), 1<<10)},
			"headers of nothing": {nil, bytes.Repeat(gnuLong('L', "name"), 1<<10)},
		} {
			t.Run(string(format)+"/"+name, func(t *testing.T) {
				blob := io.MultiReader(bytes.NewReader(packed(t, format, c.head)), repeat(packed(t, format, c.body), 1<<20))
				plain, err := unpack.Decompress(t.Context(), blob, limit)
				must(t, err)
				defer plain.Close()
				attack(t, plain, bounds{heap: small.heap, disk: limit + small.disk}, fmt.Sprint(limit))
			})
		}
	}
}

// TestWindows has compressed streams that ask for much memory before they give anything.
func TestWindows(t *testing.T) {
	for name, blob := range map[string][]byte{
		// RFC 8878 section 3.1.1.1.2: a window of 2^41 bytes, and of 3.75 TiB.
		"zstd, 2 TiB":    append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 31 << 3}, make([]byte, 100)...),
		"zstd, the most": append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xff}, make([]byte, 100)...),
		// A single segment that says it has 2^60 bytes.
		"zstd, one segment": append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0x10}, make([]byte, 100)...),
		// The .xz file format, section 5.3.1: LZMA2 with a dictionary of 4 GiB.
		"xz, 4 GiB": xzDictionary(40),
	} {
		t.Run(name, func(t *testing.T) {
			plain, err := unpack.Decompress(t.Context(), bytes.NewReader(blob), 0)
			must(t, err)
			defer plain.Close()
			attack(t, plain, small)
		})
	}
}

// TestCutShort cuts compressed layers where it can, and changes bytes of them: a disk
// that is made is the one that was meant.
func TestCutShort(t *testing.T) {
	layer := archive(t, dir("d"), file("d/a", noise(3000, 1)), file("d/b", noise(70_000, 2)), symlink("s", "d"), file("e", "").attr("user.x", "y"))
	want, err := inMemory(1<<20, bytes.NewReader(layer))
	must(t, err)
	im, err := want.checked(t)
	must(t, err)
	whole := inImage(t, im)
	for _, format := range []unpack.Format{unpack.Plain, unpack.Gzip, unpack.Zstd} { // xz is a program, and not ours
		t.Run(string(format), func(t *testing.T) {
			blob := packed(t, format, layer)
			try := func(what string, b []byte, verify bool) {
				plain, err := unpack.Decompress(t.Context(), bytes.NewReader(b), 1<<20)
				if err != nil {
					t.Fatal(err)
				}
				defer plain.Close()
				var r io.Reader = plain
				if verify {
					r = unpack.Terminate(unpack.Verify(plain, oci.Digest(layer)))
				}
				disk, err := inMemory(4<<20, r)
				if err != nil {
					return
				}
				im, err := disk.checked(t)
				must(t, err)
				if d := compare(inImage(t, im), whole); verify && len(d) > 0 {
					t.Errorf("%s: %v", what, d)
				} else if !verify {
					t.Errorf("%s: it is taken", what)
				}
			}
			step := max(1, len(blob)/60)
			for n := 0; n < len(blob); n += step {
				if format != unpack.Plain || n < len(layer)-1024 {
					try(fmt.Sprintf("cut at byte %d", n), blob[:n], false)
				}
				try(fmt.Sprintf("cut at byte %d, verified", n), blob[:n], true)
				b := bytes.Clone(blob)
				b[n] ^= 1 << (n % 8)
				try(fmt.Sprintf("byte %d changed", n), b, true)
			}
			try("more behind it", append(bytes.Clone(blob), "more"...), false)
			try("another layer", packed(t, format, archive(t, file("d", ""))), true)
		})
	}
}

// TestWrongDigest has a layer that is whole, but another.
func TestWrongDigest(t *testing.T) {
	layer := archive(t, file("a", noise(5000, 1)))
	good, other := oci.Digest(layer), oci.Digest([]byte("other"))
	for name, digests := range map[string][]string{"first": {other, good}, "last": {good, other}} {
		_, err := diskOf(t, []io.Reader{bytes.NewReader(layer), bytes.NewReader(packed(t, unpack.Gzip, layer))}, digests, 1<<20)
		if refused(t, err); err == nil || !bytes.Contains([]byte(err.Error()), []byte(good)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// xzDictionary is the start of a stream in whose block header LZMA2 has that property.
func xzDictionary(property byte) []byte {
	header := []byte{2, 0, 0x21, 1, property, 0, 0, 0}
	stream := []byte{0xfd, '7', 'z', 'X', 'Z', 0, 0, 0}
	stream = append(stream, crc(stream[6:8])...)
	return joined(stream, header, crc(header), make([]byte, 100))
}
