package diskimage

import (
	"os"
	"syscall"
)

// syscallStat is what stat(2) says of a file; used counts allocated bytes.
type syscallStat struct {
	size, used int64
	mode       os.FileMode
}

func (s *syscallStat) read(path string) error {
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		return err
	}
	s.size, s.used, s.mode = st.Size, st.Blocks*512, os.FileMode(st.Mode&0o777)
	return nil
}
