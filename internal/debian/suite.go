package debian

import (
	"context"
	"net/url"
	"time"
)

// Suite is a suite as an archive has it now.
type Suite struct {
	Name string
	// Source is the archive that has it.
	Source Source
	// IndexDate is the date of its InRelease, and Key the fingerprint of the key of
	// Debian's that has signed it.
	IndexDate time.Time
	Key       string
}

// Suite finds a suite in the first source that has it. One that no source has is a
// NotFound error.
func (a *Archive) Suite(ctx context.Context, name string) (found Suite, err error) {
	err = a.first(ctx, name, func(s Source) error {
		r, key, err := a.release(ctx, s, s.URI+"/dists/"+url.PathEscape(name)+"/InRelease", name)
		found = Suite{name, s, r.date, key}
		return err
	})
	return found, err
}
