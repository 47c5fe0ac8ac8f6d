package ext4

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"banger/internal/base/testneed"
)

func TestLayers(t *testing.T) {
	x := func(n int) string { return strings.Repeat("x", n) }
	for name, c := range map[string]struct {
		layers [][]entry
		want   map[string]string
	}{
		"whiteout":           {[][]entry{{regular("a", "1"), regular("d/b", "2")}, {regular(".wh.a", ""), regular("d/.wh.b", "")}}, map[string]string{"a": "none", "d/b": "none", "d": dirDefault, ".wh.a": "none"}},
		"whiteout of a tree": {[][]entry{{regular("d/e/f", x(9000))}, {regular(".wh.d", "")}}, map[string]string{"d": "none"}},
		"whiteout of none":   {[][]entry{{regular("a", "1")}, {regular(".wh.b", "")}}, map[string]string{"a": `100644 0:0 "1"`}},
		"not of its layer":   {[][]entry{{regular("a", "1")}, {regular("a", "2"), regular(".wh.a", "")}}, map[string]string{"a": `100644 0:0 "2"`}},
		"before its layer":   {[][]entry{{folder("a", 0o700), regular("a/old", "1")}, {regular(".wh.a", ""), folder("a", 0o711), regular("a/new", "2")}}, map[string]string{"a": "40711 0:0", "a/old": "none", "a/new": `100644 0:0 "2"`}},
		"opaque":             {[][]entry{{regular("d/a", "1"), regular("d/e/b", "2"), regular("c", "3")}, {folder("d", 0o711), regular("d/.wh..wh..opq", ""), regular("d/new", "4")}}, map[string]string{"d": "40711 0:0", "d/a": "none", "d/e": "none", "d/new": `100644 0:0 "4"`, "c": `100644 0:0 "3"`}},
		"opaque comes last":  {[][]entry{{regular("d/a", "1"), regular("d/e/b", "2")}, {regular("d/e/new", "3"), regular("d/a2", "4"), regular("d/.wh..wh..opq", "")}}, map[string]string{"d/a": "none", "d/e/b": "none", "d/e/new": `100644 0:0 "3"`, "d/a2": `100644 0:0 "4"`}},
		"opaque of the root": {[][]entry{{regular("a", "1")}, {regular(".wh..wh..opq", ""), regular("b", "2")}}, map[string]string{"a": "none", "b": `100644 0:0 "2"`, "lost+found": "40700 0:0"}},
		"aufs":               {[][]entry{{regular("a", "1")}, {regular(".wh..wh.plnk", ""), folder(".wh..wh.orph", 0o700)}}, map[string]string{"a": `100644 0:0 "1"`, ".wh..wh.plnk": "none"}},
		"aufs links":         {[][]entry{{regular("a", "1")}, {regular(".wh..wh.plnk/1.2", "shared"), hardLink("b", ".wh..wh.plnk/1.2"), regular(".wh..wh.aufs", x(9000))}}, map[string]string{"b": `100644 0:0 "shared"`, ".wh..wh.plnk": "none", ".wh..wh.aufs": "none"}},
		"whiteout with data": {[][]entry{{regular("a", "1")}, {regular(".wh.a", x(9000)), regular("b", "2"), regular("d/.wh..wh..opq", x(5000)), regular("d/.wh..wh.x", x(5000))}}, map[string]string{"a": "none", "b": `100644 0:0 "2"`}},
		"implied, hidden":    {[][]entry{{folder("d", 0o700), folder("d/e", 0o711)}, {regular("d/e/new", "1"), regular(".wh.d", ""), folder("d/e", 0o701)}}, map[string]string{"d": dirDefault, "d/e": "40701 0:0", "d/e/new": `100644 0:0 "1"`}},
		"hidden, implied":    {[][]entry{{folder("d", 0o700), folder("d/e", 0o711)}, {regular(".wh.d", ""), regular("d/e/new", "1")}}, map[string]string{"d": dirDefault, "d/e": dirDefault, "d/e/new": `100644 0:0 "1"`}},
		"opaque twice":       {[][]entry{{regular("d/a", "1"), regular("d/e/b", "2")}, {regular("d/.wh..wh..opq", ""), regular("d/c", "3"), regular(".wh.d", ""), regular("d/.wh..wh..opq", "")}, {regular("d/f", "4"), regular("d/.wh..wh..opq", "")}}, map[string]string{"d/c": "none", "d/f": `100644 0:0 "4"`}},
		"link below":         {[][]entry{{regular("a", "1")}, {hardLink("b", "a")}}, map[string]string{"b": `100644 0:0 x2 "1"`}},
		"one link less":      {[][]entry{{regular("a", "1"), hardLink("b", "a")}, {regular(".wh.a", "")}}, map[string]string{"b": `100644 0:0 "1"`}},
		"type changes":       {[][]entry{{regular("a", "1"), folder("b", 0o755), regular("b/c", "2"), link("s", "b")}, {folder("a", 0o700), regular("b", "3"), regular("s", "4")}}, map[string]string{"a": "40700 0:0", "b": `100644 0:0 "3"`, "s": `100644 0:0 "4"`}},
		"through a link":     {[][]entry{{folder("usr/lib", 0o755), link("lib", "usr/lib")}, {regular("lib/x", "1"), regular("lib/.wh.y", "")}, {regular("lib/.wh.x", "")}}, map[string]string{"lib": "120777 0:0 -> usr/lib", "usr/lib/x": "none"}},
		"metadata only":      {[][]entry{{regular("d/a", "1")}, {xattrs(folder("d", 0o1777), "user.a", "b")}, {folder("d", 0o700)}}, map[string]string{"d": "40700 0:0", "d/a": `100644 0:0 "1"`}},
		"no layer":           {nil, map[string]string{".": dirDefault}},
		"large replaced":     {[][]entry{{regular("a", x(3<<20)), regular("b", x(100))}, {regular("a", x(1<<20))}, {regular("a", "small")}}, map[string]string{"a": `100644 0:0 "small"`}},
	} {
		t.Run(name, func(t *testing.T) {
			layers := [][]byte{archive(t)} // Layers, also for one
			for _, l := range c.layers {
				layers = append(layers, archive(t, l...))
			}
			both(t, layers, func(t *testing.T, path string, err error) {
				if err != nil {
					t.Fatal(err)
				}
				checkImage(t, path, c.want)
			})
		})
	}
}

