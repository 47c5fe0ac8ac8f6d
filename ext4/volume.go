package ext4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"banger/ext4/internal/disk"
	"banger/ext4/internal/jbd2"
)

// volume is an open file system, below paths and below transactions: its blocks,
// groups and inodes. Reading is safe for concurrent use as long as nobody writes.
type volume struct {
	dev    io.ReaderAt
	sb     *disk.Superblock
	bs     int
	seed   uint32 // what checksums start from
	groups uint32

	// journal has the blocks that the image's journal has newer than their places;
	// nil where it needs no replay.
	journal *jbd2.Overlay
	// dirty has the blocks that the open transaction has changed, by number; nil
	// for an image that is only read.
	dirty map[uint64][]byte
	cache cache
	// dirs has directories that were read last; nil where they may change.
	dirs *dirCache
}

// Features that the reader understands.
const (
	readIncompat = disk.IncompatFiletype | disk.IncompatRecover | disk.IncompatMetaBG | disk.IncompatExtents | disk.Incompat64Bit |
		disk.IncompatMMP | disk.IncompatFlexBG | disk.IncompatEAInode | disk.IncompatCsumSeed | disk.IncompatLargeDir | disk.IncompatInlineData
	// Files of these features can be read all the same: encrypted and compressed ones
	// are refused one by one, and casefold changes only how names compare.
	readIncompatPartly = disk.IncompatEncrypt | disk.IncompatCasefold
)

// openVolume reads the superblock and judges the features. size is that of dev in
// bytes; what lies behind it does not exist. Where the journal has to be replayed,
// blocks are read as if it had been.
func openVolume(dev io.ReaderAt, size int64) (*volume, error) {
	v := &volume{dev: dev}
	if err := v.readSuperblock(size); err != nil {
		return nil, err
	}
	if v.sb.FeatureIncompat&disk.IncompatRecover == 0 {
		return v, nil
	}
	j, err := v.openJournal(readOnlyDevice{v}, size)
	if err != nil {
		return nil, err
	}
	overlay, err := j.Scan()
	if err != nil {
		return nil, fmt.Errorf("cannot read the journal: %w", err)
	}
	if overlay.Len() == 0 {
		return v, nil
	}
	v.journal, v.cache = overlay, cache{}
	return v, v.readSuperblock(size) // the journal may have a newer one
}

// readSuperblock reads the superblock as the journal has it, if it does.
func (v *volume) readSuperblock(size int64) error {
	b := make([]byte, disk.SuperblockSize)
	if err := v.superblockBytes(b); err != nil {
		return err
	}
	sb, err := disk.DecodeSuperblock(b)
	if err != nil {
		return err
	}
	if sb.FeatureIncompat&disk.IncompatJournalDev != 0 {
		return &disk.FeatureError{Op: "read", Features: []string{"journal_dev"}}
	}
	if unknown := sb.FeatureIncompat &^ (readIncompat | readIncompatPartly); unknown != 0 {
		return &disk.FeatureError{Op: "read", Features: disk.IncompatNames(unknown)}
	}
	bs := uint64(sb.BlockSize())
	if v.bs != 0 && uint64(v.bs) != bs {
		return disk.Corrupt("its journal has a superblock with blocks of %d bytes, not %d", bs, v.bs)
	}
	if need := sb.Blocks() * bs; size >= 0 && need > uint64(size) {
		// A file cut short in the last, unused blocks is still readable; one whose
		// blocks are missing gives errors where they are read.
		if sb.Blocks() > math.MaxInt64/bs {
			return disk.Corrupt("it has %d blocks, and the image only %d bytes", sb.Blocks(), size)
		}
	}
	v.sb, v.bs, v.seed, v.groups = sb, int(bs), sb.ChecksumBase(), sb.Groups()
	return nil
}

func (v *volume) superblockBytes(b []byte) error {
	if v.sb != nil {
		whole, err := v.block(uint64(disk.SuperblockOffset / v.bs))
		if err != nil {
			return err
		}
		copy(b, whole[disk.SuperblockOffset%v.bs:])
		return nil
	}
	n, err := v.dev.ReadAt(b, disk.SuperblockOffset)
	if n == len(b) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return disk.ErrNotExt4
	}
	return err
}

// block returns the contents of a block. The caller must not change them, nor keep
// them across a change to the volume.
func (v *volume) block(n uint64) ([]byte, error) {
	if b, ok := v.dirty[n]; ok {
		return b, nil
	}
	if b := v.cache.get(n); b != nil {
		return b, nil
	}
	b := make([]byte, v.bs)
	if err := v.readBlock(n, b); err != nil {
		return nil, err
	}
	v.cache.put(n, b)
	return b, nil
}

