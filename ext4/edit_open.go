package ext4

import (
	"fmt"
	"math"

	"banger/ext4/internal/disk"
)

// Features of file systems that can be edited.
const (
	editCompat = disk.CompatDirPrealloc | disk.CompatHasJournal | disk.CompatExtAttr | disk.CompatResizeInode | disk.CompatDirIndex |
		disk.CompatSparseSuper2 | disk.CompatFastCommit | disk.CompatStableInodes | disk.CompatOrphanFile
	editIncompat = disk.IncompatFiletype | disk.IncompatRecover | disk.IncompatMetaBG | disk.IncompatExtents | disk.Incompat64Bit |
		disk.IncompatFlexBG | disk.IncompatEAInode | disk.IncompatCsumSeed | disk.IncompatLargeDir | disk.IncompatInlineData
	editROCompat = disk.ROCompatSparseSuper | disk.ROCompatLargeFile | disk.ROCompatHugeFile | disk.ROCompatGDTCsum | disk.ROCompatDirNlink |
		disk.ROCompatExtraIsize | disk.ROCompatMetadataCsum | disk.ROCompatProject | disk.ROCompatVerity | disk.ROCompatOrphanPresent
)

// open makes ready what Edit opens: it judges, replays the journal, and frees orphans.
func (t *Tx) open(size int64) error {
	v := &volume{dev: t.f}
	t.v = v
	if err := v.readSuperblock(size); err != nil {
		return err
	}
	if err := t.judge(size); err != nil {
		return err
	}
	replayed := v.sb.FeatureIncompat&disk.IncompatRecover != 0
	if err := t.openJournal(size); err != nil {
		return err
	}
	t.onDisk = *v.sb
	v.dirty = make(map[uint64][]byte)
	if err := t.atomically(t.freeOrphans); err != nil || !replayed {
		return err
	}
	return t.commitOrphans()
}

// mend ends the errors of images that a full check has to make fit for an edit.
const mend = "run e2fsck -f on it first"

// judge refuses what cannot be edited, before anything is written.
func (t *Tx) judge(size int64) error {
	sb := t.v.sb
	var names []string
	names = append(names, disk.CompatNames(sb.FeatureCompat&^editCompat)...)
	names = append(names, disk.IncompatNames(sb.FeatureIncompat&^editIncompat)...)
	names = append(names, disk.ROCompatNames(sb.FeatureROCompat&^editROCompat)...)
	if len(names) > 0 {
		return &disk.FeatureError{Op: "edit", Features: names}
	}
	if sb.RevLevel == 0 {
		return &disk.FeatureError{Op: "edit", Features: []string{"revision 0"}}
	}
	journal := sb.FeatureCompat&disk.CompatHasJournal != 0
	switch {
	case sb.State&disk.StateErrors != 0:
		return disk.Corrupt("it is marked as having errors; " + mend)
	case !journal && sb.State&disk.StateClean == 0:
		return disk.Corrupt("it was not unmounted and has no journal; " + mend)
	case !journal && sb.FeatureIncompat&disk.IncompatRecover != 0:
		return disk.Corrupt("it wants its journal replayed and has none")
	case !journal && !t.o.WithoutJournal:
		return ErrNoJournal
	case journal && sb.JournalInum == 0:
		return &disk.FeatureError{Op: "edit", Features: []string{"external journal"}}
	case sb.Blocks() > math.MaxInt64/uint64(t.v.bs) || size >= 0 && sb.Blocks()*uint64(t.v.bs) > uint64(size):
		return disk.Corrupt("it has %d blocks of %d bytes, and the image only %d bytes", sb.Blocks(), t.v.bs, size)
	}
	return nil
}

// openJournal opens the journal and, where that is due, replays it.
func (t *Tx) openJournal(size int64) error {
	v := t.v
	if v.sb.FeatureCompat&disk.CompatHasJournal == 0 {
		return nil
	}
	j, err := v.openJournal(txDevice{t}, size)
	if err != nil {
		return err
	}
	if n := j.Errno(); n != 0 {
		return disk.Corrupt("its journal was given up with error %d; %s", n, mend)
	}
	if v.sb.FeatureIncompat&disk.IncompatRecover == 0 {
		if j.Dirty() {
			return disk.Corrupt("its journal has transactions, but no mark that they must be replayed; " + mend)
		}
		t.journal = j
		return t.reserveJournal()
	}
	if _, err := j.ReplayThen(func() error { return t.settle(size) }); err != nil {
		return fmt.Errorf("cannot replay the journal: %w", err)
	}
	v.sb.FeatureIncompat &^= disk.IncompatRecover
	if err := t.writeSuperblock(v.sb); err != nil {
		return err
	}
	v.cache = cache{}
	if t.journal, err = v.openJournal(txDevice{t}, size); err != nil {
		return err
	}
	return t.reserveJournal()
}

// settle reads the file system anew once the blocks of the journal are in their places,
// and brings the superblock's sums right, which the kernel keeps only when it unmounts,
// and makes anew when it mounts (fs/ext4/super.c, ext4_fill_super). They are
// on the disk before the journal is empty: whoever finds it empty need not count.
func (t *Tx) settle(size int64) error {
	// What was read so far may be older than what the journal had.
	*t.v = volume{dev: t.f, bs: t.v.bs}
	if err := t.v.readSuperblock(size); err != nil {
		return err
	}
	if err := t.judge(size); err != nil {
		return err
	}
	if err := t.recount(); err != nil {
		return err
	}
	t.v.sb.FeatureIncompat |= disk.IncompatRecover
	return t.writeSuperblock(t.v.sb)
}

func (t *Tx) reserveJournal() error {
	i, _, err := t.v.inode(t.v.sb.JournalInum)
	if err != nil {
		return err
	}
	m, err := t.v.fileMap(t.v.sb.JournalInum, &i)
	if err != nil {
		return err
	}
	t.reserved = m.extents
	for _, n := range m.nodes {
		t.reserved = append(t.reserved, disk.Extent{Len: 1, Physical: n})
	}
	return nil
}

// writeSuperblock writes a superblock to its place, past the transaction.
func (t *Tx) writeSuperblock(sb *disk.Superblock) error {
	b := make([]byte, disk.SuperblockSize)
	sb.Encode(b)
	_, err := t.f.WriteAt(b, disk.SuperblockOffset)
	return err
}

// recount makes the sums in the superblock those of the groups.
func (t *Tx) recount() error {
	var blocks, inodes uint64
	for n := range t.v.groups {
		g, err := t.v.group(n)
		if err != nil {
			return err
		}
		blocks, inodes = blocks+uint64(g.FreeBlocks), inodes+uint64(g.FreeInodes)
	}
	sb := t.v.sb
	if blocks > sb.Blocks() || inodes > uint64(sb.InodesCount) {
		return disk.Corrupt("its groups count %d free blocks and %d free inodes", blocks, inodes)
	}
	sb.SetFreeBlocks(blocks)
	sb.FreeInodesCount = uint32(inodes)
	return nil
}

// superblockBlock is the block that holds the superblock.
func (t *Tx) superblockBlock() uint64 { return t.v.sb.SuperblockBlock() }
