package ext4

import (
	"fmt"
	"slices"

	"banger/ext4/internal/disk"
	"banger/ext4/internal/tarfile"
)

// fileWriter puts the data of files into their blocks, one file at a time.
type fileWriter struct {
	stage   *stage
	extents []disk.Extent
	i       int
}

// open takes blocks for the regions of a file that hold data and notes them in its
// node; write then puts data there. Regions ascend and do not overlap.
func (w *fileWriter) open(n *node, runs []tarfile.Run, take func(uint64) (span, error)) error {
	if n.size > disk.MaxLogical*blockSize {
		return fmt.Errorf("a file of %d bytes is larger than 16 TiB", n.size)
	}
	w.extents, w.i = w.extents[:0], 0
	next := uint64(0) // the first block that has no place yet
	for _, r := range runs {
		start := max(uint64(r.Offset)/blockSize, next)
		end := (uint64(r.Offset+r.Length) + blockSize - 1) / blockSize
		for start < end {
			got, err := take(end - start)
			if err != nil {
				return err
			}
			w.extents = append(w.extents, disk.Extent{Logical: uint32(start), Len: uint32(got.len()), Physical: got.start})
			start += got.len()
		}
		next = max(next, end)
	}
	switch {
	case len(w.extents) == 0:
	case len(w.extents) == 1 && w.extents[0].Logical == 0:
		n.start, n.blocks = w.extents[0].Physical, w.extents[0].Len
	default:
		n.rest().extents = slices.Clone(w.extents)
	}
	return nil
}

// write puts b at a byte of the file. Offsets ascend.
func (w *fileWriter) write(at int64, b []byte) error {
	for len(b) > 0 {
		block := uint64(at) / blockSize
		for w.extents[w.i].End() <= block {
			w.i++
		}
		e := w.extents[w.i]
		in := uint64(at) - uint64(e.Logical)*blockSize
		n := min(uint64(len(b)), uint64(e.Len)*blockSize-in)
		if err := w.stage.write(int64(e.Physical*blockSize+in), b[:n]); err != nil {
			return err
		}
		at, b = at+int64(n), b[n:]
	}
	return nil
}
