package doctor

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// maxSources bounds one file of apt's sources, in bytes.
const maxSources = 1 << 20

// mirror looks for a Debian archive in apt's configuration below dir: images and
// kernels come from there.
func mirror(dir string) Check {
	files, _ := filepath.Glob(filepath.Join(dir, "sources.list.d", "*")) // the pattern is well-formed
	for _, path := range append([]string{filepath.Join(dir, "sources.list")}, files...) {
		text := readBounded(path)
		uri, ok := "", false
		switch filepath.Ext(path) {
		case ".list":
			uri, ok = debianInList(text)
		case ".sources":
			uri, ok = debianInSources(text)
		}
		if ok {
			return Check{Name: "debian mirror", Status: OK, Detail: uri + ", from " + path}
		}
	}
	return Check{
		Name: "debian mirror", Status: Fail, Detail: "apt's configuration names no Debian archive to make images and kernels from",
		Fix: "add a source of Debian bookworm, signed by debian-archive-keyring, in /etc/apt/sources.list.d",
	}
}

func readBounded(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSources))
	if err != nil {
		return ""
	}
	return string(data)
}

// debianInList finds the first Debian archive in one-line format (sources.list(5)):
// "deb [options] uri suite components".
func debianInList(text string) (uri string, ok bool) {
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		kind, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if kind != "deb" {
			continue
		}
		rest = strings.TrimSpace(rest)
		if strings.HasPrefix(rest, "[") {
			_, rest, _ = strings.Cut(rest, "]")
		}
		if f := strings.Fields(rest); len(f) >= 2 && isDebian(f[0], f[1]) {
			return f[0], true
		}
	}
	return "", false
}

// debianInSources finds the first Debian archive in deb822 format: paragraphs of
// "Key: value" whose further lines begin with a blank.
func debianInSources(text string) (uri string, ok bool) {
	var last string
	fields := map[string]string{}
	found := func() (string, bool) {
		enabled := !strings.EqualFold(strings.TrimSpace(fields["enabled"]), "no")
		for _, kind := range strings.Fields(fields["types"]) {
			for _, u := range strings.Fields(fields["uris"]) {
				for _, suite := range strings.Fields(fields["suites"]) {
					if kind == "deb" && enabled && isDebian(u, suite) {
						return u, true
					}
				}
			}
		}
		return "", false
	}
	lines := bufio.NewScanner(strings.NewReader(text))
	lines.Buffer(nil, maxSources)
	for lines.Scan() {
		line := lines.Text()
		switch key, value, isField := strings.Cut(line, ":"); {
		case strings.TrimSpace(line) == "":
			if u, ok := found(); ok {
				return u, true
			}
			clear(fields)
			last = ""
		case line[0] == '#':
		case line[0] == ' ', line[0] == '\t':
			fields[last] += line
		case isField:
			last = strings.ToLower(key)
			fields[last] = value
		}
	}
	return found()
}

// isDebian says whether a source looks like Debian's main archive: others, such as
// a vendor's, have neither its path nor its suites.
func isDebian(uri, suite string) bool {
	if !strings.Contains(uri, ":/") || strings.Contains(uri, "security") || strings.Contains(suite, "/") {
		return false
	}
	if strings.HasSuffix(strings.TrimRight(uri, "/"), "/debian") {
		return true
	}
	release, _, _ := strings.Cut(suite, "-")
	switch release {
	case "bookworm", "trixie", "forky", "sid", "stable", "oldstable", "testing", "unstable":
		return strings.Contains(uri, "debian") && !strings.Contains(suite, "security")
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
