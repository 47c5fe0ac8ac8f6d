package vm

import (
	"math/rand/v2"

	"banger/internal/base/errs"
)

// Name is a VM's name: a DNS label of 1 to 63 characters from a-z, 0-9 and
// hyphens, with no hyphen at either end (RFC 1123 section 2.1, lower case only).
// It becomes a host name, so it is never rewritten, only refused.
type Name string

// maxName is the length of a DNS label (RFC 1035 section 2.3.4).
const maxName = 63

// ParseName checks s and returns it as a Name.
func ParseName(s string) (Name, error) {
	hint := "use 1 to 63 of a-z, 0-9 and hyphens, beginning and ending with a letter or digit"
	if s == "" {
		return "", errs.New(errs.Invalid, "a VM's name cannot be empty").WithHint("%s", hint)
	}
	if len(s) > maxName {
		return "", errs.New(errs.Invalid, "the name %q has %d characters, %d more than a DNS label may have", s, len(s), len(s)-maxName).WithHint("%s", hint)
	}
	for i := range len(s) {
		c := s[i]
		edge := i == 0 || i == len(s)-1
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
		case c == '-' && !edge:
		default:
			return "", errs.New(errs.Invalid, "the name %q cannot be a DNS label: %q is not allowed at position %d", s, c, i+1).WithHint("%s", hint)
		}
	}
	return Name(s), nil
}

// RandomName returns a readable name such as "calm-otter-42". Names repeat: the
// caller checks whether one is taken.
func RandomName() Name {
	pick := func(words []string) string { return words[rand.IntN(len(words))] }
	n := rand.IntN(90) + 10
	return Name(pick(adjectives) + "-" + pick(nouns) + "-" + string([]byte{byte('0' + n/10), byte('0' + n%10)}))
}

var adjectives = []string{
	"able", "amber", "bold", "brave", "brief", "bright", "brisk", "calm", "clear", "clever", "cosy", "crisp", "deep", "eager", "early",
	"fair", "fast", "fine", "firm", "fleet", "fresh", "gentle", "glad", "grand", "green", "happy", "hardy", "keen", "kind", "late",
	"light", "lively", "lucky", "mellow", "merry", "mild", "neat", "noble", "plain", "prime", "proud", "quick", "quiet", "rapid", "ready",
	"rosy", "sharp", "shiny", "silent", "smart", "smooth", "snug", "solid", "spry", "steady", "still", "sunny", "swift", "tidy", "vivid", "warm", "wise",
}

var nouns = []string{
	"acorn", "aspen", "badger", "beacon", "birch", "bison", "brook", "cedar", "cliff", "comet", "coral", "crane", "creek", "dune", "eagle",
	"ember", "falcon", "fern", "finch", "fjord", "fox", "glade", "grove", "harbor", "hare", "hawk", "hazel", "heron", "island", "ivy",
	"lark", "lemur", "linden", "lynx", "maple", "marten", "meadow", "moss", "newt", "oak", "orchid", "otter", "owl", "panda", "pine",
	"plover", "pond", "quail", "raven", "reef", "ridge", "robin", "sable", "salmon", "sparrow", "spruce", "stork", "swan", "thicket", "tulip", "walnut", "willow",
}
