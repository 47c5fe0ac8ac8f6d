package layers_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"banger/internal/diskimage"
)

func crc(b []byte) []byte { return binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(b)) }

// TestEvilLayers has one layer each that is refused at once: the error names the
// entry where there is one, and nothing has been taken for it.
func TestEvilLayers(t *testing.T) {
	header := func(h block) []byte { return h.bytes() }
	members := func(all ...entry) []byte { return archive(t, all...) }
	pax := func(keysValues ...string) []byte {
		return joined(paxHeader('x', keysValues...), header(block{name: "evil", flag: '0', mode: 0o644}), make([]byte, 1024))
	}
	sparse := func(way string, size int64, pieces ...piece) []byte {
		return members(verbatim("evil", paxSparse(way, "evil", size, pieces, make([]byte, 512))))
	}
	laughs := []entry{symlink("l40", "nothing")}
	for i := range 40 {
		laughs = append(laughs, symlink(fmt.Sprint("l", i), fmt.Sprintf("l%d/l%d/l%d", i+1, i+1, i+1)))
	}
	var hops []entry
	for i := range 60 {
		hops = append(hops, symlink(fmt.Sprint("h", i), fmt.Sprint("h", i+1)))
	}
	var attrs []string
	for i := range 5000 {
		attrs = append(attrs, fmt.Sprintf("SCHILY.xattr.user.%d", i), "x")
	}
	for name, c := range map[string]struct {
		layer []byte
		says  string
	}{
		"up":                       {members(file("..", "")), `entry ".."`},
		"up, to the end":           {members(dir("a"), file("a/..", "")), `entry "a/.."`},
		"up, absolute":             {members(file("/../etc/passwd", "")), `entry "/../etc/passwd"`},
		"up, hidden in dots":       {members(file("./a/./../../b", "")), `entry "./a/./../../b"`},
		"up, behind slashes":       {members(file("a//..//..//b", "")), `entry "a//..//..//b"`},
		"up, a directory":          {members(dir("../")), `entry "../"`},
		"up, a marker":             {members(file("../.wh.etc", "")), `entry "../.wh.etc"`},
		"up, by a record":          {pax("path", "a/../../b"), `entry "a/../../b"`},
		"up, by a GNU name":        {joined(gnuLong('L', strings.Repeat("a/", 90)+"../x"), header(block{name: "ok", flag: '0', magic: "ustar  \x00"}), make([]byte, 1024)), `".."`},
		"up, by a prefix":          {joined(header(block{name: "b", flag: '0', put: map[int]string{345: "a/../.."}}), make([]byte, 1024)), `entry "a/../../b"`},
		"up, by a hard link":       {members(file("a", ""), hard("b", "../a")), `entry "b"`},
		"up, by a link's record":   {members(file("a", ""), verbatim("b", joined(paxHeader('x', "linkpath", "x/../../a"), header(block{name: "b", flag: '1'})))), `entry "b"`},
		"a loop":                   {members(symlink("a", "b"), symlink("b", "a"), file("a/x", "")), `entry "a/x"`},
		"a loop by itself":         {members(symlink("a", "."), symlink("b", "b/b"), file("b/x", "")), `entry "b/x"`},
		"a loop for a hard link":   {members(symlink("a", "b"), symlink("b", "/a"), hard("h", "a/x")), `entry "h"`},
		"a loop for a marker":      {members(symlink("a", "a"), file("a/.wh.x", "")), `entry "a/.wh.x"`},
		"links in links in links":  {members(append(laughs, file("l0/x", ""))...), `entry "l0/x"`},
		"a long way":               {members(append(hops, file("h0/x", ""))...), `entry "h0/x"`},
		"late links in a ring":     {members(hard("a", "b"), hard("b", "c"), hard("c", "a")), `entry "`},
		"a hard link to nothing":   {members(hard("a", "/etc/passwd")), `entry "a"`},
		"a hard link to the root":  {members(hard("a", "/")), `entry "a"`},
		"a hard link of the root":  {members(file("a", ""), hard(".", "a")), `entry "."`},
		"below a file":             {members(file("a", ""), file("a/b", "")), `entry "a/b"`},
		"below a device":           {members(device('3', "a", 1, 3), dir("a/b")), `entry "a/b"`},
		"below a link to a file":   {members(file("f", ""), symlink("a", "f"), file("a/b", "")), `entry "a/b"`},
		"a long name":              {members(file(strings.Repeat("n", 256), "")), `entry "nnn`},
		"a long path":              {members(file(strings.Repeat("n/", 5000)+"x", "")), `entry "n/n/`},
		"a path of a MiB":          {members(file(strings.Repeat("n/", 500_000)+"x", "")), "entry \"n/n/"},
		"a long target":            {members(symlink("a", strings.Repeat("t", 5000))), `entry "a"`},
		"no target":                {members(verbatim("a", header(block{name: "a", flag: '2'}))), `entry "a"`},
		"no name":                  {members(verbatim("", header(block{flag: '0'}))), `entry ""`},
		"a name of slashes":        {members(symlink("///", "x")), `entry "///"`},
		"a NUL in a name":          {pax("path", "a\x00b"), "a NUL in a name"},
		"a NUL in a target":        {pax("linkpath", "a\x00b"), "a NUL in a name"},
		"a NUL in an attribute":    {pax("SCHILY.xattr.user.a\x00b", "x"), "no valid keyword"},
		"an attribute of 64 KiB":   {members(file("a", "").attr("user.large", noise(64<<10, 1))), `entry "a"`},
		"attributes by thousands":  {pax(attrs...), "extended attributes"},
		"a name of an attribute":   {members(file("a", "").attr("user."+strings.Repeat("n", 300), "x")), `entry "a"`},
		"an acl of junk":           {members(file("a", "").attr("system.posix_acl_access", "junk")), `entry "a"`},
		"an acl of 64 KiB":         {members(file("a", "").attr("system.posix_acl_access", acl(0x01, 7)+strings.Repeat(acl(0x02, 7, 5)[4:], 8000))), `entry "a"`},
		"a file of an EiB":         {members(verbatim("evil", joined(paxHeader('x', "size", "1152921504606846976"), header(block{name: "evil", flag: '0'})))), `entry "evil"`},
		"a file of 8 EiB":          {members(verbatim("evil", joined(paxHeader('x', "size", "9223372036854775807"), header(block{name: "evil", flag: '0'})))), `entry "evil"`},
		"a file of more":           {members(verbatim("evil", joined(paxHeader('x', "size", "9223372036854775808"), header(block{name: "evil", flag: '0'})))), `byte 512: pax record "size"`},
		"a file of less":           {members(verbatim("evil", joined(paxHeader('x', "size", "-1"), header(block{name: "evil", flag: '0'})))), `byte 512: pax record "size"`},
		"a hole of an EiB, 1.0":    {sparse("1.0", 1<<60, piece{0, 512}), `entry "evil"`},
		"a hole of an EiB, 0.1":    {sparse("0.1", 1<<60, piece{1<<60 - 512, 512}), `entry "evil"`},
		"a hole of an EiB, 0.0":    {sparse("0.0", 1<<60, piece{0, 512}), `entry "evil"`},
		"a hole of an EiB, old":    {members(verbatim("evil", oldSparse("evil", 1<<60, []piece{{0, 512}}, make([]byte, 512)))), `entry "evil"`},
		"pieces that overlap":      {sparse("1.0", 1<<20, piece{0, 512}, piece{100, 512}), "byte 1024: the sparse map has "},
		"pieces in no order":       {sparse("0.1", 1<<20, piece{8192, 256}, piece{0, 256}), "byte 1024: the sparse map has "},
		"a piece behind the end":   {sparse("0.0", 1<<20, piece{1 << 20, 512}), "byte 1024: the sparse map has "},
		"a piece of less":          {sparse("1.0", 1<<20, piece{0, -512}), "byte 1024: the sparse map"},
		"pieces around the world":  {sparse("1.0", 1<<20, piece{1<<63 - 1, 512}), "byte 1024: the sparse map has "},
		"pieces of one byte":       {members(verbatim("evil", paxSparse("1.0", "evil", 1<<40, scattered(20_000, 1, 8192), make([]byte, 20_000)))), `entry "evil"`},
		"a million million pieces": {members(verbatim("evil", joined(paxHeader('x', "GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.realsize", "512"), header(block{name: "evil", flag: '0', size: 512}), padded([]byte("1000000000000\n0\n1\n"))))), "byte 1024: the sparse map has "},
		"a record of a GiB":        {joined(header(block{name: "x", flag: 'x', size: 1 << 30}), make([]byte, 4096)), "byte 0"},
		"a GNU name of a GiB":      {joined(header(block{name: "x", flag: 'L', size: 1 << 30}), make([]byte, 4096)), "byte 0"},
		"a global header of a GiB": {joined(header(block{name: "x", flag: 'g', size: 1 << 30}), make([]byte, 4096)), "byte 0"},
		"headers without an end":   {bytes.Repeat(paxHeader('x', "comment", "x"), 10_000), "cut short"},
		"a wrong checksum":         {append(bytes.Clone(header(block{name: "a", flag: '0', put: map[int]string{}})[:511]), 1), "byte 0"},
		"an owner of 64 bits":      {pax("uid", "4294967296"), `byte 512: pax record "uid"`},
		"an owner of less":         {pax("gid", "-1"), `byte 512: pax record "gid"`},
		"a device of 32 bits":      {members(device('4', "a", 1<<20, 0)), `entry "a"`},
		"a marker of nothing":      {members(file(".wh.", "")), `entry ".wh."`},
		"a marker of the folder":   {members(dir("a"), file("a/.wh..", "")), `entry "a/.wh.."`},
		"a marker of the parent":   {members(dir("a"), file("a/.wh...", "")), `entry "a/.wh..."`},
		"an empty stream":          {nil, "cut short"},
		"half a block":             {make([]byte, 256), "cut short"},
		"noise":                    {[]byte(noise(100_000, 1)), "byte 0"},
		"noise behind the end":     {append(members(file("a", "")), noise(5000, 2)...), "follows the end"},
		"zeros between":            {joined(file("a", "").bytes(t), make([]byte, 512), file("b", "").bytes(t), make([]byte, 1024)), "byte "},
	} {
		t.Run(name, func(t *testing.T) { attack(t, bytes.NewReader(c.layer), small, c.says) })
	}
}

