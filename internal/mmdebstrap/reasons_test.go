package mmdebstrap

import (
	"strings"
	"testing"

	"banger/internal/base/errs"
)

func TestReasons(t *testing.T) {
	for name, c := range map[string]struct {
		said string
		want string
		kind errs.Kind
	}{
		"unknown packages": {`Building dependency tree...
E: Unable to locate package nosuch
E: Unable to locate package g++nope
E: Couldn't find any package by regex 'g++nope'
E: setup failed: E: apt-get --yes install nosuch g++nope failed`, "there is no package nosuch; there is no package g++nope", errs.NotFound},
		"a virtual package": {`Package mail-transport-agent is a virtual package provided by:
  postfix 3.10.13-0+deb13u1

E: Package 'mail-transport-agent' has no installation candidate`, "there is no package mail-transport-agent", errs.NotFound},
		"no network": {`Err:1 http://nohost.invalid/debian trixie InRelease
  Could not resolve 'nohost.invalid'
E: Failed to fetch http://nohost.invalid/debian/dists/trixie/InRelease  Could not resolve 'nohost.invalid'
E: Some index files failed to download. They have been ignored, or old ones used instead.`,
			"cannot fetch http://nohost.invalid/debian/dists/trixie/InRelease: Could not resolve 'nohost.invalid'", errs.Unavailable},
		"no key": {`W: GPG error: http://m.example.com/debian trixie InRelease: The following signatures couldn't be verified because the public key is not available: NO_PUBKEY 6ED0
E: The repository 'http://m.example.com/debian trixie InRelease' is not signed.
E: Failed to fetch http://m.example.com/x  late`, "no key of Debian has signed http://m.example.com/debian trixie InRelease", errs.Unavailable},
		"conflicts": {`The following packages have unmet dependencies:
 sysvinit-core : Conflicts: systemd-sysv
 systemd-sysv : Conflicts: sysvinit-core
E: Unable to correct problems, you have held broken packages.`,
			"sysvinit-core cannot be installed: Conflicts: systemd-sysv; systemd-sysv cannot be installed: Conflicts: sysvinit-core", errs.Conflict},
		"many": {strings.Repeat("E: Unable to locate package a\n", 9), "there is no package a", errs.NotFound},
	} {
		m := &messages{}
		for line := range strings.Lines(c.said) {
			m.take(strings.TrimSpace(line))
		}
		err := m.why.err()
		if err == nil || err.Error() != c.want || errs.KindOf(err) != c.kind || errs.HintOf(err) == "" {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
	m := &messages{}
	m.take("E: something else")
	if err := m.why.err(); err != nil {
		t.Errorf("what nobody knows: %v", err)
	}
}
