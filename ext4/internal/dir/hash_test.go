package dir

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"banger/internal/base/testneed"
)

// Values of debugfs dx_hash, so that the hashes are held without tools too.
func TestHashGolden(t *testing.T) {
	for _, c := range []struct {
		version      uint8
		name         string
		major, minor uint32
	}{
		{HashHalfMD4, "hello", 0x1746da32, 0x420013b5},
		{HashTEA, "hello", 0x6f5bb1a8, 0x231917c2},
		{HashLegacy, "hello", 0x32252546, 0},
		{HashLegacy, "a\x80\xfeb", 0xb34d0c9e, 0},
		{HashHalfMD4, "a\x80\xfeb", 0xd046aaf2, 0x5810351b},
		{HashTEA, "a\x80\xfeb", 0x1f36d9d8, 0x259bf0fe},
		{HashLegacy + 3, "a\x80\xfeb", 0xbd94369c, 0},
		{HashHalfMD4 + 3, "a\x80\xfeb", 0x65c5e012, 0xb66edf8a},
		{HashTEA + 3, "a\x80\xfeb", 0xfb8dbfc0, 0x61a69e7a},
	} {
		major, minor := Hash(c.version, false, [4]uint32{}, c.name)
		if major != c.major || minor != c.minor {
			t.Errorf("%d %q: %x %x, want %x %x", c.version, c.name, major, minor, c.major, c.minor)
		}
	}
	if major, minor := Hash(6, false, [4]uint32{}, "x"); major != 0 || minor != 0 {
		t.Error("hash of an unknown version")
	}
}

// The names go to debugfs in a command file, quoted, so they have no quotes, newlines
// and zeros, and do not begin as an option does.
func TestHashDebugfs(t *testing.T) {
	img := filepath.Join(testneed.Memory(t), "img")
	testneed.Run(t, "mke2fs", "-q", "-F", "-t", "ext4", img, "2M")
	r := rand.New(rand.NewPCG(1, 2))
	type ask struct {
		name    string
		version int
		seed    [4]uint32
	}
	var asks []ask
	var cmds strings.Builder
	for n := range 1500 {
		b := make([]byte, 1+n%255)
		for i := range b {
			for b[i] = 0; strings.IndexByte("\x00\n\r\"\\", b[i]) >= 0 || n%3 == 0 && b[i] >= 0x80; {
				b[i] = byte(r.Uint32())
			}
		}
		if b[0] == '-' {
			b[0] = 'x'
		}
		a := ask{name: string(b), version: r.IntN(6)}
		uuid := ""
		if n%4 != 0 {
			raw := make([]byte, 16)
			for i := range a.seed {
				a.seed[i] = r.Uint32()
				le.PutUint32(raw[4*i:], a.seed[i])
			}
			uuid = fmt.Sprintf("-s %x-%x-%x-%x-%x ", raw[:4], raw[4:6], raw[6:8], raw[8:10], raw[10:])
		}
		// By number: the names of the unsigned ones are not known to all versions.
		fmt.Fprintf(&cmds, "dx_hash -h %d %s\"%s\"\n", a.version, uuid, b)
		asks = append(asks, a)
	}
	out := testneed.Debugfs(t, img, cmds.String())
	got := regexp.MustCompile(`is 0x([0-9a-f]+) \(minor 0x([0-9a-f]+)\)\n`).FindAllStringSubmatch(out, -1)
	if len(got) != len(asks) {
		t.Fatalf("%d answers to %d questions", len(got), len(asks))
	}
	for i, a := range asks {
		major, minor := Hash(uint8(a.version), false, a.seed, a.name)
		if g := [2]string{fmt.Sprintf("%x", major), fmt.Sprintf("%x", minor)}; g != [2]string(got[i][1:]) {
			t.Errorf("version %d, %d bytes, %q: %v, debugfs has %v", a.version, len(a.name), a.name, g, got[i][1:])
		}
		if again, _ := Hash(uint8(a.version%3), a.version >= 3, a.seed, a.name); again != major {
			t.Errorf("version %d of %q differs by flag", a.version, a.name)
		}
	}
}
