package ext4

import (
	"fmt"
	"math"

	"banger/ext4/internal/crc"
	"banger/ext4/internal/disk"
)

// checkSuperblock looks at what Open did not have to (super.rst): fields that
// contradict one another, and features without their companions.
func (c *checker) checkSuperblock() error {
	sb := c.sb
	has := func(compat, incompat, ro uint32) bool {
		return sb.FeatureCompat&compat == compat && sb.FeatureIncompat&incompat == incompat && sb.FeatureROCompat&ro == ro
	}
	bad := func(wrong bool, format string, args ...any) {
		if wrong {
			c.problem(Problem{Kind: ProblemSuperblock, Detail: fmt.Sprintf(format, args...)})
		}
	}
	if have := uint64(c.size) / c.bs; have < sb.Blocks() {
		c.problem(Problem{Kind: ProblemTruncated, Block: have,
			Detail: fmt.Sprintf("the file system has %d blocks, and the image only %d", sb.Blocks(), have)})
	}
	// A backup that was copied to the front has its group's number.
	bad(sb.BlockGroupNr != 0, "it says that it is the copy in group %d", sb.BlockGroupNr)
	bad(sb.ReservedBlocks() > sb.Blocks()/2, "%d of %d blocks are reserved", sb.ReservedBlocks(), sb.Blocks())
	bad(has(0, 0, disk.ROCompatMetadataCsum|disk.ROCompatGDTCsum), "metadata_csum and uninit_bg exclude each other")
	bad(has(0, disk.IncompatCsumSeed, 0) && !c.csum(), "metadata_csum_seed without metadata_csum")
	bad(has(disk.CompatResizeInode, disk.IncompatMetaBG, 0), "resize_inode and meta_bg exclude each other")
	bad(has(0, disk.IncompatMetaBG, 0) && sb.FirstMetaBG > sb.GDTBlocks(), "the first meta group is %d of %d", sb.FirstMetaBG, sb.GDTBlocks())
	bad(!has(disk.CompatResizeInode, 0, 0) && sb.ReservedGDTBlocks != 0, "%d blocks are reserved for group descriptors without resize_inode", sb.ReservedGDTBlocks)
	bad(uint64(sb.ReservedGDTBlocks) > c.bs/4, "%d blocks are reserved for group descriptors", sb.ReservedGDTBlocks)
	bad(has(0, disk.IncompatRecover, 0) && !has(disk.CompatHasJournal, 0, 0), "a journal must be replayed, and there is none")
	bad(!has(disk.CompatHasJournal, 0, 0) && sb.JournalInum != 0, "inode %d is the journal, without has_journal", sb.JournalInum)
	bad(!has(disk.CompatHasJournal, 0, 0) && sb.JournalUUID != [16]byte{}, "it names a journal on another device, without has_journal")
	bad(has(disk.CompatHasJournal, 0, 0) && sb.JournalInum == 0 && sb.JournalDev == 0 && sb.JournalUUID == [16]byte{}, "has_journal, and no journal")
	bad(has(0, 0, disk.ROCompatOrphanPresent) && !has(disk.CompatOrphanFile, 0, 0), "orphan_present without orphan_file")
	bad(!has(disk.CompatOrphanFile, 0, 0) && sb.OrphanFileInum != 0, "inode %d is the orphan file, without orphan_file", sb.OrphanFileInum)
	bad(sb.RevLevel == 0 && (sb.FeatureCompat|sb.FeatureIncompat|sb.FeatureROCompat) != 0, "revision 0 has features")
	bad(sb.InodeSize > disk.MinInode && (int(sb.MinExtraIsize) > int(sb.InodeSize)-disk.MinInode || int(sb.WantExtraIsize) > int(sb.InodeSize)-disk.MinInode),
		"inodes of %d bytes shall have %d and %d extra ones", sb.InodeSize, sb.MinExtraIsize, sb.WantExtraIsize)
	if has(disk.CompatSparseSuper2, 0, 0) {
		for _, g := range sb.BackupBGs {
			bad(g >= sb.Groups(), "a backup is in group %d of %d", g, sb.Groups())
		}
	}
	bad(uint64(sb.ClustersPerGroup)<<c.bits != uint64(sb.BlocksPerGroup),
		"groups have %d clusters and %d blocks", sb.ClustersPerGroup, sb.BlocksPerGroup)
	if has(0, disk.IncompatMMP, 0) {
		bad(sb.MMPBlock <= uint64(sb.FirstDataBlock) || sb.MMPBlock >= sb.Blocks(), "block %d is to guard against a second mount", sb.MMPBlock)
	}
	for _, ino := range []uint32{sb.UsrQuotaInum, sb.GrpQuotaInum, sb.PrjQuotaInum} {
		bad(ino > sb.InodesCount || ino != 0 && !has(0, 0, disk.ROCompatQuota), "inode %d is to be a quota file", ino)
	}
	// Whoever marked it may have seen what is not there to be seen now; e2fsck checks all of
	// such a file system, and Edit refuses it.
	bad(sb.State&disk.StateErrors != 0, "it is marked as having errors; e2fsck -f takes the mark away")
	c.noteState()
	return c.checkMMP()
}

