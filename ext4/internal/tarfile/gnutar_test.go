package tarfile

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"banger/internal/base/testneed"
)

// Sparse files as GNU tar itself writes them, in each of its formats.
func TestGNUTarSparse(t *testing.T) {
	t.Parallel()
	gnutar := testneed.Tool(t, "tar", "tar")
	dir := t.TempDir()
	const hole = 1 << 14
	files := map[string][]Run{ // sizes are the map's key
		"hole":   nil,
		"start":  {{0, 5000}},
		"end":    {{5*hole - 100, 100}},
		"middle": {{hole, 4096}},
		"many":   nil,
	}
	for i := range int64(60) { // more than one extension header
		files["many"] = append(files["many"], Run{2 * i * hole, 4096})
	}
	want := map[string][]byte{}
	for name, runs := range files {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		size := int64(5 * hole)
		if name == "many" {
			size = 121 * hole
		}
		if err := f.Truncate(size); err != nil {
			t.Fatal(err)
		}
		want[name] = make([]byte, size)
		for i, run := range runs {
			data := noise(uint64(i), run.Length)
			copy(want[name][run.Offset:], data)
			if _, err := f.WriteAt(data, run.Offset); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{
		{"--format=gnu"}, {"--format=oldgnu"},
		{"--format=pax", "--sparse-version=0.0"}, {"--format=pax", "--sparse-version=0.1"}, {"--format=pax", "--sparse-version=1.0"},
	} {
		t.Run(fmt.Sprint(args), func(t *testing.T) {
			t.Parallel()
			out, err := exec.Command(gnutar, append(args, "--sparse", "--hole-detection=raw", "-C", dir, "-cf", "-", ".")...).Output()
			if err != nil {
				t.Fatal(err)
			}
			members, err := readAll(bytes.NewReader(out), 3000)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := compareWithGo(out, members); err != nil {
				t.Error(err)
			}
			seen := 0
			for _, m := range members {
				if m.Type != TypeReg {
					continue
				}
				name := filepath.Base(m.Name)
				seen++
				if m.Sparse == nil || m.Size != int64(len(want[name])) || !bytes.Equal(m.contents(), want[name]) {
					t.Errorf("%s: %d bytes, %d stored in %d regions", m.Name, m.Size, len(m.data), len(m.Sparse))
				}
				if int64(len(m.data)) >= m.Size/2 {
					t.Errorf("%s: %d of %d bytes are stored", m.Name, len(m.data), m.Size)
				}
			}
			if seen != len(files) {
				t.Errorf("%d files, want %d", seen, len(files))
			}
		})
	}
}

// Names of any bytes and of any length, as GNU tar writes them.
func TestGNUTarNames(t *testing.T) {
	t.Parallel()
	gnutar := testneed.Tool(t, "tar", "tar")
	dir := t.TempDir()
	deep := ""
	for range 4 {
		deep = filepath.Join(deep, string(bytes.Repeat([]byte{'d'}, 90)))
	}
	names := []string{"new\nline", "\xff\xfe", "sp ace", "back\\slash", "\x01", "%3D=", deep + "/f", "\u00e9"}
	if err := os.MkdirAll(filepath.Join(dir, deep), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if err := os.WriteFile(filepath.Join(dir, n), []byte(n), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(n+"/"+deep, filepath.Join(dir, n+".l")); err != nil {
			t.Fatal(err)
		}
	}
	for _, format := range []string{"gnu", "oldgnu", "pax"} {
		cmd := exec.Command(gnutar, "--format="+format, "-C", dir, "-cf", "-", ".")
		cmd.Env = append(os.Environ(), "LC_ALL=C")
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		members := mustRead(t, out)
		if compared, err := compareWithGo(out, members); err != nil || !compared {
			t.Errorf("%s: compared %v: %v", format, compared, err)
		}
		files := map[string]read{}
		for _, m := range members {
			files[filepath.Clean(m.Name)] = m
		}
		for _, n := range names {
			if m, ok := files[n]; !ok || string(m.data) != n {
				t.Errorf("%s: %q: %v", format, n, ok)
			}
			if m, ok := files[n+".l"]; !ok || m.Link != n+"/"+deep {
				t.Errorf("%s: %q has the link %q", format, n+".l", m.Link)
			}
		}
	}
}