// TestDeletedBytesAreGone looks for what later layers removed.
func TestDeletedBytesAreGone(t *testing.T) {
	secret := strings.Repeat("very secret key ", 1<<12)
	layers := [][]byte{
		archive(t, regular("keep", "1"), regular("d/key", secret), regular("k2", secret), regular("z", "2")),
		archive(t, regular(".wh.d", ""), regular("k2", "gone")),
	}
	both(t, layers, func(t *testing.T, path string, err error) {
		if err != nil {
			t.Fatal(err)
		}
		checkImage(t, path, map[string]string{"k2": `100644 0:0 "gone"`})
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte("very secret")) {
			t.Error("the image has bytes of a file that was removed")
		}
	})
}

// TestReproducible builds one image from layers that arrive at different speeds.
func TestReproducible(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	var layers [][]byte
	for l := range 5 {
		var members []entry
		for i := range 60 {
			b := make([]byte, random.IntN(1<<uint(5+random.IntN(13))))
			for j := range b {
				b[j] = byte(random.Uint32())
			}
			members = append(members, regular(fmt.Sprintf("d%d/f%d", random.IntN(6), random.IntN(80)), string(b)))
			if l > 0 && i%20 == 0 {
				members = append(members, regular(fmt.Sprintf("d%d/.wh..wh..opq", random.IntN(6)), ""), regular(fmt.Sprintf(".wh.d%d", random.IntN(6)), ""))
			}
		}
		layers = append(layers, archive(t, members...))
	}
	for _, size := range []int64{0, 200 << 20} {
		sums := map[[32]byte]int{}
		for round := range 6 {
			path, err := built(t, &Options{Size: size, Label: "same"}, func(b *Builder) error {
				var readers []io.Reader
				for i, l := range layers {
					var r io.Reader = bytes.NewReader(l)
					if (i+round)%3 == 1 {
						r = iotest.HalfReader(r)
					}
					readers = append(readers, r)
				}
				if round == 5 { // one after another, as one archive would be
					for _, r := range readers {
						if err := b.Layers(r); err != nil {
							return err
						}
					}
					return nil
				}
				return b.Layers(readers...)
			})
			if err != nil {
				t.Fatal(err)
			}
			if round == 0 {
				checkImage(t, path, nil)
			}
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			sums[sha256.Sum256(data)]++
		}
		if len(sums) != 1 {
			t.Errorf("size %d: six builds gave %d images", size, len(sums))
		}
	}
}

