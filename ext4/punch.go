package ext4

import "io"

// zero writes zeros, but where zeros are already: a hole stays one.
func zero(f File, off, n int64) error {
	zeros := make([]byte, min(n, stageSize))
	old := make([]byte, len(zeros))
	for n > 0 {
		part := min(n, int64(len(zeros)))
		got, err := f.ReadAt(old[:part], off)
		if err != nil && err != io.EOF { //nolint:errorlint // ReaderAt gives io.EOF itself
			return err
		}
		if got > 0 && !allZero(old[:got]) {
			if _, err := f.WriteAt(zeros[:got], off); err != nil {
				return err
			}
		}
		off, n = off+part, n-part
	}
	return nil
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
