// Package kconfig reads the configuration that a Linux kernel was built with: the
// text of a .config file, as it is in /boot/config-*, in /proc/config.gz and in a
// kernel with CONFIG_IKCONFIG.
//
// Format: kernel, Documentation/kbuild/kconfig-language.rst and scripts/kconfig/
// confdata.c. A line is "CONFIG_NAME=value", with y, m, a number or a quoted text,
// or a comment, as "# CONFIG_NAME is not set" is.
package kconfig

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"
)

// MaxText bounds a configuration, in bytes. Debian's has 260 kB.
const MaxText = 4 << 20

// prefix begins the name of every option.
const prefix = "CONFIG_"

// Config is what is set, by name with "CONFIG_".
type Config map[string]string

// Builtin says whether an option is y.
func (c Config) Builtin(name string) bool { return c[name] == "y" }

// Module says whether an option is m.
func (c Config) Module(name string) bool { return c[name] == "m" }

// Parse reads a configuration, which may be compressed with gzip. A text without a
// single option is an error: it is something else.
func Parse(text []byte) (Config, error) {
	if len(text) > MaxText {
		return nil, fmt.Errorf("it is larger than %d MiB", MaxText>>20)
	}
	if bytes.HasPrefix(text, []byte("\x1f\x8b")) {
		z, err := gzip.NewReader(bytes.NewReader(text))
		if err != nil {
			return nil, err
		}
		if text, err = io.ReadAll(io.LimitReader(z, MaxText+1)); err != nil {
			return nil, err
		}
		if len(text) > MaxText {
			return nil, fmt.Errorf("it unpacks to more than %d MiB", MaxText>>20)
		}
	}
	c := Config{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, MaxText+1)
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), "=")
		if ok && strings.HasPrefix(name, prefix) && value != "n" {
			c[name] = value
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(c) == 0 {
		return nil, errors.New("it has no line CONFIG_…=…")
	}
	return c, nil
}
