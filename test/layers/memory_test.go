package layers_test

import (
	"fmt"
	"io"
	"syscall"
	"testing"

	"banger/ext4"
)

// memory is a sparse file in memory. What is written to it is bounded, as on a disk.
type memory struct {
	blocks map[int64]*[4096]byte
	size   int64
	room   int // blocks that may still be taken
}

func newMemory(bytes int) *memory {
	return &memory{blocks: map[int64]*[4096]byte{}, room: bytes / 4096}
}

// pieces calls f for the part in each block of n bytes at off.
func (m *memory) pieces(n int, off int64, f func(block int64, from, to, at int) error) error {
	for at := 0; at < n; {
		block, from := (off+int64(at))/4096, int((off+int64(at))%4096)
		to := min(4096, from+n-at)
		if err := f(block, from, to, at); err != nil {
			return err
		}
		at += to - from
	}
	return nil
}

func (m *memory) WriteAt(b []byte, off int64) (int, error) {
	err := m.pieces(len(b), off, func(block int64, from, to, at int) error {
		p := m.blocks[block]
		if p == nil {
			if m.room == 0 {
				return syscall.ENOSPC
			}
			p = new([4096]byte)
			m.room--
			m.blocks[block] = p
		}
		copy(p[from:to], b[at:])
		return nil
	})
	m.size = max(m.size, off+int64(len(b)))
	return len(b), err
}

func (m *memory) ReadAt(b []byte, off int64) (int, error) {
	n := int(max(0, min(int64(len(b)), m.size-off)))
	err := m.pieces(n, off, func(block int64, from, to, at int) error {
		if p := m.blocks[block]; p != nil {
			copy(b[at:], p[from:to])
		} else {
			clear(b[at : at+to-from])
		}
		return nil
	})
	if err == nil && n < len(b) {
		err = io.EOF
	}
	return n, err
}

func (m *memory) Truncate(size int64) error {
	for block := range m.blocks {
		if block*4096 >= size {
			delete(m.blocks, block)
			m.room++
		}
	}
	if p := m.blocks[size/4096]; p != nil {
		clear(p[size%4096:])
	}
	m.size = size
	return nil
}

func (*memory) Sync() error { return nil }

// inMemory makes a disk of layers in memory, as diskimage.FromLayers does in a file.
func inMemory(bytes int, layers ...io.Reader) (*memory, error) {
	m := newMemory(bytes)
	b, err := ext4.NewBuilder(m, &ext4.Options{MaxMemory: 64 << 20})
	if err != nil {
		return nil, err
	}
	if err := b.Layers(layers...); err != nil {
		return nil, err
	}
	return m, b.Finish()
}

// checked reads a disk that must be without damage.
func (m *memory) checked(t testing.TB) (*ext4.Image, error) {
	t.Helper()
	im, err := ext4.Open(m, m.size)
	if err != nil {
		return nil, err
	}
	r, err := im.Check(t.Context())
	if err == nil && !r.OK() {
		err = fmt.Errorf("our own check finds damage: %v", r)
	}
	return im, err
}
