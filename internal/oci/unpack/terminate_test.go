package unpack_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"banger/internal/oci/unpack"
)

func TestTerminate(t *testing.T) {
	for _, n := range []int{0, 1, 511, 512, 513, 5000} {
		text := strings.Repeat("x", n)
		for name, r := range map[string]io.Reader{"": strings.NewReader(text), "with the end": iotest.DataErrReader(strings.NewReader(text)), "by bytes": iotest.OneByteReader(strings.NewReader(text))} {
			got, err := io.ReadAll(unpack.Terminate(r))
			zeros, isSame := strings.CutPrefix(string(got), text)
			if err != nil || !isSame || len(got)%512 != 0 || len(zeros) < 1024 || len(zeros) >= 1024+512 || strings.Trim(zeros, "\x00") != "" {
				t.Errorf("%d bytes %s: %d bytes, %v", n, name, len(got), err)
			}
		}
	}
	broken := errors.New("the line is dead")
	if got, err := io.ReadAll(unpack.Terminate(io.MultiReader(strings.NewReader("x"), iotest.ErrReader(broken)))); !errors.Is(err, broken) || string(got) != "x" {
		t.Errorf("%q, %v", got, err)
	}
}
