package mmdebstrap

import (
	"regexp"
	"slices"
	"strings"

	"banger/internal/base/errs"
)

// reason is one sort of failure that apt tells of, and how a user sees it.
type reason struct {
	line *regexp.Regexp
	kind errs.Kind
	// say has $1, $2 … for the groups of line.
	say, hint string
}

// reasons are in the order of how much they explain. The texts are apt's in the C
// locale.
var reasons = []reason{
	{
		regexp.MustCompile(`^E: (?:Unable to locate package (\S+)|Package '([^']+)' has no installation candidate)$`),
		errs.NotFound, "there is no package $1$2", "look for its name: apt-cache search, or https://packages.debian.org",
	},
	{
		regexp.MustCompile(`^(\S+) : ((?:Depends|PreDepends|Conflicts|Breaks): .+)$`),
		errs.Conflict, "$1 cannot be installed: $2", "leave out one of the packages",
	},
	{
		regexp.MustCompile(`^E: Failed to fetch (\S+)\s+Hash Sum mismatch`),
		errs.Unavailable, "the mirror is being updated: $1", "try again in some minutes",
	},
	{
		regexp.MustCompile(`^E: The repository '(.+)' is not signed\.$`),
		errs.Unavailable, "no key of Debian has signed $1", "use another mirror",
	},
	{
		regexp.MustCompile(`^E: (The repository '.+' does not have a Release file|Release file for .+ is (?:expired|not valid yet).*)$`),
		errs.Unavailable, "$1", "check the mirror and the clock of this host",
	},
	{
		regexp.MustCompile(`^E: Failed to fetch (\S+)\s+(.*)$`),
		errs.Unavailable, "cannot fetch $1: $2", "check the network and the mirror",
	},
}

// maxReasons bounds the failures that are told of.
const maxReasons = 5

// explained are the failures of one sort.
type explained struct {
	sort  int // an index of reasons
	texts []string
}

// take notes what a line explains.
func (e *explained) take(line string) {
	for i, r := range reasons {
		m := r.line.FindStringSubmatchIndex(line)
		switch {
		case m == nil:
			continue
		case e.texts == nil || i < e.sort:
			e.sort, e.texts = i, nil
		case i > e.sort:
			return
		}
		text := string(r.line.ExpandString(nil, r.say, line, m))
		if len(e.texts) < maxReasons && !slices.Contains(e.texts, text) {
			e.texts = append(e.texts, text)
		}
		return
	}
}

// err is what apt has failed of, or nil if it did not say.
func (e *explained) err() error {
	if e.texts == nil {
		return nil
	}
	r := reasons[e.sort]
	return errs.New(r.kind, "%s", strings.Join(e.texts, "; ")).WithHint("%s", r.hint)
}
