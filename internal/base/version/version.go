// Package version is the build stamp that every banger binary carries.
package version

import "runtime/debug"

// These are set by the linker (see the Makefile).
var (
	number = "0.1.0-dev"
	commit = ""
)

// String returns the version and, where known, the commit: "0.1.0-dev (1a2b3c4)".
// Two binaries of one build return the same text.
func String() string {
	if commit != "" {
		return number + " (" + commit + ")"
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && len(s.Value) >= 12 {
				return number + " (" + s.Value[:12] + ")"
			}
		}
	}
	return number
}
