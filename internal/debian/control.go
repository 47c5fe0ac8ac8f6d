package debian

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Bounds of one paragraph. The largest real one is a Release's list of hashes,
// about 150 kB.
const (
	maxLine   = 1 << 20
	maxStanza = 8 << 20
)

// errStop ends a walk early, without an error.
var errStop = errors.New("stop")

// stanza is one paragraph of deb822(5). Names are in lower case; the lines of a
// value are joined by "\n", each without the space around it.
type stanza map[string]string

// words splits a value at white space.
func (s stanza) words(name string) []string { return strings.Fields(s[name]) }

// walkStanzas calls each for every paragraph of r. Lines that begin with # are
// comments. The walk ends with the first error; errStop ends it well.
func walkStanzas(r io.Reader, each func(stanza) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	s, last, size := stanza{}, "", 0
	var long []string // the continuation lines of the field last
	settle := func() {
		if len(long) > 0 {
			s[last] += "\n" + strings.Join(long, "\n")
			long = long[:0]
		}
	}
	flush := func() error {
		settle()
		if len(s) == 0 {
			return nil
		}
		full := s
		s, last, size = stanza{}, "", 0
		return each(full)
	}
	for lines.Scan() {
		line := strings.TrimRight(lines.Text(), " \t\r")
		if size += len(line); size > maxStanza {
			return fmt.Errorf("a paragraph is longer than %d bytes", maxStanza)
		}
		switch {
		case line == "":
			if err := flush(); err != nil {
				return stopped(err)
			}
		case line[0] == '#':
		case line[0] == ' ' || line[0] == '\t':
			if last == "" {
				return fmt.Errorf("a paragraph begins with the continuation line %.80q", line)
			}
			long = append(long, strings.TrimSpace(line))
		default:
			name, value, ok := strings.Cut(line, ":")
			if !ok || name == "" {
				return fmt.Errorf("the line %.80q is no field", line)
			}
			settle()
			last = strings.ToLower(name)
			s[last] = strings.TrimSpace(value)
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return stopped(flush())
}

func stopped(err error) error {
	if errors.Is(err, errStop) {
		return nil
	}
	return err
}