// checkMMP checks the block that guards against a second mount (mmp.rst).
func (c *checker) checkMMP() error {
	at := c.sb.MMPBlock
	if c.sb.FeatureIncompat&disk.IncompatMMP == 0 || at <= uint64(c.sb.FirstDataBlock) || at >= c.sb.Blocks() {
		return nil
	}
	const magic, sum = 0x004d4d50, 1020
	b := make([]byte, c.bs)
	if ok, err := c.read(at, b); !ok {
		return err
	}
	switch {
	case le.Uint32(b) != magic:
		c.problem(Problem{Kind: ProblemSuperblock, Block: at, Detail: fmt.Sprintf("block %d, which guards against a second mount, has another magic", at)})
	case c.csum() && le.Uint32(b[sum:]) != crc.C(c.v.seed, b[:sum]):
		c.problem(Problem{Kind: ProblemChecksum, Block: at, Detail: fmt.Sprintf("block %d, which guards against a second mount, has a wrong checksum", at)})
	}
	return nil
}

// noteState tells what the kernel left in the superblock, which is no contradiction.
func (c *checker) noteState() {
	sb := c.sb
	if sb.ErrorCount != 0 {
		c.note("the kernel noted %d errors, the last in %q, inode %d, block %d", sb.ErrorCount, text(sb.LastErrorFunc[:]), sb.LastErrorIno, sb.LastErrorBlock)
	}
	if sb.State&disk.StateClean == 0 {
		c.note("it was not unmounted")
	}
	if c.v.journal != nil {
		c.note("the journal has %d transactions that were not replayed; the check is of the file system with them", c.v.journal.Transactions())
	}
	if partly := sb.FeatureIncompat & readIncompatPartly; partly != 0 {
		c.note("names are not checked in full with %v", disk.IncompatNames(partly))
	}
	const known = 0x1ffff &^ 0x84 // all ro_compat bits of disk, but btree_dir and has_snapshot, which never were
	if unknown := sb.FeatureROCompat &^ known; unknown != 0 {
		c.note("what belongs to unknown features is not checked: %v", disk.ROCompatNames(unknown))
	}
	if sb.FeatureROCompat&disk.ROCompatQuota != 0 {
		c.note("the sums in the quota files are not checked")
	}
}

// maxBadDescriptors is how many group descriptors may be of no use before the rest is
// given up: an image can claim any number of groups.
const maxBadDescriptors = 1000

