package layers_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/base/errs"
	"banger/internal/diskimage"
)

// peakMost is what a process may take at its peak that makes a disk, whatever of, in KiB.
const peakMost = 150_000_000 / 1024

// peakShapes are names of files with numbers in them.
var peakShapes = map[string]string{
	"packages":      "usr/lib/node_modules/package-000000/lib/file-00.js",
	"one directory": "usr/share/files/a-file-with-a-name-00000000",
	"directories":   "00000000/a",
}

// TestPeakMemory makes disks of many files, each in a process of its own, and looks at the
// most memory that the kernel has seen it take. What has too many files is refused before.
func TestPeakMemory(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector takes memory of its own")
	}
	for _, c := range []struct {
		shape string
		n     int
		taken bool
	}{
		{"packages", 400_000, true},
		{"one directory", 400_000, true},
		{"directories", 115_000, true},
		{"packages", 5_000_000, false},
		{"one directory", 5_000_000, false},
		{"directories", 5_000_000, false},
	} {
		t.Run(fmt.Sprintf("%s of %d", c.shape, c.n), func(t *testing.T) {
			out, err := child(t, "peak", t.TempDir(), "", fmt.Sprint(c.shape, ":", c.n)).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			var peak int
			verdict, said, _ := strings.Cut(string(out), "\n")
			if _, err := fmt.Sscanf(said, "VmHWM: %d kB", &peak); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			t.Logf("%d MB: %s", peak*1024/1_000_000, verdict)
			if peak > peakMost {
				t.Errorf("it took %d KiB; the bound is %d", peak, peakMost)
			}
			if (verdict == "taken") != c.taken {
				t.Errorf("it was %s", verdict)
			}
		})
	}
}

// peakWork prints whether the disk was made, and then how much memory that took.
func peakWork() error {
	shape, number, _ := strings.Cut(os.Getenv(argVar), ":")
	var n int
	if _, err := fmt.Sscan(number, &n); err != nil {
		return err
	}
	_, err := diskimage.FromLayers(context.Background(), filepath.Join(os.Getenv(dirVar), "disk"), io.MultiReader(newSpread(peakShapes[shape], n), bytes.NewReader(make([]byte, 1024))))
	switch errs.KindOf(err) {
	case errs.Internal:
		if err != nil {
			return err
		}
		fmt.Println("taken")
	default:
		fmt.Println("refused:", err)
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	at := bytes.Index(status, []byte("VmHWM:"))
	if at < 0 {
		return fmt.Errorf("the kernel does not say: %s", status)
	}
	_, err = os.Stdout.Write(status[at:])
	return err
}

// spread reads as empty files whose numbers stand in all zeros of a name.
type spread struct {
	numbered
	places []int
}

func newSpread(name string, n int) io.Reader {
	s := &spread{numbered: numbered{header: block{name: name, flag: '0', mode: 0o644}.bytes(), n: n}}
	for i, c := range name {
		if c == '0' {
			s.places = append(s.places, i)
		}
	}
	s.digits = make([]byte, len(s.places))
	return s
}

// Read is as that of numbered, whose digits are put in their places.
func (s *spread) Read(p []byte) (got int, err error) {
	for got < len(p) {
		if s.at == 0 {
			if s.i == s.n {
				return got, io.EOF
			}
			for i, v := len(s.places)-1, s.i; i >= 0; i, v = i-1, v/10 {
				s.header[s.places[i]] = byte('0' + v%10)
			}
			s.number()
			s.i++
		}
		m := copy(p[got:], s.header[s.at:])
		got, s.at = got+m, (s.at+m)%len(s.header)
	}
	return got, nil
}
