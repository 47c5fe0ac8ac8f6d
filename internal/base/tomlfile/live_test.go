package tomlfile_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"banger/internal/base/tomlfile"
)

func TestLive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	reads, broken := 0, errors.New("broken")
	l := tomlfile.NewLive(path, "fallback", func(path string) (string, error) {
		reads++
		text, err := os.ReadFile(path)
		switch {
		case err != nil:
			return "none", nil
		case string(text) == "broken":
			return "", broken
		}
		return string(text), nil
	})
	step := func(what, want string, wantErr error, wantReads int) {
		t.Helper()
		for range 2 {
			if got, err := l.Get(); got != want || !errors.Is(err, wantErr) {
				t.Errorf("%s: %q, %v; want %q, %v", what, got, err, want, wantErr)
			}
		}
		if reads != wantReads {
			t.Errorf("%s: %d reads, want %d", what, reads, wantReads)
		}
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("broken")
	step("broken from the start", "fallback", broken, 1)
	write("good")
	step("mended", "good", nil, 2)
	write("broken")
	step("broken again", "good", broken, 3)
	write("othr")
	at := time.Now().Add(time.Hour)
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
	step("another of the same size", "othr", nil, 4)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	step("gone", "none", nil, 5)
}
