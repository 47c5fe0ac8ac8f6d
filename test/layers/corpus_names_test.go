package layers_test

import (
	"archive/tar"
	"fmt"
	"strings"
	"testing"
)

// nasty are names that are hard on shells, terminals and parsers.
var nasty = []string{
	"quote\"'`$()", `back\slash`, "new\nline", "tab\t", " space ", "-dash", "ünïcode-é\U0001f600", "e\u0301", "\xff\xfe raw \x80", "a=b", "%41%3D", "#hash", "~",
	"...", "..a", ".hidden", "a..", "CON", "\x01\x7f", "*?[x]", "a.wh.b", "wh.", strings.Repeat("n", 255), strings.Repeat("é", 127),
}

// nameImages have all that a path can be, in all the ways that tar has for it.
func nameImages(t testing.TB) map[string]image {
	var odd []entry
	for i, n := range nasty {
		odd = append(odd, file("files/"+n, n), dir("dirs/"+n), symlink("links/"+n, n), file("dirs/"+n+"/f", fmt.Sprint(i)), hard("hard/"+n, "files/"+n))
	}
	odd = append([]entry{dir("files"), dir("dirs"), dir("links"), dir("hard")}, odd...)
	part := strings.Repeat("p", 200)
	long := strings.Join([]string{part, part, part, part}, "/")
	prefix := strings.Repeat("q", 99) + "/" + strings.Repeat("r", 99)
	gnu := func(name string, b block) entry {
		b.magic, b.mode, b.name = "ustar  \x00", 0o644, name[:min(len(name), 100)]
		return verbatim(name, joined(gnuLong('L', name), b.bytes()))
	}
	return map[string]image{
		"odd":         one(odd...),
		"long, pax":   one(dir("d"), dir(part), dir(part+"/"+part), dir(part+"/"+part+"/"+part), file(long, "1"), symlink("d/s", long), hard("d/h", long)),
		"long, ustar": one(dir(strings.Repeat("q", 99)), file(prefix, "1").as(tar.FormatUSTAR)),
		"long, gnu": one(
			dir(part), dir(part+"/"+part), dir(part+"/"+part+"/"+part), gnu(long, block{flag: '0'}), gnu(long+"-2", block{flag: '0'}),
			verbatim("d", joined(gnuLong('K', long), gnuLong('L', long+"-link"), block{name: "x", flag: '1', magic: "ustar  \x00", mode: 0o644}.bytes())),
			verbatim("s", joined(gnuLong('K', strings.Repeat("t", 300)), block{name: "s", flag: '2', magic: "ustar  \x00", mode: 0o777}.bytes())),
		),
		"written in all ways": one(
			dir("./"), dir("./a/").chmod(0o700), file("./a/1", "1"), file("/a/2", "2"), file("//a//3", "3"), file("a/./4", "4"), file("./a/.//5", "5"),
			dir("/b"), dir("c///"), hard("/b/h", "./a/1"), hard("c/h", "/a//2"), symlink("./c/s", "./a/../b//"),
		),
		"up and down":           one(dir("a"), file("a/../b", "1")).refuse(`entry "a/../b"`).alone("no dots"),
		"up and out":            one(file("../../b", "1")).refuse(`entry "../../b"`).alone("no dots"),
		"too long":              one(file(strings.Repeat("n", 256), "")).refuse("name too long"),
		"empty":                 one(verbatim("", block{flag: '0', mode: 0o644}.bytes())).refuse("root"),
		"no parents":            one(file("a/b/c", "1"), file("a/d", "2")).but("a time for parents", ".: mtime=0.000000000", "a: mtime=0.000000000", "a/b: mtime=0.000000000"),
		"parents later":         one(file("a/b/c", "1"), dir("a").chmod(0o711), dir("a/b").chmod(0o700).chown(3, 4).attr("user.x", "y")).but("a time for parents", ".: mtime=0.000000000"),
		"lost+found":            of(layer(dir("lost+found").chmod(0o711).chown(1, 2), file("lost+found/f", "1")), layer(file("lost+found/g", "2"))),
		"lost+found removed":    of(layer(dir("lost+found"), file("lost+found/f", "1")), layer(whiteout("lost+found"))),
		"lost+found is a file":  one(file("lost+found", "1")).but("lost+found", "lost+found: atime", "lost+found: content", "lost+found: mode=40700", "lost+found: mtime", "lost+found: size"),
		"lost+found is a link":  one(symlink("lost+found", "a"), dir("a")).but("lost+found", "lost+found: mode=40700", "lost+found: mtime", "lost+found: target"),
		"a slash behind a file": one(dir("d"), file("d/f", "").chmod(0o600), verbatim("d/g/", block{name: "d/g/", flag: '0', mode: 0o700}.bytes()), verbatim("d/v7/", block{name: "d/v7/", magic: "v7", mode: 0o701}.bytes())).but("slashes", "d/g: atime", "d/g: content", "d/g: mode=40700", "d/g: size"),
	}
}
