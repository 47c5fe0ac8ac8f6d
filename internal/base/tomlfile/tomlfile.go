// Package tomlfile reads what users write in TOML (1.0), strictly: what is not known is
// an error. Errors are errs.Invalid and begin "FILE:LINE: ", with the key that is wrong.
package tomlfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"banger/internal/base/errs"
)

// MaxSize bounds a file, in bytes.
const MaxSize = 256 << 10

// maxDepth is how many parts of a key are told apart: no file of ours has more, and
// one of another's could have as many as letters.
const maxDepth = 16

// File is a file that was decoded: it knows where its keys stand.
type File struct {
	path string
	// offsets are those of the keys, lines those of the ends of lines.
	offsets map[string]int
	lines   []int
}

// Read decodes the file at path into v as [Decode] does. One that does not exist is an
// error that is [io/fs.ErrNotExist].
func Read(path string, v any) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, errs.New(errs.Invalid, "cannot read the file: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, errs.New(errs.Invalid, "cannot read the file: %w", err)
	}
	return Decode(path, data, v)
}

// Decode decodes data, which path holds, into v, a pointer to a struct whose fields have
// "toml" tags.
func Decode(path string, data []byte, v any) (*File, error) {
	if len(data) > MaxSize {
		return nil, errs.New(errs.Invalid, "%s: it is larger than %d bytes", path, MaxSize)
	}
	f := &File{path: path, offsets: map[string]int{}}
	d := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields()
	err := d.Decode(v)
	f.index(data)
	if err != nil {
		return nil, f.explain(err, reflect.TypeOf(v))
	}
	return f, nil
}

// Where is "FILE:LINE" of a key, or "" if the file does not have it. Elements of arrays
// are keys too, "0" the first.
func (f *File) Where(key ...string) string {
	if f == nil {
		return ""
	}
	offset, ok := f.offsets[join(key)]
	if !ok {
		return ""
	}
	line, _ := slices.BinarySearch(f.lines, offset)
	return f.path + ":" + strconv.Itoa(line+1)
}

// Keys are the parts that may follow a key, in the order of letters.
func (f *File) Keys(key ...string) (all []string) {
	if f == nil {
		return nil
	}
	for name := range f.offsets {
		if part, ok := strings.CutPrefix(name, join(key)+"\x00"); ok && !strings.Contains(part, "\x00") {
			all = append(all, part)
		}
	}
	slices.Sort(all)
	return all
}

// At says of err, which the value of a key has caused, where that is.
func (f *File) At(err error, key ...string) error {
	where := f.path
	for n := len(key); n > 0; n-- { // what is missing has the place of what it is missing in
		if at := f.Where(key[:n]...); at != "" {
			where = at
			break
		}
	}
	return errs.New(errs.Invalid, "%s: %s: %w", where, dotted(key), err)
}

// join makes a map's key of a key; no part of one has a NUL.
func join(key []string) string { return strings.Join(key, "\x00") }

// index notes where all keys are, up to the first error.
func (f *File) index(data []byte) {
	for i, b := range data {
		if b == '\n' {
			f.lines = append(f.lines, i)
		}
	}
	var p unstable.Parser
	p.Reset(data)
	var table []string
	elements := map[string]int{} // how many each array of tables has
	for p.NextExpression() {
		switch e := p.Expression(); e.Kind {
		case unstable.Table, unstable.ArrayTable:
			name, at := keyOf(e)
			table = f.resolve(name, elements)
			if e.Kind == unstable.ArrayTable {
				f.note(table, at)
				n := elements[join(table)]
				elements[join(table)]++
				table = append(table, strconv.Itoa(n))
			}
			f.note(table, at)
		case unstable.KeyValue:
			f.keyValue(table, e)
		}
	}
}

// resolve puts into a table's name the numbers of the elements that it is in: the last
// ones so far.
func (f *File) resolve(name []string, elements map[string]int) (table []string) {
	for i, part := range name[:min(len(name), maxDepth)] {
		table = append(table, part)
		if n := elements[join(table)]; n > 0 && i < len(name)-1 {
			table = append(table, strconv.Itoa(n-1))
		}
	}
	return table
}

func (f *File) keyValue(table []string, e *unstable.Node) {
	name, at := keyOf(e)
	if len(table)+len(name) > maxDepth {
		return
	}
	key := table[:len(table):len(table)]
	for _, part := range name {
		key = append(key, part)
		f.note(key, at)
	}
	f.value(key, e.Value())
}

