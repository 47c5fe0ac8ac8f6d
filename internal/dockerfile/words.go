package dockerfile

import (
	"strings"

	"banger/internal/vm"
)

// The words of an instruction, as the Dockerfile reference has them: spaces
// separate words, a backslash takes the next character's meaning, nothing has a
// meaning in single quotes, and in double quotes only $, the quote itself and a
// backslash before one of both or itself. $NAME and ${NAME} are variables of the
// image's environment; ${NAME:-word} and ${NAME:+word} are word if the variable is
// empty, or is not; without the colon, if it is not set, or is.

// spaces are what separates words.
const spaces = " \t\r\n"

// expandAll returns the words of text, without quotes and with the values of
// variables.
func expandAll(c *vm.ImageConfig, text string) ([]string, error) {
	words, err := split(text)
	for i := range words {
		if err == nil {
			words[i], err = expand(c, words[i])
		}
	}
	return words, err
}

// split cuts text into words at its spaces and leaves quotes and variables in them.
func split(text string) ([]string, error) {
	var words []string
	start, inWord, quote := 0, false, byte(0)
	for i := 0; i < len(text); i++ {
		switch ch := text[i]; {
		case ch == '\\' && quote != '\'':
			if !inWord {
				start, inWord = i, true
			}
			i++ // it has no meaning here
		case quote != 0:
			if ch == quote {
				quote = 0
			}
		case strings.IndexByte(spaces, ch) >= 0:
			if inWord {
				words = append(words, text[start:i])
			}
			inWord = false
		default:
			if !inWord {
				start, inWord = i, true
			}
			if ch == '"' || ch == '\'' {
				quote = ch
			}
		}
	}
	if quote != 0 {
		return nil, wrong("the quote %c has no end in %.200q", quote, text)
	}
	if inWord {
		words = append(words, text[start:])
	}
	return words, nil
}

// expand takes the quotes away from word and puts in the values of variables.
func expand(c *vm.ImageConfig, word string) (string, error) {
	e := expander{rest: word, vars: map[string]string{"PATH": defaultPath}}
	for _, entry := range c.Environ(nil) {
		key, value, _ := strings.Cut(entry, "=")
		e.vars[key] = value
	}
	text, err := e.until("")
	if err != nil {
		return "", wrong("%.200q: %w", word, err)
	}
	return text, nil
}

// expander reads one word.
type expander struct {
	rest string
	vars map[string]string
	// size counts the bytes that variables have added, depth words within words.
	size, depth int
}

// maxDepth bounds variables within the words of variables.
const maxDepth = 16

// until reads to stop, which it takes, or without one to the end.
func (e *expander) until(stop string) (string, error) {
	var out strings.Builder
	for e.rest != "" {
		if stop != "" && strings.HasPrefix(e.rest, stop) {
			e.take(len(stop))
			return out.String(), nil
		}
		part, err := e.part()
		if err != nil {
			return "", err
		}
		out.WriteString(part)
	}
	if stop != "" {
		return "", wrong("the end %q is missing", stop)
	}
	return out.String(), nil
}

// part reads an escape, a quote, a variable or one byte.
func (e *expander) part() (string, error) {
	switch ch := e.take(1); ch {
	case `\`:
		return e.take(min(1, len(e.rest))), nil
	case "'":
		end := strings.IndexByte(e.rest, '\'')
		if end < 0 {
			return "", wrong("a single quote has no end")
		}
		text := e.take(end)
		e.take(1)
		return text, nil
	case `"`:
		return e.doubleQuoted()
	case "$":
		return e.variable()
	default:
		return ch, nil
	}
}

func (e *expander) take(n int) string {
	text := e.rest[:n]
	e.rest = e.rest[n:]
	return text
}

func (e *expander) doubleQuoted() (string, error) {
	var out strings.Builder
	for e.rest != "" {
		switch ch := e.take(1); {
		case ch == `"`:
			return out.String(), nil
		case ch == `\` && e.rest != "" && strings.Contains(`"$\`, e.rest[:1]):
			out.WriteString(e.take(1))
		case ch == "$":
			value, err := e.variable()
			if err != nil {
				return "", err
			}
			out.WriteString(value)
		default:
			out.WriteString(ch)
		}
	}
	return "", wrong("a double quote has no end")
}

// variable reads what follows a dollar; one that names nothing is just that.
func (e *expander) variable() (string, error) {
	if !strings.HasPrefix(e.rest, "{") {
		name := e.name()
		if name == "" {
			return "$", nil
		}
		return e.value(name)
	}
	e.rest = e.rest[1:]
	name := e.name()
	if name == "" || e.rest == "" {
		return "", wrong("${ is not followed by NAME}")
	}
	value, set := e.vars[name]
	operator := e.take(1)
	if operator == "}" {
		return e.value(name)
	}
	if operator == ":" && e.rest != "" {
		set, operator = value != "", e.take(1)
	}
	if operator != "-" && operator != "+" {
		return "", wrong("${%s is followed by %q, and only -, +, :- and :+ may follow", name, operator)
	}
	if e.depth++; e.depth > maxDepth {
		return "", wrong("there are more than %d words within words", maxDepth)
	}
	word, err := e.until("}")
	e.depth--
	switch {
	case err != nil:
		return "", err
	case set && operator == "-":
		return e.value(name)
	case set != (operator == "+"):
		return "", nil
	}
	return word, nil
}

// value is the value of a variable, as long as all of them fit into a configuration.
func (e *expander) value(name string) (string, error) {
	if e.size += len(e.vars[name]); e.size > vm.MaxImageConfig {
		return "", wrong("with the values of its variables it has more than %d bytes", vm.MaxImageConfig)
	}
	return e.vars[name], nil
}

func (e *expander) name() string {
	n := 0
	for n < len(e.rest) && (e.rest[n] == '_' || e.rest[n]|0x20 >= 'a' && e.rest[n]|0x20 <= 'z' || n > 0 && e.rest[n] >= '0' && e.rest[n] <= '9') {
		n++
	}
	return e.take(n)
}