// readGroups reads the group descriptors, and takes the blocks that they give to
// metadata.
func (c *checker) readGroups() error {
	sb := c.sb
	per := sb.DescriptorsPerBlock()
	table := make([]byte, c.bs)
	bad := 0
	for n := range c.v.groups {
		if n%per == 0 {
			if err := c.ctx.Err(); err != nil {
				return err
			}
			ok, err := c.read(sb.GDTBlock(n/per), table)
			if err != nil {
				return err
			}
			if !ok {
				clear(table)
			}
		}
		g := c.readGroup(n, table[int(n%per)*sb.DescriptorSize():])
		c.groups = append(c.groups, g)
		if g.bad {
			if bad++; bad > maxBadDescriptors {
				c.problem(Problem{Kind: ProblemGroup, Group: n, Detail: fmt.Sprintf("groups from %d on are given up", n)})
				break
			}
		}
	}
	for n := range c.groups {
		c.claimMeta(sb.GroupStart(uint32(n)), uint64(sb.GroupHead(uint32(n))))
	}
	if sb.FeatureIncompat&disk.IncompatMMP != 0 && sb.MMPBlock < sb.Blocks() {
		c.claimMeta(sb.MMPBlock, 1)
	}
	for n := range c.groups {
		c.claimGroup(uint32(n), &c.groups[n])
	}
	return nil
}

// readGroup decodes and checks a descriptor (group_descr.rst).
func (c *checker) readGroup(n uint32, b []byte) groupCheck {
	g, err := c.sb.DecodeGroup(n, b)
	if err != nil {
		var err2 error
		if g, err2 = c.loose.DecodeGroup(n, b); err2 != nil {
			c.groupProblem(ProblemGroup, n, "its descriptor points outside the file system")
			return groupCheck{bad: true}
		}
		c.groupProblem(ProblemGroup, n, "%v", err)
	}
	const uninit = disk.GroupBlockUninit | disk.GroupInodeUninit
	switch {
	case !c.groupCsum():
		if g.Flags&uninit != 0 || g.ItableUnused != 0 {
			c.groupProblem(ProblemGroup, n, "it is marked as not initialised, without checksums of descriptors")
		}
		g.Flags, g.ItableUnused = 0, 0
	case g.ItableUnused > c.sb.InodesPerGroup:
		c.groupProblem(ProblemGroup, n, "%d of %d inodes were never used", g.ItableUnused, c.sb.InodesPerGroup)
		g.ItableUnused = 0
	}
	if n == c.v.groups-1 && g.Flags&disk.GroupBlockUninit != 0 {
		// Its bitmap has bits for blocks that are not there.
		c.groupProblem(ProblemGroup, n, "the block bitmap of the last group is not initialised")
	}
	if g.Flags&disk.GroupInodeUninit != 0 {
		g.ItableUnused = c.sb.InodesPerGroup
	}
	return groupCheck{desc: g}
}

// claimMeta takes blocks for metadata, and says whether they were free.
func (c *checker) claimMeta(start, n uint64) (free bool) {
	free = true
	if n > 0 {
		c.meta.add(start-uint64(c.sb.FirstDataBlock), n, func(uint64, uint64) { free = false })
		first := c.cluster(start)
		c.used.add(first, c.cluster(start+n-1)+1-first, nil)
	}
	return free
}

// cluster is the place of a block's bit, counted over all groups.
func (c *checker) cluster(block uint64) uint64 {
	if block < uint64(c.sb.FirstDataBlock) {
		return math.MaxUint64 >> 1 // block 0 of 1 KiB: no bitmap has it
	}
	return (block - uint64(c.sb.FirstDataBlock)) >> c.bits
}

// claimGroup takes the blocks of a group's bitmaps and table.
func (c *checker) claimGroup(n uint32, g *groupCheck) {
	if g.bad {
		return
	}
	flex := c.sb.FeatureIncompat&disk.IncompatFlexBG != 0
	for _, part := range []struct {
		name  string
		start uint64
		n     uint64
	}{{"block bitmap", g.desc.BlockBitmap, 1}, {"inode bitmap", g.desc.InodeBitmap, 1}, {"inode table", g.desc.InodeTable, uint64(c.sb.InodeTableBlocks())}} {
		if !flex && (part.start < c.sb.GroupStart(n) || part.start+part.n > c.sb.GroupStart(n)+uint64(c.sb.GroupBlocks(n))) {
			c.groupProblem(ProblemGroup, n, "its %s is in another group, at block %d, without flex_bg", part.name, part.start)
		}
		if !c.claimMeta(part.start, part.n) {
			c.groupProblem(ProblemGroup, n, "its %s, at block %d, lies over other metadata", part.name, part.start)
			g.bad = true
		}
	}
}

