package layers_test

import "archive/tar"

// whiteoutImages remove what lower layers have.
func whiteoutImages() map[string]image {
	base := layer(
		file("a", "1"), dir("d").chmod(0o711).chown(1, 2), file("d/x", "2"), dir("d/e").chmod(0o700), file("d/e/y", "3"), dir("d/e/f"), file("d/e/f/z", "4"),
		symlink("s", "d"), symlink("broken", "/no/where"), file("h1", "5"), hard("h2", "h1"), fifo("p"), dir("void"),
	)
	return map[string]image{
		"of files":                   of(base, layer(whiteout("a"), whiteout("d/x"), whiteout("p"), whiteout("void"))),
		"of trees":                   of(base, layer(whiteout("d"))),
		"of links":                   of(base, layer(whiteout("s"), whiteout("broken"), whiteout("h1"))),
		"below links":                of(base, layer(whiteout("s/x"), whiteout("s/e/y"))),
		"of nothing":                 of(base, layer(whiteout("b"), whiteout("d/b"))),
		"in no directory":            of(base, layer(whiteout("no/such"), whiteout("d/e/no/such"), opaque("none"))),
		"in the lowest layer":        of(layer(whiteout("a"), file("b", "1"), opaque("d")), layer(file("a", "1"))),
		"before what is new":         of(base, layer(whiteout("a"), file("a", "new"), whiteout("d"), dir("d").chmod(0o750), file("d/new", "6"), whiteout("s"), dir("s"), whiteout("h2"), hard("h2", "a"))),
		"behind what is new":         of(base, layer(file("a", "new"), whiteout("a"), dir("d").chmod(0o750), file("d/new", "6"), whiteout("d"), dir("s"), whiteout("s"), hard("h2", "a"), whiteout("h2"))).but("a time for whiteouts", "d: mtime=1600000000.123456789"),
		"between what is new":        of(base, layer(file("d/e/new", "6"), dir("d"), whiteout("d"), file("d/e/f/newer", "7"), dir("d/e/f").chmod(0o701), dir("d/e").chmod(0o702))).but("a time for whiteouts", "d: mtime=1600000000.123456789"),
		"by an upper layer":          of(base, layer(file("a", "2"), file("d/x", "3")), layer(whiteout("a"), whiteout("d")), layer(dir("d"), file("d/last", "8"))),
		"twice":                      of(base, layer(whiteout("a"), whiteout("a"), whiteout("d/e"), whiteout("d"), whiteout("d"))),
		"opaque":                     of(base, layer(dir("d").chmod(0o755), opaque("d"), file("d/new", "6"))),
		"opaque, no entry":           of(base, layer(opaque("d"), file("d/new", "6"))),
		"opaque, last":               of(base, layer(dir("d").chmod(0o755), file("d/new", "6"), dir("d/e"), file("d/e/new", "7"), opaque("d"))).but("a time for whiteouts", "d/e: mtime=1600000000.123456789"),
		"opaque, between":            of(base, layer(file("d/e/new", "7"), opaque("d"), file("d/new", "6"), dir("d/e").chmod(0o701), dir("d"))),
		"opaque, below":              of(base, layer(dir("d"), dir("d/e"), opaque("d/e"), dir("d/e/f"), file("d/e/f/new", "6"))),
		"opaque, through a link":     of(base, layer(file("s/.wh..wh..opq", ""))),
		"opaque, of the root":        of(base, layer(file(".wh..wh..opq", ""), file("b", "6"))),
		"opaque, of nothing":         of(base, layer(opaque("void"), dir("void"))),
		"opaque, of what was a file": of(base, layer(whiteout("a"), dir("a"), opaque("a"), file("a/f", "6"))),
		"opaque, twice":              of(base, layer(dir("d"), opaque("d"), whiteout("d/x"), opaque("d"), file("d/x", "6"), whiteout("d/e"), opaque("d"))),
		"opaque, then more":          of(base, layer(dir("d"), opaque("d"), file("d/1", "")), layer(dir("d"), file("d/2", ""), opaque("d")), layer(file("d/3", ""))),
		"example of the specification": of(
			layer(dir("a/"), dir("a/b/"), dir("a/b/c/"), file("a/b/c/bar", "bar")),
			layer(dir("a/"), file("a/.wh..wh..opq", ""), dir("a/b/").chmod(0o700), dir("a/b/c/"), file("a/b/c/foo", "foo")),
		),
		"and a name without a parent":    of(base, layer(whiteout("d"), file("d/new", "6"))).but("a time for parents", ".: mtime=0.000000000", "d: mtime=0.000000000"),
		"behind a name without a parent": of(base, layer(file("d/new", "6"), whiteout("d"))).but("whiteouts first", "d: mode=40755", "d: owner=0:0", "d: mtime=0.000000000"),
		"of other types":                 of(base, layer(dir(".wh.a"), symlink("d/.wh.x", "y"), fifo(".wh.p"), device(tar.TypeChar, ".wh.s", 0, 0))),
		"with data":                      of(base, layer(file(".wh.a", noise(5000, 1)), file("b", "next"))),
		"of a hard link":                 of(base, layer(verbatim(".wh.a", block{name: ".wh.a", link: "h1", flag: '1', mode: 0o644}.bytes()))),
		"below a file":                   of(base, layer(whiteout("a/b"), whiteout("d/x/y"), opaque("a"))),
		"of no name":                     of(base, layer(file(".wh.", ""))).refuse("whiteout"),
		"of a dot":                       of(base, layer(file("d/.wh..", ""))).refuse("whiteout"),
		"of two dots":                    of(base, layer(file("d/.wh...", ""))).refuse("whiteout"),
		"of aufs": of(
			layer(file("a", "1")),
			layer(dir(".wh..wh.orph"), dir(".wh..wh.plnk"), file(".wh..wh.plnk/171.1", "shared"), hard("b", ".wh..wh.plnk/171.1"), hard("c", ".wh..wh.plnk/171.1"), file(".wh..wh.aufs", "")),
			layer(file("d", "4")),
		).but("aufs", ".: mtime=0.000000000", ".wh..wh.plnk: =nothing", ".wh..wh.plnk/171.1: =nothing", `b: names=["b" "c"]`, `c: names=["b" "c"]`),
		"below a hidden directory's name": of(base, layer(file(".wh.q/f", "1"))).but("a time for parents", ".: mtime=0.000000000", ".wh.q: mtime=0.000000000"),
	}
}