// TestEndlessHeaders has layers that never come to a member.
func TestEndlessHeaders(t *testing.T) {
	for name, b := range map[string][]byte{
		"records":       paxHeader('x', "comment", strings.Repeat("x", 1000)),
		"global ones":   paxHeader('g', "comment", strings.Repeat("x", 1000), "SCHILY.xattr.user.x", strings.Repeat("x", 1000)),
		"GNU names":     gnuLong('L', strings.Repeat("x", 1000)),
		"empty headers": block{name: "x", flag: 'x'}.bytes(),
	} {
		t.Run(name, func(t *testing.T) { attack(t, repeat(b, 1<<15), small, "cut short") })
	}
}

// TestSourceFails has sources that break off, in one layer of several: what the source
// said is the error, and nothing is left.
func TestSourceFails(t *testing.T) {
	dead := errors.New("the line is dead")
	layer := archive(t, file("a", noise(3<<20, 1)), file("b", ""))
	for bad := range 3 {
		for _, at := range []int{0, 100, 1024, 2 << 20, len(layer) - 512} {
			var layers []io.Reader
			for i := range 3 {
				var r io.Reader = bytes.NewReader(layer)
				if i == bad {
					r = io.MultiReader(bytes.NewReader(layer[:at]), iotest.ErrReader(dead))
				}
				layers = append(layers, r)
			}
			path := filepath.Join(t.TempDir(), "disk.ext4")
			_, err := diskimage.FromLayers(t.Context(), path, layers...)
			if !errors.Is(err, dead) || !strings.Contains(err.Error(), fmt.Sprintf("layer %d", bad+1)) {
				t.Errorf("layer %d at %d: %v", bad+1, at, err)
			}
			if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("there is still a file: %v", err)
			}
		}
	}
}

// TestCancel ends an import while a source says nothing.
func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	go func() {
		if _, err := w.Write(archive(t, file("a", noise(1<<20, 1)))[:600_000]); err != nil {
			t.Error(err)
		}
		cancel()
		w.CloseWithError(ctx.Err()) // as the owner of the source does
	}()
	path := filepath.Join(t.TempDir(), "disk.ext4")
	ended := make(chan error, 1)
	go func() {
		_, err := diskimage.FromLayers(ctx, path, bytes.NewReader(archive(t, file("a", ""))), r)
		ended <- err
	}()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("it does not end")
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is still a file: %v", err)
	}
}
