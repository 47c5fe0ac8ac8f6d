package debian

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"

	"banger/internal/base/errs"
	"banger/internal/fetch"
)

// release is what we use of a Release file.
type release struct {
	suite, codename string
	date            time.Time
	validUntil      time.Time // zero: for ever
	byHash          bool
	files           map[string]fetch.Digest // by path below dists/<suite>/
}

// verify returns the text that one of keys has signed, and nothing else of
// inRelease, and the fingerprint of that key. A release has several signatures: one
// that is good is enough, whatever the others are.
func verify(inRelease []byte, keys openpgp.EntityList) (text []byte, key string, err error) {
	err = errors.New("it is not signed")
	for _, k := range keys {
		// Anew for each key: verifying reads the signatures.
		block, _ := clearsign.Decode(inRelease)
		if block == nil {
			return nil, "", err
		}
		_, failed := block.VerifySignature(openpgp.EntityList{k}, nil)
		if failed == nil {
			return block.Bytes, Fingerprint(k), nil
		}
		// That one of the keys has not signed says less than that its signature is bad.
		if !errors.Is(failed, pgperrors.ErrUnknownIssuer) || !errors.Is(err, errNoKey) {
			err = fmt.Errorf("%w: %w", errNoKey, failed)
		}
	}
	return nil, "", err
}

var errNoKey = errors.New("no key of Debian has signed it")

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
		files:  map[string]fetch.Digest{},
	}
	for name, to := range map[string]*time.Time{"date": &r.date, "valid-until": &r.validUntil} {
		if s[name] == "" {
			continue
		}
		t, err := time.Parse("Mon, _2 Jan 2006 15:04:05 MST", s[name])
		if err != nil {
			return r, fmt.Errorf("cannot read the date %.80q", s[name])
		}
		*to = t.UTC()
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

func parseDigest(sum, size string) (fetch.Digest, error) {
	var d fetch.Digest
	raw, err := hex.DecodeString(sum)
	if err != nil || len(raw) != len(d.SHA256) {
		return d, fmt.Errorf("%.80q is no SHA-256", sum)
	}
	copy(d.SHA256[:], raw)
	if d.Size, err = strconv.ParseInt(size, 10, 64); err != nil || d.Size < 0 {
		return d, fmt.Errorf("%.80q is no size", size)
	}
	return d, nil
}