// checkBackups compares the copies of the superblock and of the descriptors with
// what a repair would need of them. What changes in use they do not follow.
func (c *checker) checkBackups() error {
	b := make([]byte, c.bs)
	for n := 1; n < len(c.groups); n++ {
		g := uint32(n)
		if !c.sb.HasSuper(g) {
			continue
		}
		if err := c.ctx.Err(); err != nil {
			return err
		}
		start := c.sb.GroupStart(g)
		if ok, err := c.read(start, b); !ok {
			if err != nil {
				return err
			}
			continue
		}
		if what := c.backupSuper(g, b); what != "" {
			c.problem(Problem{Kind: ProblemBackup, Block: start, Group: g, Detail: fmt.Sprintf("group %d: the copy of the superblock %s", n, what)})
			continue
		}
		if c.sb.FeatureIncompat&disk.IncompatMetaBG == 0 {
			if err := c.backupDescriptors(g, b); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *checker) backupSuper(g uint32, b []byte) string {
	const number, incompat, roCompat = 0x5a, 0x60, 0x64
	sb := c.sb
	if le.Uint16(b[0x38:]) != disk.Magic {
		return "has another magic"
	}
	for _, f := range []struct {
		at   int
		name string
		want uint32
	}{
		{0x0, "inodes", sb.InodesCount}, {0x4, "blocks", sb.BlocksCountLo}, {0x18, "block size", sb.LogBlockSize},
		{0x20, "blocks a group", sb.BlocksPerGroup}, {0x28, "inodes a group", sb.InodesPerGroup},
	} {
		if got := le.Uint32(b[f.at:]); got != f.want {
			return fmt.Sprintf("has another number of %s: %d, not %d", f.name, got, f.want)
		}
	}
	if got := uint32(le.Uint16(b[number:])); got != g&0xffff && got != 0 {
		return fmt.Sprintf("says that it is in group %d", got)
	}
	if le.Uint32(b[roCompat:])&disk.ROCompatMetadataCsum != 0 {
		if got := le.Uint32(b[disk.SuperblockSize-4:]); got != crc.C(^uint32(0), b[:disk.SuperblockSize-4]) {
			return "has a wrong checksum"
		}
	}
	if differ := le.Uint32(b[incompat:]) ^ sb.FeatureIncompat; differ&^uint32(disk.IncompatRecover) != 0 {
		c.note("the copy of the superblock in group %d has other features", g)
	}
	return ""
}

// backupDescriptors compares where the copies in a group find the groups' metadata.
func (c *checker) backupDescriptors(g uint32, b []byte) error {
	per := c.sb.DescriptorsPerBlock()
	start := c.sb.GroupStart(g) + 1
	for n := range c.groups {
		if uint32(n)%per == 0 {
			if ok, err := c.read(start+uint64(uint32(n)/per), b); !ok {
				return err
			}
		}
		if c.groups[n].bad {
			continue
		}
		d, err := c.loose.DecodeGroup(uint32(n), b[int(uint32(n)%per)*c.sb.DescriptorSize():])
		want := &c.groups[n].desc
		if err != nil || d.BlockBitmap != want.BlockBitmap || d.InodeBitmap != want.InodeBitmap || d.InodeTable != want.InodeTable {
			c.problem(Problem{Kind: ProblemBackup, Block: start, Group: g,
				Detail: fmt.Sprintf("group %d: the copy of the descriptors differs from group %d on", g, n)})
			return nil
		}
	}
	return nil
}
