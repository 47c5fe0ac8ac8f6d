package jbd2

import (
	"errors"
	"hash/crc32"
	"math/bits"
	"testing"
)

func TestOpenRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		off         int
		value       uint32
		unsupported string // else it is corrupt
	}{
		"magic":        {hMagic, 1, ""},
		"type":         {hBlocktype, typeDescriptor, ""},
		"block size":   {sBlocksize, 4096, ""},
		"too long":     {sMaxlen, 65, ""},
		"first 0":      {sFirst, 0, ""},
		"first last":   {sFirst, 64, ""},
		"start early":  {sFirst, 9, ""},
		"start late":   {sStart, 64, ""},
		"incompat":     {sFeatureIncompat, 0x40, "incompat 0x40"},
		"ro_compat":    {sFeatureROCompat, 1, "ro_compat 0x1"},
		"two":          {sFeatureIncompat, incompatCsumV2 | incompatCsumV3, ""},
		"no type":      {sFeatureIncompat, incompatCsumV3, "checksum type 0"},
		"fast commits": {sFeatureIncompat, incompatFastCommit, ""},
	} {
		t.Run(name, func(t *testing.T) {
			d, j := newJournal(t, 1024, 64, features{})
			j.setLog(5, 3)
			be.PutUint32(j.sb[c.off:], c.value)
			if err := d.WriteBlocks(must(j.place(0)), j.sb); err != nil {
				t.Fatal(err)
			}
			_, err := Open(d, split(64), config(d, 64))
			var u *UnsupportedError
			switch {
			case c.unsupported == "" && !errors.Is(err, ErrCorrupt):
				t.Error(err)
			case c.unsupported != "" && (!errors.As(err, &u) || u.Feature != c.unsupported || !errors.Is(err, errors.ErrUnsupported)):
				t.Error(err)
			}
		})
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestOpenRefusesABadChecksumOrPlace(t *testing.T) {
	d, _ := newJournal(t, 1024, 64, features{incompat: v3})
	d.block(must(split(64)(0)))[700] ^= 1
	if _, err := Open(d, split(64), config(d, 64)); !errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
	for _, c := range []Config{
		{BlockSize: 512, Blocks: 64, FSBlocks: 464},
		{BlockSize: 3000, Blocks: 64, FSBlocks: 464},
		{BlockSize: 1024, Blocks: 0, FSBlocks: 464},
		{BlockSize: 1024, Blocks: 64, FSBlocks: 10},
	} {
		if _, err := Open(d, split(64), c); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
}

// What the kernel noted stays.
func TestErrnoIsKept(t *testing.T) {
	d, j := newJournal(t, 1024, 64, features{incompat: v3})
	be.PutUint32(j.sb[sErrno:], 0xFFFFFFFB)
	newScribe(t, j, 1, 7)
	if _, err := j.Replay(); err != nil {
		t.Fatal(err)
	}
	if got := open(t, d, 64).Errno(); got != -5 {
		t.Errorf("errno %d, want -5", got)
	}
}

func TestCRCBE(t *testing.T) {
	// It is the reflection of the standard library's.
	b, r := []byte("123456789 and a few bytes more"), []byte{}
	for _, c := range b {
		r = append(r, bits.Reverse8(c))
	}
	want := bits.Reverse32(^crc32.ChecksumIEEE(r))
	if got := crcBE(^uint32(0), b); got != want {
		t.Errorf("%#x, want %#x", got, want)
	}
}

func TestFormatIsOpened(t *testing.T) {
	for _, c := range []FormatConfig{
		{BlockSize: 1024, Blocks: 1024},
		{BlockSize: 4096, Blocks: 2000, Wide: true, Checksums: true, UUID: [16]byte{1, 2}},
		{BlockSize: 65536, Blocks: 1024, Checksums: true},
	} {
		sb, err := Format(c)
		if err != nil {
			t.Fatal(err)
		}
		d := newDisk(c.BlockSize, 1)
		copy(d.data, sb)
		j, err := Open(d, func(i uint32) (uint64, error) { return uint64(i), nil }, Config{c.BlockSize, c.Blocks, 1})
		if err != nil {
			t.Fatal(err)
		}
		if j.Dirty() || j.UUID() != c.UUID || j.Sequence() != 1 || j.csum23() != c.Checksums {
			t.Errorf("%+v: %+v", c, j)
		}
	}
	for _, c := range []FormatConfig{{BlockSize: 1024, Blocks: 1023}, {BlockSize: 1000, Blocks: 1024}} {
		if _, err := Format(c); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
}
