//go:build !linux

package ext4

import "io/fs"

// systemSource knows no other system's FileInfo.
func systemSource(fs.FileInfo) source { return source{} }