// TestManyLayers has more than would fit in a file if each had its own place far behind
// the image.
func TestManyLayers(t *testing.T) {
	t.Parallel()
	path, err := built(t, nil, func(b *Builder) error {
		var readers []io.Reader
		for i := range 600 {
			readers = append(readers, bytes.NewReader(archive(t, regular(fmt.Sprintf("d/%d", i), fmt.Sprint(i)), regular(fmt.Sprintf("d/.wh.%d", i-100), ""))))
		}
		return b.Layers(readers...)
	})
	if err != nil {
		t.Fatal(err)
	}
	checkImage(t, path, map[string]string{"d/499": "none", "d/500": `100644 0:0 "500"`, "d/599": `100644 0:0 "599"`})
}

// TestHidingManyTimes would take hours if every marker looked at all the entries.
func TestHidingManyTimes(t *testing.T) {
	t.Parallel()
	const n = 50_000
	var names, markers []entry
	for i := range n {
		names = append(names, regular(fmt.Sprintf("d/e/%d", i), ""))
		markers = append(markers, regular(fmt.Sprintf("d/e/new%d", i), ""), regular("d/e/.wh..wh..opq", ""), regular("d/.wh.e", ""), regular(".wh.d", ""))
	}
	path, err := built(t, nil, func(b *Builder) error {
		return b.Layers(bytes.NewReader(archive(t, names...)), bytes.NewReader(archive(t, markers...)))
	})
	if err != nil {
		t.Fatal(err)
	}
	testneed.Fsck(t, path)
	if got, err := openImage(t, path).ReadDir("d/e"); err != nil || len(got) != n {
		t.Errorf("%d entries, %v", len(got), err)
	}
}

func TestLayerFails(t *testing.T) {
	broken := errors.New("the line is dead")
	good := archive(t, regular("a", strings.Repeat("x", 1<<20)))
	for name, layers := range map[string][]io.Reader{
		"first":  {iotest.ErrReader(broken), bytes.NewReader(good), bytes.NewReader(good)},
		"last":   {bytes.NewReader(good), bytes.NewReader(good), iotest.ErrReader(broken)},
		"middle": {bytes.NewReader(good), io.MultiReader(bytes.NewReader(good[:5000]), iotest.ErrReader(broken)), bytes.NewReader(good)},
	} {
		_, err := built(t, nil, func(b *Builder) error { return b.Layers(layers...) })
		if !errors.Is(err, broken) || !strings.Contains(err.Error(), "layer ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestMaxMemory declares more than may be described, in all ways that take memory.
func TestMaxMemory(t *testing.T) {
	deep := strings.Repeat("d/", 2000)
	var many, links, attrs, deeper []entry
	for i := range 5000 {
		many = append(many, regular(fmt.Sprint(i), ""))
		links = append(links, hardLink(fmt.Sprint("l", i), "a"))
		if i < 400 {
			attrs = append(attrs, xattrs(regular(fmt.Sprint(i), ""), "user.a", strings.Repeat("x", 3000)))
		}
		if i < 5 {
			deeper = append(deeper, regular(fmt.Sprint(i, "/", deep, "f"), ""))
		}
	}
	for name, members := range map[string][]entry{"files": many, "links": append([]entry{regular("a", "")}, links...), "attributes": attrs, "parents": deeper} {
		t.Run(name, func(t *testing.T) {
			for _, fill := range map[string]func(b *Builder, r io.Reader) error{
				"tar":    (*Builder).Tar,
				"layers": func(b *Builder, r io.Reader) error { return b.Layers(bytes.NewReader(archive(t)), r) },
			} {
				tar := archive(t, members...)
				if _, err := built(t, &Options{MaxMemory: 1 << 20}, func(b *Builder) error { return fill(b, bytes.NewReader(tar)) }); !errors.Is(err, ErrTooMany) {
					t.Errorf("1 MiB: %v", err)
				}
				if _, err := built(t, &Options{MaxMemory: 1 << 30}, func(b *Builder) error { return fill(b, bytes.NewReader(tar)) }); err != nil {
					t.Errorf("1 GiB: %v", err)
				}
			}
		})
	}
}
