package layers_test

import "archive/tar"

// linkImages have hard links, and paths that lead through symbolic ones.
func linkImages() map[string]image {
	return map[string]image{
		"hard":                    one(dir("d"), file("a", "1").chmod(0o640).chown(1, 2).attr("user.x", "y"), hard("b", "a"), hard("d/c", "./b"), hard("d/d", "/d/c"), file("other", "1")),
		"of all kinds":            one(symlink("s", "to"), hard("sh", "s"), fifo("p"), hard("ph", "p"), device(tar.TypeBlock, "b", 3, 4), hard("bh", "b"), file("empty", ""), hard("emptier", "empty")),
		"metadata of a hard link": one(file("a", "1").chmod(0o600), hard("b", "a").chmod(0o4777).chown(9, 9).at(1, 1).attr("user.no", "no")),
		"data of a hard link":     one(file("a", "12345"), verbatim("b", block{name: "b", link: "a", flag: '1', mode: 0o644, size: 5}.bytes()), file("c", "next")),
		"across layers": of(
			layer(dir("d"), file("a", "1"), file("d/x", "2").attr("user.x", "y"), symlink("s", "a")),
			layer(hard("b", "a"), hard("d/y", "d/x"), hard("s2", "s")),
			layer(hard("c", "b"), whiteout("a"), file("d/x", "new"), hard("d/z", "d/y")),
			layer(hard("a", "c"), hard("d/w", "d/x")),
		),
		"to what comes later":                      one(hard("early", "d/late"), dir("d"), file("d/late", "x")).alone("late links").have("early", `100644 0:0 content "x" names ["d/late" "early"]`),
		"to a link that is late":                   one(hard("a", "b"), hard("b", "c"), file("c", "x")).alone("late links").have("a", `100644 0:0 content "x" names ["a" "b" "c"]`),
		"to what is replaced later":                one(file("a", "1"), hard("b", "a"), file("a", "2"), hard("c", "a")),
		"to what a lower layer has, and then this": of(layer(file("a", "1")), layer(hard("b", "a"), file("a", "2"))),
		"to itself":                                one(file("a", "1"), hard("a", "a")).alone("links first").have("a", `100644 0:0 content "1"`),
		"to its other name":                        one(file("a", "1"), hard("b", "a"), hard("b", "a"), hard("a", "b")).have("a", `100644 0:0 content "1" names ["a" "b"]`),
		"over its own parent":                      one(dir("d"), file("d/f", "1"), hard("d", "d/f")).alone("links first").have("d", `100644 0:0 content "1"`),
		"to nothing":                               one(hard("a", "b")).refuse(`entry "a"`),
		"to what is hidden":                        of(layer(file("a", "1")), layer(whiteout("a"), hard("b", "a"))).refuse(`entry "b"`),
		"to what will be hidden":                   of(layer(file("a", "1")), layer(hard("b", "a"), whiteout("a"))),
		"to a directory":                           one(dir("d"), hard("a", "d")).refuse(`entry "a"`),
		"out of the tree":                          one(file("a", "1"), hard("b", "../../etc/passwd")).refuse(`entry "b"`),
		"to an absolute path":                      one(dir("etc"), file("etc/passwd", "ours"), hard("b", "/etc/passwd")),
		"through a link":                           one(dir("d"), file("d/f", "1"), symlink("s", "d"), symlink("abs", "/d"), hard("h1", "s/f"), hard("h2", "abs/f"), hard("s/h3", "h1")),
		"below links": of(
			layer(dir("usr"), dir("usr/lib"), dir("usr/bin"), symlink("lib", "usr/lib"), symlink("bin", "/usr/bin"), symlink("up", "../../../usr"), symlink("chain", "up/../lib"), dir("deep"), symlink("deep/er", "../usr/./lib")),
			layer(file("lib/a", "1"), file("bin/b", "2"), file("up/c", "3"), file("chain/d", "4"), dir("bin/e").chmod(0o700), file("bin/e/f", "5"), file("deep/er/g", "6")),
			layer(whiteout("lib/a"), file("chain/d", "new"), hard("up/h", "bin/b"), dir("lib/sub").chown(1, 1)),
		),
		"a link becomes a directory":    of(layer(dir("usr"), dir("usr/lib"), file("usr/lib/a", "1"), symlink("lib", "usr/lib")), layer(dir("lib").chmod(0o711), file("lib/b", "2"))),
		"a directory becomes a link":    of(layer(dir("lib"), file("lib/a", "1"), dir("usr"), dir("usr/lib")), layer(symlink("lib", "usr/lib"), file("lib/b", "2"))),
		"below a link to nothing":       one(symlink("made", "in/the"), file("made/up", "1")).but("a time for parents", ".: mtime=0.000000000", "in: mtime=0.000000000", "in/the: mtime=0.000000000"),
		"below a link out of the tree":  one(dir("etc"), dir("here"), symlink("out", "/../../../here"), file("out/f", "1"), symlink("d", "/etc"), file("d/passwd", "ours")).have("etc/passwd", `100644 0:0 content "ours"`, "here/f", `100644 0:0 content "1"`),
		"below links in a loop":         one(symlink("a", "b"), symlink("b", "a"), file("a/x", "1")).refuse(`entry "a/x"`),
		"below a link to itself":        one(symlink("a", "a/b"), file("a/x", "1")).refuse(`entry "a/x"`),
		"a directory in a link's place": of(layer(dir("real"), file("real/f", "1"), symlink("s", "real")), layer(dir("s").chmod(0o700))),
	}
}
