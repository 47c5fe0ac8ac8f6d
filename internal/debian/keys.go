package debian

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp"

	"banger/internal/base/errs"
)

// pinned are the fingerprints of the keys that sign bookworm and trixie: a key that
// is not among them is not trusted, wherever it comes from. A test compares them
// with the package debian-archive-keyring.
var pinned = map[string]string{
	"B8B80B5B623EAB6AD8775C45B7C5D7D6350947F8": "archive, bookworm",
	"05AB90340C0C5E797F44A8C8254CF3B5AEC0A8F0": "security archive, bookworm",
	"4D64FEC119C2029067D6E791F8D2585B8783D481": "stable release, bookworm",
	"04B54C3CDCA79751B16BC6B5225629DF75B188BD": "archive, trixie",
	"5E04A1E3223A19A20706E20F9904613D4CCE68C6": "security archive, trixie",
	"41587F7DB8C774BCCF131416762F67A0B2C39DE4": "stable release, trixie",
}

// embedded are the pinned keys, exported from the package debian-archive-keyring,
// so that a host need not have it.
//
//go:embed keys.asc
var embedded []byte

// DefaultKeyring is where the package debian-archive-keyring puts Debian's keys.
const DefaultKeyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// archiveKeys returns the pinned keys. Of a key that the host's package has too, the
// package's copy counts: Debian may have put off its expiry.
func archiveKeys(hostKeyring string) (openpgp.EntityList, error) {
	own, err := parseKeys(embedded)
	if err != nil {
		return nil, fmt.Errorf("cannot read the keys in banger: %w", err)
	}
	host, err := readKeyring(hostKeyring)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var keys openpgp.EntityList
	seen := map[string]bool{}
	for _, k := range append(host, own...) {
		f := Fingerprint(k)
		if _, ok := pinned[f]; ok && !seen[f] {
			keys, seen[f] = append(keys, k), true
		}
	}
	return keys, nil
}

// Keyring returns the pinned keys as one file, binary (RFC 9580, section 10.1), for
// programs that check signatures themselves.
func Keyring() ([]byte, error) {
	keys, err := archiveKeys(DefaultKeyring)
	if err != nil {
		return nil, err
	}
	var ring bytes.Buffer
	for _, k := range keys {
		if err := k.Serialize(&ring); err != nil {
			return nil, fmt.Errorf("cannot write the key %s: %w", Fingerprint(k), err)
		}
	}
	return ring.Bytes(), nil
}

// Fingerprint is that of a key's primary key, in upper-case hexadecimal.
func Fingerprint(k *openpgp.Entity) string {
	return strings.ToUpper(fmt.Sprintf("%x", k.PrimaryKey.Fingerprint))
}

// maxKeyring bounds a file of keys, in bytes; that of Debian's package has 56 kB.
const maxKeyring = 4 << 20

// readKeyring reads a file of keys, binary or armored.
func readKeyring(path string) (openpgp.EntityList, error) {
	data, err := readBounded(path, maxKeyring)
	if err != nil {
		return nil, errs.New(errs.Unavailable, "cannot read Debian's keys: %w", err).WithHint("apt-get install debian-archive-keyring")
	}
	keys, err := parseKeys([]byte(data))
	if err != nil {
		return nil, errs.New(errs.Unavailable, "cannot read Debian's keys in %q: %w", path, err).WithHint("apt-get install --reinstall debian-archive-keyring")
	}
	return keys, nil
}

func parseKeys(data []byte) (openpgp.EntityList, error) {
	if bytes.HasPrefix(data, []byte("-----BEGIN PGP")) {
		return openpgp.ReadArmoredKeyRing(bytes.NewReader(data))
	}
	return openpgp.ReadKeyRing(bytes.NewReader(data))
}

// keyring returns the keys to trust: those of a file, all of them, or the pinned ones.
func keyring(path string) (openpgp.EntityList, error) {
	if path != "" {
		return readKeyring(path)
	}
	return archiveKeys(DefaultKeyring)
}
