package bzimage

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
)

// MaxConfig bounds a kernel's configuration, in bytes. Debian's has 260 kB.
const MaxConfig = 4 << 20

// maxRelease is the longest release: __NEW_UTS_LEN (include/uapi/linux/utsname.h).
const maxRelease = 64

// errStop ends a search early, without an error.
var errStop = errors.New("stop")

// Release returns what uname -r prints under the kernel whose ELF is r, of size
// bytes, or "" if it does not say.
func Release(r io.ReaderAt, size int64) (string, error) {
	const banner = "Linux version "
	release := ""
	err := search(r, size, banner, func(at int64) error {
		text := make([]byte, maxRelease+1)
		n, err := r.ReadAt(text, at+int64(len(banner)))
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		// Other texts with these words have a format's "%" behind them.
		word, _, ok := bytes.Cut(text[:n], []byte(" "))
		if !ok || !validRelease(word) {
			return nil
		}
		release = string(word)
		return errStop
	})
	return release, err
}

// validRelease: a release names a folder, and begins with the version's digits.
func validRelease(s []byte) bool {
	for i, c := range s {
		switch {
		case c >= '0' && c <= '9':
		case i > 0 && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || bytes.IndexByte([]byte("._+~-"), c) >= 0):
		default:
			return false
		}
	}
	return len(s) > 0
}

// Config returns the configuration that a kernel with CONFIG_IKCONFIG carries in its
// ELF r, of size bytes; nil if there is none.
func Config(r io.ReaderAt, size int64) ([]byte, error) {
	const start = "IKCFG_ST"
	var config []byte
	err := search(r, size, start+"\x1f\x8b\x08", func(at int64) error {
		at += int64(len(start))
		z, err := gzip.NewReader(io.NewSectionReader(r, at, size-at))
		if err != nil {
			return nil // the words stood there by chance
		}
		z.Multistream(false)
		text, err := io.ReadAll(io.LimitReader(z, MaxConfig+1))
		switch {
		case err != nil:
			return fmt.Errorf("the configuration in the kernel is damaged: %w", err)
		case len(text) > MaxConfig:
			return fmt.Errorf("the configuration in the kernel is larger than %d MiB", MaxConfig>>20)
		}
		config = text
		return errStop
	})
	return config, err
}

// search calls each with every place of needle in r, of size bytes. An error of each
// ends it; errStop ends it well.
func search(r io.ReaderAt, size int64, needle string, each func(at int64) error) error {
	const step = 1 << 20
	buf := make([]byte, step+len(needle)-1) // so that no needle lies across two rounds
	for base := int64(0); base < size; base += step {
		n, err := r.ReadAt(buf[:min(int64(len(buf)), size-base)], base)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		for from := 0; ; {
			i := bytes.Index(buf[from:n], []byte(needle))
			if i < 0 {
				break
			}
			if err := each(base + int64(from+i)); err != nil {
				if errors.Is(err, errStop) {
					return nil
				}
				return err
			}
			from += i + 1
		}
	}
	return nil
}
