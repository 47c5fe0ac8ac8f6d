package debian

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"

	"banger/internal/base/errs"
)

// DefaultKeyring is where the package debian-archive-keyring puts Debian's keys.
const DefaultKeyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// digest is what a Release or Packages file says of another file.
type digest struct {
	size   int64
	sha256 [32]byte
}

// release is what we use of a Release file.
type release struct {
	suite, codename string
	validUntil      time.Time // zero: for ever
	byHash          bool
	files           map[string]digest // by path below dists/<suite>/
}

func readKeyring(path string) (openpgp.EntityList, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, errs.New(errs.Unavailable, "cannot read Debian's keys: %w", err).WithHint("apt-get install debian-archive-keyring")
	}
	read := openpgp.ReadKeyRing
	if bytes.HasPrefix(data, []byte("-----BEGIN PGP")) {
		read = openpgp.ReadArmoredKeyRing
	}
	keys, err := read(bytes.NewReader(data))
	if err != nil {
		return nil, errs.New(errs.Unavailable, "cannot read Debian's keys in %q: %w", path, err).WithHint("apt-get install --reinstall debian-archive-keyring")
	}
	return keys, nil
}

// verify returns the text that one of keys has signed, and nothing else of inRelease.
func verify(inRelease []byte, keys openpgp.EntityList) ([]byte, error) {
	block, _ := clearsign.Decode(inRelease)
	if block == nil {
		return nil, errors.New("it is not signed")
	}
	if _, err := block.VerifySignature(keys, nil); err != nil {
		return nil, fmt.Errorf("no key of Debian has signed it: %w", err)
	}
	return block.Bytes, nil
}

// parseRelease reads a Release file, after the Debian wiki's
// DebianRepository/Format.
func parseRelease(text []byte) (release, error) {
	var r release
	err := walkStanzas(bytes.NewReader(text), func(s stanza) (err error) {
		if r, err = newRelease(s); err != nil {
			return err
		}
		return errStop // one paragraph is all there is
	})
	if err == nil && r.files == nil {
		err = errors.New("it is empty")
	}
	return r, err
}

func newRelease(s stanza) (release, error) {
	r := release{
		suite: s["suite"], codename: s["codename"],
		byHash: strings.EqualFold(s["acquire-by-hash"], "yes"),
		files:  map[string]digest{},
	}
	if v := s["valid-until"]; v != "" {
		t, err := time.Parse("Mon, _2 Jan 2006 15:04:05 MST", v)
		if err != nil {
			return r, fmt.Errorf("cannot read the date %q", v)
		}
		r.validUntil = t
	}
	for line := range strings.Lines(s["sha256"]) {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if len(fields) != 3 {
			return r, fmt.Errorf("cannot read the line %.120q", line)
		}
		d, err := parseDigest(fields[0], fields[1])
		if err != nil {
			return r, err
		}
		r.files[fields[2]] = d
	}
	return r, nil
}

// check refuses a release that is not of suite, or is stale at now. A stale one
// may be a replay of a signed file from before a security update.
func (r release) check(suite string, now time.Time, ignoreExpiry bool) error {
	if !slices.Contains([]string{r.suite, r.codename}, suite) {
		return errs.New(errs.Unavailable, "it is of suite %q, not of %q", r.codename, suite).
			WithHint("mend the source in /etc/apt, or use another mirror")
	}
	if !ignoreExpiry && !r.validUntil.IsZero() && now.After(r.validUntil) {
		return errs.New(errs.Unavailable, "it has expired on %s", r.validUntil.Format(time.RFC1123)).
			WithHint("check the clock of this host (date) and its mirror (apt-get update)")
	}
	return nil
}

func parseDigest(sum, size string) (digest, error) {
	var d digest
	raw, err := hex.DecodeString(sum)
	if err != nil || len(raw) != len(d.sha256) {
		return d, fmt.Errorf("%.80q is no SHA-256", sum)
	}
	copy(d.sha256[:], raw)
	if d.size, err = strconv.ParseInt(size, 10, 64); err != nil || d.size < 0 {
		return d, fmt.Errorf("%.80q is no size", size)
	}
	return d, nil
}
