package kernels

import (
	"regexp"

	"banger/internal/base/errs"
)

// validName has room for Debian's releases and versions. A name is a folder's too.
var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+~-]{0,127}$`)

func checkName(name string) error {
	if !validName.MatchString(name) {
		return errs.New(errs.Invalid, "cannot name a kernel %q", name).
			WithHint("use 1 to 128 of a-z, A-Z, 0-9, and . _ + ~ - behind the first")
	}
	return nil
}

// invalid makes an error of what a user has given one of theirs, with its hint.
func invalid(err error, format string, args ...any) error {
	e := errs.New(errs.Invalid, format+": %w", append(args, err)...)
	return e.WithHint("%s", errs.HintOf(err))
}