func (f *File) value(key []string, v *unstable.Node) {
	key = key[:len(key):len(key)]
	for i, n := v.Children(), 0; i.Next(); n++ {
		switch child := i.Node(); v.Kind {
		case unstable.InlineTable:
			f.keyValue(key, child)
		case unstable.Array:
			element := append(key, strconv.Itoa(n))
			f.note(element, offsetOf(child))
			f.value(element, child)
		}
	}
}

func (f *File) note(key []string, at int) {
	if _, known := f.offsets[join(key)]; !known && len(key) <= maxDepth {
		f.offsets[join(key)] = at
	}
}

func keyOf(n *unstable.Node) (name []string, at int) {
	for i := n.Key(); i.Next(); {
		if len(name) == 0 {
			at = offsetOf(i.Node())
		}
		name = append(name, string(i.Node().Data))
	}
	return name, at
}

// offsetOf is where a node begins: an array or table with its first child that has a
// place.
func offsetOf(n *unstable.Node) int {
	if n.Raw.Length == 0 && n.Kind != unstable.String {
		if n.Kind == unstable.KeyValue {
			_, at := keyOf(n)
			return at
		}
		for i := n.Children(); i.Next(); {
			return offsetOf(i.Node())
		}
	}
	return int(n.Raw.Offset)
}

// explain turns what the decoder says into errors for people.
func (f *File) explain(err error, t reflect.Type) error {
	if missing, ok := errors.AsType[*toml.StrictMissingError](err); ok {
		e := &missing.Errors[0]
		key := f.keyAt(e)
		bad := errs.New(errs.Invalid, "%s: there is no key %q", f.at(e), dotted(key))
		if near := nearest(key, t); near != "" {
			return bad.WithHint("write %s", near)
		}
		return bad
	}
	e, ok := errors.AsType[*toml.DecodeError](err)
	if !ok {
		return errs.New(errs.Invalid, "%s: %w", f.path, err)
	}
	what := strings.TrimPrefix(e.Error(), "toml: ")
	if m := mismatch.FindStringSubmatch(what); m != nil {
		what = fmt.Sprintf("it is %s, and must be %s", article(m[1]), kindName(m[2]))
	}
	if len(e.Key()) > 0 {
		what = dotted(e.Key()) + ": " + what
	}
	return errs.New(errs.Invalid, "%s: %s", f.at(e), what)
}

// keyAt is the key at the place of an error; the decoder's own does not tell in which
// arrays it is.
func (f *File) keyAt(e *toml.DecodeError) []string {
	line, column := e.Position()
	at := column - 1
	if line > 1 {
		at += f.lines[line-2] + 1
	}
	best := ""
	for key, offset := range f.offsets {
		if offset == at && len(key) > len(best) { // of a.b, both parts are noted there
			best = key
		}
	}
	if best == "" {
		return e.Key()
	}
	key := strings.Split(best, "\x00")
	if _, err := strconv.Atoi(key[len(key)-1]); err == nil && len(key) > 1 {
		key = key[:len(key)-1] // the first element of an array of tables stands for it
	}
	return key
}

func (f *File) at(e *toml.DecodeError) string {
	line, _ := e.Position()
	return f.path + ":" + strconv.Itoa(line)
}

// mismatch is how the decoder says that a value is of another type than a field.
var mismatch = regexp.MustCompile(`(?s)^cannot (?:decode TOML|store a) (\w+) (?:into|in) .*?([^ ]+|struct \{.*\})$`)

func kindName(goType string) string {
	switch {
	case goType == "string" || goType == "*string":
		return "a string"
	case goType == "bool" || goType == "*bool":
		return "true or false"
	case strings.HasPrefix(goType, "[]"):
		return "an array"
	}
	return "a table"
}

func article(word string) string {
	if strings.ContainsRune("aeiou", rune(word[0])) {
		return "an " + word
	}
	return "a " + word
}

var bare = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// dotted is a key as people write it.
func dotted(key []string) string {
	parts := make([]string, len(key))
	for i, part := range key {
		if parts[i] = part; !bare.MatchString(part) {
			parts[i] = strconv.Quote(part)
		}
	}
	return strings.Join(parts, ".")
}
