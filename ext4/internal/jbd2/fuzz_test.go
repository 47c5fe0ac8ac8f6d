package jbd2

import (
	"bytes"
	"errors"
	"testing"
)

// A journal of the fuzzer has this many blocks, of each of which it gives the first
// bytes. The rest is zeros.
const (
	fuzzBlocks = 24
	fuzzSize   = 1024
	fuzzGiven  = 96
)

// repair makes the checksums right, so that the fuzzer comes past them: of the
// superblock, and of all blocks that look like those of the log.
func repair(area []byte) {
	sb := area[:fuzzSize]
	be.PutUint32(sb[sChecksum:], superSum(sb))
	j := &Journal{c: Config{BlockSize: fuzzSize}, sb: sb, incompat: be.Uint32(sb[sFeatureIncompat:])}
	j.setSeed()
	if !j.csum23() {
		return
	}
	for i := fuzzSize; i < len(area); i += fuzzSize {
		b := area[i : i+fuzzSize]
		if !hasMagic(b) {
			continue
		}
		off := fuzzSize - tailSize
		switch be.Uint32(b[hBlocktype:]) {
		case typeCommit:
			off = hChksum
		case typeDescriptor:
			next := i + fuzzSize
			for at := headerSize; at != 0 && next < len(area); next += fuzzSize {
				t, end := j.readTag(b, at)
				if j.incompat&incompatCsumV3 != 0 {
					t.sum = j.blockSum(be.Uint32(b[hSequence:]), area[next:next+fuzzSize])
					be.PutUint32(b[at+t3Checksum:], t.sum)
				}
				at = end
			}
		}
		be.PutUint32(b[off:], tailSum(j.seed, b, off))
	}
}

// Any journal either is refused without a write, or is replayed, inside the file
// system and outside the journal, and is empty and usable then.
func FuzzJournal(f *testing.F) {
	at := func(i uint32) (uint64, error) { return fsBlocks + uint64(i), nil }
	for _, feat := range allFeatures {
		d, j := newJournal(f, fuzzSize, fuzzBlocks, feat)
		j.at = at
		s := newScribe(f, j, 18, 7)
		s.desc(versions(fuzzSize, 1, 3, 4, 5)...)
		s.commit()
		s.revoke(4, 5)
		s.commit()
		s.desc(versions(fuzzSize, 2, 4, 6)...)
		s.commit()
		var in []byte
		for n := range uint64(fuzzBlocks) {
			in = append(in, d.block(fsBlocks + n)[:fuzzGiven]...)
		}
		f.Add(true, in)
		f.Add(false, in)
	}
	f.Fuzz(func(t *testing.T, fix bool, in []byte) {
		d := newDisk(fuzzSize, fsBlocks+fuzzBlocks)
		area := d.data[fsBlocks*fuzzSize:]
		for i := 0; i*fuzzGiven < len(in) && i < fuzzBlocks; i++ {
			copy(area[i*fuzzSize:][:fuzzGiven], in[i*fuzzGiven:])
		}
		if fix {
			be.PutUint32(area[hMagic:], magic)
			be.PutUint32(area[sBlocksize:], fuzzSize)
			repair(area)
		}
		before := bytes.Clone(d.data)
		j, err := Open(d, at, Config{fuzzSize, fuzzBlocks, fsBlocks + fuzzBlocks})
		if err != nil {
			known(t, err)
			return
		}
		o, err := j.Scan()
		if d.reads > 4*fuzzBlocks+20 {
			t.Errorf("%d blocks read of a journal of %d", d.reads, fuzzBlocks)
		}
		if err != nil {
			known(t, err)
			if _, again := j.Replay(); again == nil || again.Error() != err.Error() {
				t.Errorf("replay: %v, scan: %v", again, err)
			}
			if len(d.ops) > 0 || !bytes.Equal(before, d.data) {
				t.Error("written in spite of an error")
			}
			return
		}
		// The replay writes what the overlay has and nothing else.
		want := before
		for n := range o.Blocks() {
			if n >= fsBlocks {
				t.Fatalf("block %d is in the journal or outside", n)
			}
			if ok, err := o.Read(n, want[n*fuzzSize:][:fuzzSize]); !ok || err != nil {
				t.Fatal(ok, err)
			}
		}
		n, err := j.Replay()
		if err != nil || n != o.Len() {
			t.Fatalf("%d of %d blocks: %v", n, o.Len(), err)
		}
		if !bytes.Equal(d.data[:(fsBlocks)*fuzzSize], want[:fsBlocks*fuzzSize]) ||
			!bytes.Equal(area[fuzzSize:], want[(fsBlocks+1)*fuzzSize:]) {
			t.Error("the replay wrote something else than the overlay has")
		}
		if j.Capacity() > 0 {
			if err := j.Log(versions(fuzzSize, 5, 9)); err != nil {
				t.Fatal(err)
			}
			j, err := Open(d, at, j.c)
			if err != nil {
				t.Fatal(err)
			}
			if n, err := j.Replay(); n != 1 || err != nil || !bytes.Equal(d.block(9), contents(fuzzSize, 9, 5)) {
				t.Errorf("the transaction afterwards is lost: %d, %v", n, err)
			}
		}
	})
}

// known says that an error about a journal has its class.
func known(t *testing.T, err error) {
	t.Helper()
	var u *UnsupportedError
	if !errors.Is(err, ErrCorrupt) && !errors.As(err, &u) {
		t.Errorf("an error without a class: %v", err)
	}
}
