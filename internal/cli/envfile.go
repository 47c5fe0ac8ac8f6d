package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"banger/internal/base/errs"
)

// maxEnvFile bounds a file of variables, in bytes.
const maxEnvFile = 1 << 20

// readEnvFile reads the file name as parseEnv does.
func readEnvFile(name string, ours lookup) ([]string, error) {
	f, err := os.Open(name)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, errs.New(errs.NotFound, "cannot read variables: %w", err)
	case err != nil:
		return nil, errs.New(errs.Invalid, "cannot read variables: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxEnvFile+1))
	if err == nil && len(data) > maxEnvFile {
		err = fmt.Errorf("it has more than %d bytes", maxEnvFile)
	}
	var lines []string
	if err == nil {
		lines, err = parseEnv(string(data), ours)
	}
	if err != nil {
		return nil, errs.New(errs.Invalid, "cannot read variables from %q: %w", name, err).WithHint("give it lines of KEY=VALUE, # before a remark")
	}
	return lines, nil
}

// parseEnv reads a file of docker's --env-file: lines of KEY=VALUE, where the value
// is all that follows, quotes too; KEY alone takes our own value if there is one.
// Empty lines and those that begin with # say nothing.
func parseEnv(text string, ours lookup) ([]string, error) {
	var all []string
	number := 0
	for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) { // a byte order mark
		number++
		line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
		line = strings.TrimLeftFunc(line, unicode.IsSpace)
		if line == "" || line[0] == '#' {
			continue
		}
		key, _, whole := strings.Cut(line, "=")
		switch {
		case !utf8.ValidString(line) || strings.Contains(line, "\x00"):
			return nil, fmt.Errorf("line %d is not a text", number)
		case key == "" || strings.ContainsFunc(key, unicode.IsSpace):
			return nil, fmt.Errorf("line %d: %.50q is not a variable's name", number, key)
		}
		if value, set := ours(key); set && !whole {
			line, whole = key+"="+value, true
		}
		if whole {
			all = append(all, line)
		}
	}
	return all, nil
}
