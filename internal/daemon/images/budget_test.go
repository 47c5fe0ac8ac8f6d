package images

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"banger/internal/base/errs"
)

// TestBombInManyLayers has an image of layers each of which would be fair by itself.
func TestBombInManyLayers(t *testing.T) {
	const layers, each = 30, 200_000
	zeros := strings.Repeat("\x00", each)
	var bomb, honest [][]byte
	for i := range layers {
		bomb = append(bomb, tarOf(t, fmt.Sprint("f", i), zeros))
		honest = append(honest, tarOf(t, fmt.Sprint("f", i), noise(i, each)))
	}
	r := newRegistry(t)
	r.push("bomb:1", v1.Config{}, bomb...)
	r.push("honest:1", v1.Config{}, honest...)
	lenient := real(t, nil)
	strict := real(t, nil)
	strict.fair = 1 << 20

	// The same as archives, the one of zeros packed once more.
	archives := map[string][]byte{}
	for _, name := range []string{"bomb", "honest"} {
		if _, err := lenient.Pull(t.Context(), r.host+"/"+name+":1", "", nil); err != nil {
			t.Fatalf("the %s with the bound that there is: %v", name, err)
		}
		var b bytes.Buffer
		if err := lenient.Export(t.Context(), r.host+"/"+name+":1", ExportLayers, &b, nil); err != nil {
			t.Fatal(err)
		}
		archives[name] = b.Bytes()
	}
	root := tarOf(t, "f", strings.Repeat(zeros, 10))

	for name, make := range map[string]func() error{
		"a pull": func() error { _, err := strict.Pull(t.Context(), r.host+"/bomb:1", "", nil); return err },
		"an archive": func() error {
			_, err := strict.Import(t.Context(), ImportOptions{Name: "bomb"}, bytes.NewReader(archives["bomb"]), nil)
			return err
		},
		"a packed archive": func() error {
			_, err := strict.Import(t.Context(), ImportOptions{Name: "bomb"}, bytes.NewReader(gzipped(t, archives["bomb"])), nil)
			return err
		},
		"a root file system": func() error {
			_, err := strict.Import(t.Context(), ImportOptions{Name: "bomb"}, bytes.NewReader(gzipped(t, root)), nil)
			return err
		},
	} {
		err := make()
		if errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error(), "bomb") || !strings.Contains(err.Error(), "more than 1MiB, and to more than 100 times") {
			t.Errorf("%s: %v", name, err)
		}
		wantFiles(t, strict)
	}
	if _, err := strict.Pull(t.Context(), r.host+"/honest:1", "", nil); err != nil {
		t.Errorf("an honest image, far above the lower bound: %v", err)
	}
	if _, err := strict.Import(t.Context(), ImportOptions{Name: "honest"}, bytes.NewReader(archives["honest"]), nil); err != nil {
		t.Errorf("an honest archive: %v", err)
	}
}

// noise returns n bytes that nothing compresses.
func noise(seed, n int) string {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed)}).Read(b) // never fails
	return string(b)
}

func gzipped(t *testing.T, b []byte) []byte {
	t.Helper()
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	if _, err := io.Copy(w, bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return z.Bytes()
}
