// Package guestbin holds the guest binary, banger-init, inside the host binary,
// so that there is one file to install and no version skew between the two.
package guestbin

import (
	"embed"

	"banger/internal/base/errs"
)

// files holds bin/banger-init, which the Makefile builds before the host binary.
//
//go:embed all:bin
var files embed.FS

// Init returns the static ELF of banger-init. The caller must not change it.
func Init() ([]byte, error) {
	data, err := files.ReadFile("bin/banger-init")
	if err != nil {
		return nil, errs.New(errs.Unavailable, "this build of banger carries no guest agent").WithHint("build it with make")
	}
	return data, nil
}