// readBlock reads a block from the image, past cache and transaction.
func (v *volume) readBlock(n uint64, b []byte) error {
	if n >= v.sb.Blocks() {
		return disk.Corrupt("block %d is outside the file system", n)
	}
	if v.journal != nil {
		if ok, err := v.journal.Read(n, b); ok || err != nil {
			return err
		}
	}
	return v.readRaw(b, int64(n)*int64(v.bs))
}

// readRaw reads bytes of the image. Those behind its end are an error.
func (v *volume) readRaw(b []byte, off int64) error {
	n, err := v.dev.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return disk.Corrupt("the image ends before byte %d", off+int64(len(b)))
	}
	return err
}

// group returns a group's descriptor.
func (v *volume) group(n uint32) (disk.Group, error) {
	if n >= v.groups {
		return disk.Group{}, disk.Corrupt("there is no group %d", n)
	}
	per := v.sb.DescriptorsPerBlock()
	b, err := v.block(v.sb.GDTBlock(n / per))
	if err != nil {
		return disk.Group{}, err
	}
	return v.sb.DecodeGroup(n, b[int(n%per)*v.sb.DescriptorSize():])
}

// inodePlace returns the block that holds an inode, and the byte there.
func (v *volume) inodePlace(ino uint32) (block uint64, at int, err error) {
	if ino == 0 || ino > v.sb.InodesCount {
		return 0, 0, disk.Corrupt("there is no inode %d", ino)
	}
	n, index := v.sb.InodePlace(ino)
	table, ok := v.dirs.table(n)
	if !ok {
		g, err := v.group(n)
		if err != nil {
			return 0, 0, err
		}
		table = g.InodeTable
		v.dirs.putTable(n, table)
	}
	off := uint64(index) * uint64(v.sb.InodeSize)
	return table + off/uint64(v.bs), int(off % uint64(v.bs)), nil
}

// inode reads an inode. raw, InodeSize bytes, also has what disk.Inode has not:
// the attributes behind the fields. The caller must not change it.
func (v *volume) inode(ino uint32) (i disk.Inode, raw []byte, err error) {
	block, at, err := v.inodePlace(ino)
	if err != nil {
		return disk.Inode{}, nil, err
	}
	b, err := v.block(block)
	if err != nil {
		return disk.Inode{}, nil, err
	}
	raw = b[at : at+int(v.sb.InodeSize)]
	i, err = v.sb.DecodeInode(ino, raw)
	return i, raw, err
}

// openJournal opens the journal in inode 8 on dev, which must give the blocks as
// they are in their places. size is that of the image in bytes.
//
// An online resize that was interrupted may have logged blocks behind the end that the
// superblock in its place tells of, and the superblock that tells of more only then, or
// not at all (fs/ext4/resize.c, ext4_flex_group_add). So the image is the bound, as the device
// is the kernel's.
func (v *volume) openJournal(dev jbd2.Device, size int64) (*jbd2.Journal, error) {
	if v.sb.FeatureCompat&disk.CompatHasJournal == 0 {
		return nil, disk.Corrupt("it wants its journal replayed and has none")
	}
	if v.sb.JournalInum == 0 {
		return nil, &disk.FeatureError{Op: "read", Features: []string{"external journal"}}
	}
	i, _, err := v.inode(v.sb.JournalInum)
	if err != nil {
		return nil, err
	}
	if !i.IsRegular() || i.Links == 0 {
		return nil, disk.Corrupt("inode %d is no journal", v.sb.JournalInum)
	}
	m, err := v.fileMap(v.sb.JournalInum, &i)
	if err != nil {
		return nil, err
	}
	return jbd2.Open(dev, func(n uint32) (uint64, error) {
		e, ok := m.find(n)
		if !ok || e.Unwritten {
			return 0, disk.Corrupt("the journal has a hole at its block %d", n)
		}
		return e.Physical + uint64(n-e.Logical), nil
	}, jbd2.Config{
		BlockSize: v.bs, Blocks: uint32(min(i.Size/uint64(v.bs), math.MaxUint32)),
		FSBlocks: max(v.sb.Blocks(), uint64(max(size, 0))/uint64(v.bs)),
	})
}

// readOnlyDevice lets the journal be read.
type readOnlyDevice struct{ v *volume }

func (d readOnlyDevice) ReadBlocks(n uint64, b []byte) error {
	return d.v.readRaw(b, int64(n)*int64(d.v.bs))
}
func (d readOnlyDevice) WriteBlocks(uint64, []byte) error { return errors.ErrUnsupported }
func (d readOnlyDevice) Sync() error                      { return errors.ErrUnsupported }

var le = binary.LittleEndian
