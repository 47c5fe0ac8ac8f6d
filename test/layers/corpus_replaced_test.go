package layers_test

import (
	"archive/tar"
	"fmt"
)

// things are one of each kind at a name, with what it needs beside it; the name is in a
// directory that is there.
var things = []struct {
	kind string
	make func(name string) []entry
}{
	{"file", func(n string) []entry { return layer(file(n, "data").chmod(0o640).attr("user.f", "1")) }},
	{"longer", func(n string) []entry { return layer(file(n, noise(9000, 1)).chown(8, 9)) }},
	{"dir", func(n string) []entry { return layer(dir(n).chmod(0o711).attr("user.d", "2")) }},
	{"full", func(n string) []entry { return layer(dir(n), file(n+"/f", "1"), dir(n+"/e"), symlink(n+"/e/s", "x")) }},
	{"symlink", func(n string) []entry { return layer(symlink(n, "/somewhere/else")) }},
	{"dirlink", func(n string) []entry { return layer(symlink(n, "target")) }},
	{"char", func(n string) []entry { return layer(device(tar.TypeChar, n, 5, 6)) }},
	{"fifo", func(n string) []entry { return layer(fifo(n)) }},
	{"hard", func(n string) []entry { return layer(hard(n, n[:len(n)-len("x")]+"linked")) }},
}

// replacedImages put each kind of file in the place of each.
func replacedImages() map[string]image {
	within, lower, upper, hidden := []entry{}, []entry{}, []entry{}, []entry{}
	for _, a := range things {
		for _, b := range things {
			d := a.kind + "-" + b.kind
			setting := layer(dir(d).chmod(0o750), dir(d+"/target"), file(d+"/target/t", "t"), file(d+"/linked", "l"))
			was, is := a.make(d+"/x"), b.make(d+"/x")
			within = append(append(append(within, setting...), was...), is...)
			lower, upper = append(append(lower, setting...), was...), append(upper, is...)
			hidden = append(append(hidden, whiteout(d+"/x")), is...)
		}
	}
	var chain [][]entry
	for i := range 3 * len(things) {
		chain = append(chain, things[i*5%len(things)].make("x"))
	}
	chain[0] = append(chain[0], file("linked", "l"))
	var groups []entry
	for i := range 6 {
		groups = append(groups, file(fmt.Sprint("g", i), "1"), hard(fmt.Sprint("h", i), fmt.Sprint("g", i)), hard(fmt.Sprint("i", i), fmt.Sprint("h", i)))
	}
	return map[string]image{
		"within a layer":    one(within...),
		"by an upper layer": of(lower, upper),
		"and a whiteout":    of(lower, hidden),
		"again and again":   of(chain...),
		"of link groups": of(groups,
			layer(file("g0", "2"), file("i1", "2").chmod(0o600), dir("h2"), whiteout("g3"), whiteout("h4"), whiteout("i4"), symlink("i5", "g5")),
			layer(hard("again", "h0"), file("h1", "3"), hard("g3", "h3")),
		),
		"metadata of directories": of(
			layer(dir("a").chmod(0o700).attr("user.a", "1"), file("a/f", "1"), dir("a/b").chown(1, 2), file("a/b/g", "2"), dir("plain")),
			layer(dir("a").chmod(0o1777).chown(3, 4).at(9, 9), dir("a/b").attr("user.b", "2")),
			layer(dir("plain").chmod(0o2711), dir("a").at(10, 10).chmod(0o711)),
		),
		"times of directories": of(
			layer(dir("d").at(5, 5), dir("d/e").at(6, 6), dir("gone").at(7, 7), file("gone/f", "")),
			layer(file("d/e/new", ""), whiteout("gone/f"), file("d/f", ""), symlink("d/s", "e")),
			layer(whiteout("d/f"), whiteout("d/e/new")),
		),
		"twice in a layer":    of(layer(file("f", noise(9000, 3)), file("f", "two"), dir("d").chmod(0o700), file("d/f", "1"), dir("d").chmod(0o1777).attr("user.x", "y"), file("d/f", "2")), layer(file("f", "3"), file("f", noise(5000, 4)))),
		"a file below a file": one(file("a", "1"), file("a/b", "2")).refuse(`entry "a/b"`),
		"a file as the root":  one(file(".", "x")).refuse("root"),
		"a link as the root":  one(symlink("./", "/tmp")).refuse("root"),
		"a whole new tree":    of(layer(dir("a"), dir("a/b"), dir("a/b/c"), file("a/b/c/f", "1"), file("a/g", "2")), layer(file("a", "file")), layer(dir("a"), dir("a/b"), file("a/b/new", "3"))),
	}
}
