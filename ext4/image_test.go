package ext4

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/base/testneed"
)

// newImage makes an empty image with mke2fs; size is like "64M", options are its
// own.
func newImage(t testing.TB, size string, options ...string) string {
	t.Helper()
	path := filepath.Join(testneed.Memory(t), "image")
	args := append([]string{"-q", "-F", "-E", "root_owner=0:0,lazy_itable_init=1", "-U", "a0b1c2d3-0000-4000-8000-000000000001"}, options...)
	testneed.Run(t, "mke2fs", append(args, path, size)...)
	return path
}

// openImage opens an image for the time of a test.
func openImage(t testing.TB, path string) *Image {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	im, err := Open(f, st.Size())
	if err != nil {
		t.Fatal(err)
	}
	return im
}

// manifest is a tree as text: a line for each property of each file, by name.
type manifest map[string][]string

func (m manifest) add(name, format string, args ...any) {
	m[name] = append(m[name], fmt.Sprintf(format, args...))
}

// compare reports what differs, as far as ten names.
func (want manifest) compare(t testing.TB, got manifest) {
	t.Helper()
	bad := 0
	for name, w := range want {
		if g := got[name]; strings.Join(w, "\n") != strings.Join(g, "\n") {
			if bad++; bad <= 10 {
				t.Errorf("%q:\n got %q\nwant %q", name, g, w)
			}
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			if bad++; bad <= 10 {
				t.Errorf("%q should not be there", name)
			}
		}
	}
	if bad > 10 {
		t.Errorf("%d files differ", bad)
	}
}
