package jbd2

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
)

// op is what a memory device was asked to change: a write, or a Sync if data is nil.
type op struct {
	block uint64
	data  []byte
}

// disk is a device in memory that records writes.
type disk struct {
	size  int
	data  []byte
	ops   []op
	reads int
	fail  int // fail the write or Sync with this number, from 1
}

var errDisk = errors.New("broken disk")

func newDisk(size, blocks int) *disk { return &disk{size: size, data: make([]byte, size*blocks)} }

func (d *disk) clone() *disk { return &disk{size: d.size, data: bytes.Clone(d.data)} }

func (d *disk) span(n uint64, b []byte) ([]byte, error) {
	if len(b) == 0 || len(b)%d.size != 0 {
		return nil, fmt.Errorf("%d bytes", len(b))
	}
	if all := uint64(len(d.data) / d.size); n >= all || uint64(len(b)/d.size) > all-n {
		return nil, fmt.Errorf("block %d is outside", n)
	}
	return d.data[int(n)*d.size:][:len(b)], nil
}

func (d *disk) ReadBlocks(n uint64, b []byte) error {
	d.reads += len(b) / d.size
	s, err := d.span(n, b)
	copy(b, s)
	return err
}

func (d *disk) WriteBlocks(n uint64, b []byte) error {
	s, err := d.span(n, b)
	if err != nil {
		return err
	}
	// A write of several blocks is not atomic.
	for i := 0; i < len(b); i += d.size {
		if d.change(op{n + uint64(i/d.size), bytes.Clone(b[i : i+d.size])}) {
			return errDisk
		}
		copy(s[i:i+d.size], b[i:])
	}
	return nil
}

func (d *disk) Sync() error {
	if d.change(op{}) {
		return errDisk
	}
	return nil
}

func (d *disk) change(o op) (fails bool) {
	if d.fail > 0 {
		if d.fail--; d.fail == 0 {
			return true
		}
	}
	d.ops = append(d.ops, o)
	return false
}

func (d *disk) block(n uint64) []byte { return d.data[int(n)*d.size:][:d.size] }

// Where things are on the disks of the tests: the file system's blocks first, then
// the journal in two pieces, of which the second comes first on the disk.
const fsBlocks = 400

type features struct {
	v1               bool
	compat, incompat uint32
}

func (f features) String() string {
	return fmt.Sprintf("v1=%v,compat=%#x,incompat=%#x", f.v1, f.compat, f.incompat)
}

// allFeatures are the shapes that journals have.
var allFeatures = []features{
	{v1: true},
	{},
	{incompat: incompat64Bit},
	{compat: compatChecksum},
	{compat: compatChecksum, incompat: incompat64Bit | incompatAsyncCommit},
	{incompat: incompatCsumV2},
	{incompat: incompatCsumV2 | incompat64Bit},
	{incompat: incompatCsumV3},
	{incompat: incompatCsumV3 | incompat64Bit | incompatRevoke},
	{incompat: incompatCsumV3 | incompat64Bit | incompatAsyncCommit},
}

const v3 = incompatCsumV3 | incompat64Bit

// split is a journal of that many blocks in two pieces.
func split(blocks uint32) Map {
	return func(i uint32) (uint64, error) {
		if i >= blocks {
			return 0, fmt.Errorf("block %d of %d was asked for", i, blocks)
		}
		half := blocks / 2
		if i < half {
			return fsBlocks + uint64(blocks-half) + uint64(i), nil
		}
		return fsBlocks + uint64(i-half), nil
	}
}

func config(d *disk, blocks uint32) Config {
	return Config{BlockSize: d.size, Blocks: blocks, FSBlocks: uint64(len(d.data) / d.size)}
}

// newJournal makes a disk with an empty journal. Blocks of the file system are full
// of their number.
func newJournal(t testing.TB, size int, blocks uint32, f features) (*disk, *Journal) {
	t.Helper()
	d := newDisk(size, fsBlocks+int(blocks))
	for n := range uint64(fsBlocks) {
		copy(d.block(n), contents(size, n, 0))
	}
	sb := make([]byte, size)
	be.PutUint32(sb[hMagic:], magic)
	be.PutUint32(sb[hBlocktype:], typeSuperblockV2)
	be.PutUint32(sb[sBlocksize:], uint32(size))
	be.PutUint32(sb[sMaxlen:], blocks)
	be.PutUint32(sb[sFirst:], 1)
	be.PutUint32(sb[sSequence:], 7)
	copy(sb[sUUID:], "0123456789abcdef")
	be.PutUint32(sb[sFeatureCompat:], f.compat)
	be.PutUint32(sb[sFeatureIncompat:], f.incompat)
	if f.v1 {
		be.PutUint32(sb[hBlocktype:], typeSuperblockV1)
		for i := sFeatureCompat; i < superblockSize; i++ {
			sb[i] = 0xEE // not defined in version 1
		}
	}
	if f.incompat&(incompatCsumV2|incompatCsumV3) != 0 {
		sb[sChecksumType] = checksumCRC32C
		be.PutUint32(sb[sChecksum:], superSum(sb))
	}
	at, _ := split(blocks)(0)
	copy(d.block(at), sb)
	return d, open(t, d, blocks)
}

