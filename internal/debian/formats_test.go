package debian

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"pgregory.net/rapid"

	"banger/internal/fetch"
)

func TestCompareVersions(t *testing.T) {
	// Each is older than the next; the pairs are from deb-version(7), dpkg's tests
	// and Debian's kernels.
	for _, line := range []string{
		"~~ ~~a ~ 0 a",
		"1.0~beta1~svn1245 1.0~beta1 1.0 1.0-1 1.0-1.1 1.0a 1.0+b 1.1",
		"6.1.170-3 6.1.192-2 6.12.107-1~deb12u1 6.12.117-1~deb12u1 6.12.117-1",
		"9 10 0:11 1:0 1:0-1 2:0~",
		"1-2-3 1-3-1 1.2-3",
	} {
		versions := strings.Fields(line)
		for i, a := range versions {
			for j, b := range versions {
				if got := CompareVersions(a, b); (got < 0) != (i < j) || (got > 0) != (i > j) {
					t.Errorf("CompareVersions(%q, %q) = %d", a, b, got)
				}
			}
		}
	}
	for _, pair := range [][2]string{{"1.0", "1.00"}, {"1", "0:1"}, {"1", "1-"}, {"1", "1-0"}, {"", "0"}} {
		if got := CompareVersions(pair[0], pair[1]); got != 0 {
			t.Errorf("CompareVersions(%q, %q) = %d, want 0", pair[0], pair[1], got)
		}
	}
}

func TestCompareVersionsIsAnOrder(t *testing.T) {
	version := rapid.StringMatching(`([01]:)?[0-9a-z.+~-]{0,6}`)
	rapid.Check(t, func(t *rapid.T) {
		v := []string{version.Draw(t, "a"), version.Draw(t, "b"), version.Draw(t, "c")}
		if CompareVersions(v[0], v[1]) != -CompareVersions(v[1], v[0]) && CompareVersions(v[0], v[1])*CompareVersions(v[1], v[0]) >= 0 {
			t.Fatalf("%q and %q: the order has no direction", v[0], v[1])
		}
		slices.SortFunc(v, CompareVersions)
		if CompareVersions(v[0], v[2]) > 0 {
			t.Fatalf("%q: not transitive", v)
		}
	})
}

const somePackages = `Package: linux-image-6.12-cloud-amd64
Version: 6.12.117-1~deb12u1
Architecture: amd64
Depends: linux-image-6.12.117+deb12-cloud-amd64 (= 6.12.117-1~deb12u1), libc6:any(>= 2), a | b
Filename: pool/main/l/a.deb
Size: 12
SHA256: 0000000000000000000000000000000000000000000000000000000000000001
Description: short
 long

Package: other
Architecture: amd64
Filename: ../../etc/passwd

Package: linux-image-6.12-cloud-amd64
Version: 6.12.9-1
Architecture: amd64
Filename: pool/main/l/b.deb
Size: 12
SHA256: 0000000000000000000000000000000000000000000000000000000000000001

Package: linux-image-6.12-cloud-amd64
Version: 9
Architecture: arm64
Filename: pool/main/l/c.deb
Size: 12
SHA256: 0000000000000000000000000000000000000000000000000000000000000001
`

func TestParsePackages(t *testing.T) {
	got, err := parsePackages(strings.NewReader(somePackages), func(name string) bool { return name != "other" })
	if err != nil || len(got) != 2 {
		t.Fatalf("%d packages, %v; want 2", len(got), err)
	}
	p, ok := Newest(got, "linux-image-6.12-cloud-amd64")
	if !ok || p.Version != "6.12.117-1~deb12u1" {
		t.Errorf("the newest is %+v", p)
	}
	want := []string{"linux-image-6.12.117+deb12-cloud-amd64", "libc6", "a"}
	if !slices.Equal(p.Depends, want) {
		t.Errorf("it depends on %q, want %q", p.Depends, want)
	}
	if _, ok := Newest(got, "missing"); ok {
		t.Error("found what is not there")
	}
	if _, err := parsePackages(strings.NewReader(somePackages), func(string) bool { return true }); err == nil || !strings.Contains(err.Error(), "no path in an archive") {
		t.Errorf("a path out of the archive: err = %v", err)
	}
}

