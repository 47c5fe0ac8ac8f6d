package mmdebstrap

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// RecordPath is where an image says what it was made of: lines of "index", suite and
// date, and of "package", name, version, architecture and suite, apart by tabs.
const RecordPath = "/usr/share/banger/packages"

// Record is what an image was made of.
type Record struct {
	Indexes  []Index
	Packages []Package
}

// Index is the signed list of a suite.
type Index struct {
	Suite string
	Date  time.Time
}

// Package is one that was installed, and the suite that has it.
type Package struct{ Name, Version, Architecture, Suite string }

// maxRecord bounds a record, in bytes: a package takes 60.
const maxRecord = 4 << 20

func readRecord(path string) (Record, error) {
	f, err := os.Open(path)
	if err != nil {
		return Record{}, fmt.Errorf("the build has not said what it has made: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	r, err := parseRecord(io.LimitReader(f, maxRecord))
	if err != nil {
		return Record{}, fmt.Errorf("cannot read what the build has made: %w", err)
	}
	return r, nil
}

func parseRecord(in io.Reader) (r Record, err error) {
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		f := strings.Split(lines.Text(), "\t")
		switch {
		case strings.HasPrefix(f[0], "#"):
		case f[0] == "index" && len(f) == 3:
			date, err := time.Parse(time.RFC1123, f[2])
			if err != nil {
				return r, fmt.Errorf("the date of %.80q: %w", f[1], err)
			}
			r.Indexes = append(r.Indexes, Index{f[1], date.UTC()})
		case f[0] == "package" && len(f) == 5:
			r.Packages = append(r.Packages, Package{f[1], f[2], f[3], f[4]})
		default:
			return r, fmt.Errorf("the line %.120q", lines.Text())
		}
	}
	return r, lines.Err()
}
