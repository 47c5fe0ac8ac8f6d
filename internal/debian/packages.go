package debian

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"strings"
	"time"

	"banger/internal/fetch"
)

// Package is one binary package of an archive, as a verified index describes it.
type Package struct {
	Name, Version string
	// Depends names the packages of the field Depends, without versions and
	// without alternatives.
	Depends []string
	// Filename is the path below URI.
	Filename string
	// URI and Suite say where it was found.
	URI, Suite string
	// IndexDate is the date of the suite's index, and Key the fingerprint of the key
	// of Debian's that has signed it.
	IndexDate time.Time
	Key       string
	digest    fetch.Digest
}

// URL is where the package's file is.
func (p Package) URL() string { return p.URI + "/" + escapePath(p.Filename) }

// Size is the length of the package's file in bytes.
func (p Package) Size() int64 { return p.digest.Size }

// SHA256 is the digest of the package's file in hexadecimal.
func (p Package) SHA256() string { return p.digest.Hex() }

// maxPackage bounds one package file, in bytes. Debian's largest are 2 GiB.
const maxPackage = 4 << 30

// parsePackages returns the packages of a Packages index that keep wants.
func parsePackages(r io.Reader, keep func(name string) bool) ([]Package, error) {
	var all []Package
	err := walkStanzas(r, func(s stanza) error {
		if !keep(s["package"]) || s["architecture"] != Arch && s["architecture"] != "all" {
			return nil
		}
		p, err := newPackage(s)
		if err != nil {
			return fmt.Errorf("the package %.80q: %w", s["package"], err)
		}
		all = append(all, p)
		return nil
	})
	return all, err
}

func newPackage(s stanza) (Package, error) {
	p := Package{Name: s["package"], Version: s["version"], Filename: s["filename"]}
	for dep := range strings.SplitSeq(s["depends"], ",") {
		name, _, _ := strings.Cut(strings.TrimSpace(dep), " ")
		name, _, _ = strings.Cut(name, "(")
		if name, _, _ = strings.Cut(name, ":"); name != "" {
			p.Depends = append(p.Depends, name)
		}
	}
	if !packageName.MatchString(p.Name) {
		return p, errors.New("that is no package's name")
	}
	if !fs.ValidPath(p.Filename) || p.Filename == "." {
		return p, fmt.Errorf("%.80q is no path in an archive", p.Filename)
	}
	var err error
	if p.digest, err = parseDigest(s["sha256"], s["size"]); err != nil {
		return p, err
	}
	if p.digest.Size > maxPackage {
		return p, fmt.Errorf("its file of %d bytes is too large", p.digest.Size)
	}
	return p, nil
}

// packageName is after the Debian Policy, section 5.6.1.
var packageName = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+$`)

// Newest returns the package with this name and the highest version.
func Newest(packages []Package, name string) (Package, bool) {
	var best Package
	found := false
	for _, p := range packages {
		if p.Name == name && (!found || CompareVersions(p.Version, best.Version) > 0) {
			best, found = p, true
		}
	}
	return best, found
}