func TestParseRelease(t *testing.T) {
	text := "Suite: oldstable\nCodename: bookworm\r\nDate: Sun, 22 Nov 2026  9:58:56 UTC\nValid-Until: Sun, 29 Nov 2026 19:58:56 UTC\nAcquire-By-Hash: yes\n" +
		"MD5Sum:\n 0 0 x\nSHA256:\n " + strings.Repeat("0", 63) + "1       12 main/binary-amd64/Packages.xz\n"
	got, err := parseRelease([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := release{
		suite: "oldstable", codename: "bookworm", byHash: true,
		date:       time.Date(2026, 11, 22, 9, 58, 56, 0, time.UTC),
		validUntil: time.Date(2026, 11, 29, 19, 58, 56, 0, time.UTC),
		files:      map[string]fetch.Digest{"main/binary-amd64/Packages.xz": {Size: 12, SHA256: [32]byte{31: 1}}},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(release{}), cmpopts.EquateApproxTime(0)); diff != "" {
		t.Error(diff)
	}
	before, after := got.validUntil.Add(-time.Hour), got.validUntil.Add(time.Hour)
	for _, test := range []struct {
		suite  string
		now    time.Time
		ignore bool
		ok     bool
	}{
		{"bookworm", before, false, true},
		{"oldstable", before, false, true},
		{"trixie", before, false, false},
		{"bookworm", after, false, false},
		{"bookworm", after, true, true},
	} {
		if err := got.check(test.suite, test.now, test.ignore); (err == nil) != test.ok {
			t.Errorf("check(%q, %s, %t) = %v", test.suite, test.now, test.ignore, err)
		}
	}
	for _, bad := range []string{"", "Valid-Until: tomorrow\n", "Date: today\n", "SHA256:\n abc 1 x\n", "SHA256:\n " + strings.Repeat("0", 64) + " -1 x\n", "SHA256:\n x\n"} {
		if _, err := parseRelease([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// member is one member of an ar archive.
func member(name string, data []byte) string {
	padding := ""
	if len(data)%2 == 1 {
		padding = "\n"
	}
	return fmt.Sprintf("%-16s%-12d%-6d%-6d%-8s%-10d`\n%s%s", name, 0, 0, 0, "100644", len(data), data, padding)
}

func tarOf(files ...string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range files {
		_ = w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(name)), Typeflag: tar.TypeReg})
		_, _ = io.WriteString(w, name)
	}
	_ = w.Close()
	return b.Bytes()
}

func pack(t *testing.T, data []byte, open func(io.Writer) (io.WriteCloser, error)) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := open(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestWalkDeb(t *testing.T) {
	data := tarOf("./boot/vmlinuz", "usr//share/x", "/abs")
	start := "!<arch>\n" + member("debian-binary", []byte("2.0\n")) + member("control.tar.xz", []byte("odd"))
	for name, test := range map[string]struct{ deb, want, fails string }{
		"plain": {deb: start + member("data.tar", data), want: "boot/vmlinuz usr/share/x abs"},
		"xz":    {deb: start + member("data.tar.xz", pack(t, data, func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) })), want: "boot/vmlinuz usr/share/x abs"},
		"zstd":  {deb: start + member("data.tar.zst/", pack(t, data, func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) })), want: "boot/vmlinuz usr/share/x abs"},
		"gzip":  {deb: start + member("data.tar.gz", pack(t, data, func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil })), want: "boot/vmlinuz usr/share/x abs"},

		"empty":    {deb: "", fails: "does not begin as an ar archive"},
		"no data":  {deb: start, fails: "has no data.tar"},
		"bzip2":    {deb: start + member("data.tar.bz2", nil), fails: "unknown compression"},
		"cut":      {deb: (start + member("data.tar.gz", pack(t, data, func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil })))[:len(start)+120], fails: "unexpected EOF"},
		"bad size": {deb: "!<arch>\n" + strings.Replace(member("x", nil), "0         `", "-1        `", 1), fails: "damaged"},
		"escape":   {deb: start + member("data.tar", tarOf("../../etc/passwd")), fails: "leads out of the package"},
		"many":     {deb: "!<arch>\n" + strings.Repeat(member("x", nil), 100), fails: "too many members"},
	} {
		t.Run(name, func(t *testing.T) {
			var names []string
			err := WalkDeb(strings.NewReader(test.deb), func(h *tar.Header, r io.Reader) error {
				content, err := io.ReadAll(r)
				if len(content) != int(h.Size) {
					t.Errorf("%s has %d bytes, want %d", h.Name, len(content), h.Size)
				}
				names = append(names, h.Name)
				return err
			})
			if test.fails != "" {
				if err == nil || !strings.Contains(err.Error(), test.fails) {
					t.Errorf("err = %v, want %q", err, test.fails)
				}
			} else if err != nil || strings.Join(names, " ") != test.want {
				t.Errorf("found %q, %v; want %q", names, err, test.want)
			}
		})
	}
}

func FuzzStanzas(f *testing.F) {
	f.Add([]byte(somePackages))
	f.Add([]byte("A: b\n c\n\n#x\nD:\n"))
	f.Add([]byte(" x"))
	f.Fuzz(func(t *testing.T, text []byte) {
		err := walkStanzas(bytes.NewReader(text), func(s stanza) error {
			if len(s) == 0 {
				t.Error("an empty paragraph")
			}
			return nil
		})
		_ = err
	})
}

func FuzzPackages(f *testing.F) {
	f.Add([]byte(somePackages))
	f.Fuzz(func(t *testing.T, text []byte) {
		packages, err := parsePackages(bytes.NewReader(text), func(string) bool { return true })
		if err != nil {
			return
		}
		for _, p := range packages {
			if strings.Contains(p.Filename, "..") && slices.Contains(strings.Split(p.Filename, "/"), "..") || strings.Contains(p.Name, "/") || p.Size() < 0 || p.Size() > maxPackage {
				t.Errorf("took %+v", p)
			}
		}
	})
}

func FuzzRelease(f *testing.F) {
	f.Add([]byte("Suite: a\nValid-Until: Sun, 29 Nov 2026 19:58:56 UTC\nSHA256:\n " + strings.Repeat("0", 64) + " 1 x\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if r, err := parseRelease(text); err == nil && r.files == nil {
			t.Error("a release without a list")
		}
		_, _, _ = verify(text, nil)
	})
}

func FuzzDeb(f *testing.F) {
	start := "!<arch>\n" + member("debian-binary", []byte("2.0\n"))
	f.Add([]byte(start + member("data.tar", tarOf("a", "b/../c"))))
	f.Add([]byte(start + member("data.tar.gz", []byte("\x1f\x8b"))))
	f.Add([]byte("!<arch>\n"))
	f.Fuzz(func(t *testing.T, deb []byte) {
		_ = WalkDeb(bytes.NewReader(deb), func(h *tar.Header, _ io.Reader) error {
			if strings.HasPrefix(h.Name, "/") || slices.Contains(strings.Split(h.Name, "/"), "..") {
				t.Errorf("the name %q leads out", h.Name)
			}
			return nil
		})
	})
}
