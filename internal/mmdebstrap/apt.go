package mmdebstrap

import (
	"bytes"
	"context"
	"os"
	"regexp"
	"runtime"
	"strings"

	"banger/internal/base/errs"
)

// Source is an archive to take packages from: every combination of its suites
// and components at one address.
type Source struct {
	// URI is the archive's address, such as "http://mirror.example.com/debian".
	URI                string
	Suites, Components []string
	// SignedBy is the absolute path of the keyring that the archive must be signed
	// with; where it is empty, the keys that the host's apt trusts count.
	SignedBy string
	// IgnoreExpiry takes lists whose Valid-Until has passed (snapshots).
	IgnoreExpiry bool
}

var (
	// plainURI and plainWord keep a source from being more than one field of a line.
	plainURI  = regexp.MustCompile(`^[a-z][a-z+]*:[!-Z\\^-~]+$`)
	plainWord = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+/-]*$`)
	plainPath = regexp.MustCompile(`^/[A-Za-z0-9._+/-]+$`)
)

// sourcesList returns the sources in one-line format (sources.list(5)).
func sourcesList(sources []Source) (string, error) {
	var b strings.Builder
	for _, s := range sources {
		bad := func(what, value string) error {
			return errs.New(errs.Invalid, "cannot use the archive %q: its %s %q is not plain", s.URI, what, value)
		}
		if !plainURI.MatchString(s.URI) {
			return "", bad("address", s.URI)
		}
		var options []string
		if s.SignedBy != "" {
			if !plainPath.MatchString(s.SignedBy) {
				return "", bad("keyring", s.SignedBy)
			}
			options = append(options, "signed-by="+s.SignedBy)
		}
		if s.IgnoreExpiry {
			options = append(options, "check-valid-until=no")
		}
		head := "deb "
		if options != nil {
			head += "[" + strings.Join(options, " ") + "] "
		}
		for _, c := range s.Components {
			if !plainWord.MatchString(c) {
				return "", bad("component", c)
			}
		}
		for _, suite := range s.Suites {
			if !plainWord.MatchString(suite) {
				return "", bad("suite", suite)
			}
			b.WriteString(head + s.URI + " " + suite + " " + strings.Join(s.Components, " ") + "\n")
		}
	}
	if b.Len() == 0 {
		return "", errs.New(errs.Unavailable, "cannot build an image: apt's configuration names no Debian archive").
			WithHint("add a Debian mirror to /etc/apt/sources.list")
	}
	return b.String(), nil
}

// Proxies are how mirrors are reached; fields that are empty are none.
type Proxies struct {
	// HTTP and HTTPS are URLs; No has hosts, with commas between, that are reached without.
	HTTP, HTTPS, No string
}

// environ is the environment that names the proxies: ours, where p is nil.
func (p *Proxies) environ() (env []string) {
	if p != nil {
		return []string{"http_proxy=" + p.HTTP, "https_proxy=" + p.HTTPS, "no_proxy=" + p.No}
	}
	for _, v := range []string{"http_proxy", "https_proxy", "no_proxy"} {
		if value, ok := os.LookupEnv(v); ok {
			env = append(env, v+"="+value)
		}
	}
	return env
}

// options are what apt is told about proxies on its command line: what the host's apt is,
// where p is nil. Otherwise the environment is enough: the build's apt reads nothing of
// the host's.
func (p *Proxies) options(ctx context.Context) ([]string, error) {
	if p != nil {
		return nil, nil
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd, err := command(ctx, []string{"HOME=/tmp"}, "apt-config", "dump")
	if err != nil {
		return nil, err
	}
	dump, err := cmd.Output()
	if err != nil {
		return nil, errs.New(errs.Unavailable, "cannot read apt's configuration: %w", err)
	}
	return proxies(dump), nil
}

var proxyLine = regexp.MustCompile(`(?m)^Acquire::https?::(Proxy(::[^ ]+)?|Proxy-Auto-Detect|ProxyAutoDetect) "[^"\n]+";$`)

// proxies picks the lines about proxies from the output of apt-config dump.
func proxies(dump []byte) []string {
	var lines []string
	for _, l := range proxyLine.FindAll(dump, -1) {
		lines = append(lines, string(bytes.TrimSuffix(l, []byte(";"))))
	}
	return lines
}
