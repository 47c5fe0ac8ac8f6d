package term

import (
	"io"
	"strings"
	"unicode"
)

// CleanLine returns s with a space for each control character, line ends
// included: text from a guest cannot move the cursor or write a second line.
func CleanLine(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
}

// CleanText is [CleanLine] for text of several lines.
func CleanText(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
}

// Cleaner passes console output on without the sequences that a terminal would
// obey (ECMA-48): escape sequences, control strings and all control bytes but
// newline and tab.
type Cleaner struct {
	w     io.Writer
	state cleanState
	prev  byte
}

type cleanState int

const (
	text cleanState = iota
	escape
	// control is a control sequence: ESC [, parameters, one final byte.
	control
	// str is a control string: up to BEL or ESC \.
	str
	strEscape
)

// NewCleaner returns a cleaner that writes to w.
func NewCleaner(w io.Writer) *Cleaner { return &Cleaner{w: w} }

// Write passes the clean part of data on.
func (c *Cleaner) Write(data []byte) (int, error) {
	out := make([]byte, 0, len(data))
	for _, b := range data {
		// The controls U+0080 to U+009F are 0xc2 and their number in UTF-8. Without the
		// second byte the first means nothing.
		if c.next(b) && !(c.prev == 0xc2 && b >= 0x80 && b <= 0x9f) {
			out = append(out, b)
		}
		c.prev = b
	}
	if _, err := c.w.Write(out); err != nil {
		return 0, err
	}
	return len(data), nil
}

// next moves the state on by one byte and says whether the byte is text.
func (c *Cleaner) next(b byte) bool {
	switch c.state {
	case escape:
		switch {
		case b == '[':
			c.state = control
		case strings.IndexByte("]PX^_", b) >= 0:
			c.state = str
		case b < 0x20 || b > 0x2f: // not an intermediate byte
			c.state = text
		}
		return b == '\n'
	case control:
		if b >= 0x40 && b <= 0x7e || b < 0x20 {
			c.state = text
		}
		return b == '\n'
	case str, strEscape:
		switch {
		case b == 0x07, c.state == strEscape && b == '\\', b == '\n':
			c.state = text
		case b == 0x1b:
			c.state = strEscape
		default:
			c.state = str
		}
		return b == '\n'
	}
	if b == 0x1b {
		c.state = escape
	}
	return b == '\n' || b == '\t' || b >= 0x20 && b != 0x7f
}
