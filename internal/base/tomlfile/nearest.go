package tomlfile

import (
	"reflect"
	"strings"
)

// nearest is the known key that the writer of an unknown one may have meant: it differs
// in two letters, or a third of them, at most. It is "" if there is none.
func nearest(key []string, t reflect.Type) string {
	for i, part := range key {
		for t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if t.Kind() == reflect.Map || t.Kind() == reflect.Slice { // any part will do, or a number
			t = t.Elem()
			continue
		}
		if t.Kind() != reflect.Struct {
			return ""
		}
		best, found := "", max(2, len(part)/3)+1
		var next reflect.Type
		for f := range t.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("toml"), ",")
			if name == part {
				next = f.Type
			}
			if d := distance(part, name); name != "" && d < found {
				best, found = name, d
			}
		}
		if next == nil {
			if best == "" {
				return ""
			}
			return dotted(append(key[:i:i], best))
		}
		t = next
	}
	return ""
}

// distance is how many letters of a have to be put in, taken out or replaced to make b
// (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
