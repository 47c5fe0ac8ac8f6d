package crc

import (
	"encoding/binary"
	"testing"
)

func TestU32(t *testing.T) {
	t.Parallel()
	for _, seed := range []uint32{0, 1, 0xdeadbeef, ^uint32(0)} {
		for _, n := range []uint32{0, 1, 0x80, 0x12345678, ^uint32(0)} {
			if got, want := U32(seed, n), C(seed, binary.LittleEndian.AppendUint32(nil, n)); got != want {
				t.Errorf("U32(%#x, %#x) is %#x, want %#x", seed, n, got, want)
			}
		}
	}
}
