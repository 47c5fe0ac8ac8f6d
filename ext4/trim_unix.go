//go:build unix

package ext4

import (
	"io/fs"
	"syscall"
)

// hostBytes is how much space a file takes on the host, in bytes; 0 where it does not
// say.
func hostBytes(f File) int64 {
	s, ok := f.(interface{ Stat() (fs.FileInfo, error) })
	if !ok {
		return 0
	}
	info, err := s.Stat()
	if err != nil {
		return 0
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	return int64(st.Blocks) * 512 //nolint:unconvert // of another width elsewhere
}