func open(t testing.TB, d *disk, blocks uint32) *Journal {
	t.Helper()
	j, err := Open(d, split(blocks), config(d, blocks))
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// contents are those of version v of a block: some begin with the magic. They must
// not be changed.
func contents(size int, n uint64, v int) []byte {
	type key struct {
		size int
		n    uint64
		v    int
	}
	if b, ok := contentsCache.Load(key{size, n, v}); ok {
		return b.([]byte)
	}
	b := make([]byte, size)
	r := rand.New(rand.NewPCG(n, uint64(v)))
	for i := 0; i < size; i += 8 {
		be.PutUint64(b[i:], r.Uint64())
	}
	if n%3 == 0 {
		be.PutUint32(b, magic)
	}
	contentsCache.Store(key{size, n, v}, b)
	return b
}

var contentsCache sync.Map

func versions(size, v int, nums ...uint64) []Block {
	var blocks []Block
	for _, n := range nums {
		blocks = append(blocks, Block{n, contents(size, n, v)})
	}
	return blocks
}

// scribe writes logs block by block, with the parts a kernel would write and others.
type scribe struct {
	t    testing.TB
	j    *Journal
	pos  uint32
	seq  uint32
	time uint64
	sum  uint32
}

func newScribe(t testing.TB, j *Journal, pos, seq uint32) *scribe {
	j.setLog(pos, seq)
	if err := j.writeSuper(); err != nil {
		t.Fatal(err)
	}
	return &scribe{t, j, pos, seq, 1000, ^uint32(0)}
}

func (s *scribe) put(b []byte) {
	s.t.Helper()
	n, err := s.j.place(s.pos)
	if err == nil {
		err = s.j.dev.WriteBlocks(n, b)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.pos = s.j.next(s.pos)
}

func (s *scribe) head(typ uint32) []byte {
	b := make([]byte, s.j.c.BlockSize)
	be.PutUint32(b[hMagic:], magic)
	be.PutUint32(b[hBlocktype:], typ)
	be.PutUint32(b[hSequence:], s.seq)
	return b
}

func (s *scribe) tail(b []byte) []byte {
	if s.j.csum23() {
		off := len(b) - tailSize
		be.PutUint32(b[off:], tailSum(s.j.seed, b, off))
	}
	return b
}

// desc writes a descriptor block and its blocks.
func (s *scribe) desc(blocks ...Block) {
	b := s.head(typeDescriptor)
	off := headerSize
	for i, p := range blocks {
		t := tag{block: p.Number, escape: hasMagic(p.Data)}
		t.sum = s.j.loggedSum(s.seq, p.Data, t.escape)
		var flags uint16
		if i > 0 {
			flags |= flagSameUUID
		}
		if i == len(blocks)-1 {
			flags |= flagLastTag
		}
		off = s.j.writeTag(b, off, t, flags)
	}
	s.put(s.tail(b))
	s.sum = crcBE(s.sum, b)
	for _, p := range blocks {
		b := bytes.Clone(p.Data)
		if hasMagic(b) {
			clear(b[:4])
		}
		s.put(b)
		s.sum = crcBE(s.sum, b)
	}
}

func (s *scribe) revoke(nums ...uint64) {
	b := s.head(typeRevoke)
	off := revokeHeaderSize
	for _, n := range nums {
		if s.j.incompat&incompat64Bit != 0 {
			be.PutUint64(b[off:], n)
			off += 8
		} else {
			be.PutUint32(b[off:], uint32(n))
			off += 4
		}
	}
	be.PutUint32(b[rCount:], uint32(off))
	s.put(s.tail(b))
}

func (s *scribe) commit() {
	b := s.head(typeCommit)
	be.PutUint64(b[hCommitSec:], s.time)
	if s.j.compat&compatChecksum != 0 {
		b[hChksumType], b[hChksumSize] = chksumTypeCRC32, chksumSizeCRC32
		be.PutUint32(b[hChksum:], s.sum)
	}
	if s.j.csum23() {
		be.PutUint32(b[hChksum:], tailSum(s.j.seed, b, hChksum))
	}
	s.put(b)
	s.seq++
	s.time++
	s.sum = ^uint32(0)
}

// fsImage is a file system in which the blocks have these versions, and all others
// version 0.
func fsImage(size int, versions map[uint64]int) []byte {
	var b []byte
	for n := range uint64(fsBlocks) {
		b = append(b, contents(size, n, versions[n])...)
	}
	return b
}

// want checks that the file system is fsImage.
func want(t *testing.T, d *disk, versions map[uint64]int) {
	t.Helper()
	for n := range uint64(fsBlocks) {
		if !bytes.Equal(d.block(n), contents(d.size, n, versions[n])) {
			t.Errorf("block %d does not have version %d", n, versions[n])
		}
	}
}
