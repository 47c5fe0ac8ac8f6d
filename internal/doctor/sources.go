package doctor

import (
	"fmt"
	"path/filepath"
	"strings"

	"banger/internal/base/errs"
	"banger/internal/debian"
	"banger/internal/fetch"
)

// mirror looks for a Debian archive where images and kernels would come from: in own, the
// user's file of mirrors, if it exists, else in apt's configuration below root. It asks
// no mirror anything.
func mirror(own, root string) Check {
	c := Check{Name: "debian mirror", Status: Fail}
	sources, from, err := debian.Sources(own, root)
	if err != nil {
		c.Detail, c.Fix = err.Error(), errs.HintOf(err)
		return c
	}
	for _, s := range sources {
		if isDebian(s) {
			c.Status, c.Detail = OK, fetch.Redacted(s.URI)+", from "+from
			return c
		}
	}
	c.Detail = fmt.Sprintf("%s names no Debian archive to make images and kernels from", from)
	c.Fix = "add a source of Debian bookworm, signed by debian-archive-keyring, in " + filepath.Join(from, "sources.list.d")
	if from == own {
		c.Fix = fmt.Sprintf("add a source of Debian bookworm to %s, or remove the file: then apt's configuration counts", own)
	}
	return c
}

// isDebian says whether a source looks like Debian's main archive: others, such as
// a vendor's, have neither its path nor its suites.
func isDebian(s debian.Source) bool {
	if strings.Contains(s.URI, "security") {
		return false
	}
	if strings.HasSuffix(s.URI, "/debian") {
		return true
	}
	for _, suite := range s.Suites {
		release, _, _ := strings.Cut(suite, "-")
		switch release {
		case "bookworm", "trixie", "forky", "sid", "stable", "oldstable", "testing", "unstable":
			if strings.Contains(s.URI, "debian") && !strings.Contains(suite, "security") {
				return true
			}
		}
	}
	return false
}

// keyring looks for the keys that Debian's archive is signed with.
func keyring() Check {
	for _, pattern := range []string{"/usr/share/keyrings/debian-archive-keyring.*", "/etc/apt/trusted.gpg.d/debian-archive-*"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return Check{Name: "debian keyring", Status: OK, Detail: found[0]}
		}
	}
	return Check{Name: "debian keyring", Status: Fail, Detail: "the keys of Debian's archive are missing", Fix: install("debian-archive-keyring")}
}
