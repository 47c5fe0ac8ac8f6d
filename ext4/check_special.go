package ext4

import (
	"encoding/binary"
	"errors"

	"banger/ext4/internal/disk"
	"banger/ext4/internal/jbd2"
)

// readOrphans finds the inodes that wait to be freed or cut, through the list that
// begins in the superblock and the orphan file (orphan.rst). They are no damage: the
// next mount deals with them.
func (c *checker) readOrphans() error {
	for ino := c.sb.LastOrphan; ino != 0; {
		i, _, ok, err := c.rawInode(ino)
		if err != nil {
			return err
		}
		if !ok || ino < c.sb.FirstIno || c.orphans[ino] || i.Mode == 0 {
			c.inodeProblem(ProblemOrphan, ino, "is in the list of orphans and cannot be, or is there twice")
			break
		}
		c.orphans[ino] = true
		ino = i.Dtime
	}
	if err := c.readOrphanFile(); err != nil {
		return err
	}
	if n := len(c.orphans); n > 0 {
		c.note("%d files were deleted or cut while they were open; the next mount frees what they occupy", n)
	}
	return nil
}

func (c *checker) readOrphanFile() error {
	ino := c.sb.OrphanFileInum
	if c.sb.FeatureCompat&disk.CompatOrphanFile == 0 {
		return nil
	}
	i, _, ok, err := c.rawInode(ino)
	if err != nil {
		return err
	}
	if !ok || !i.IsRegular() || i.Links == 0 {
		c.inodeProblem(ProblemOrphan, ino, "is to be the orphan file and is none")
		return nil
	}
	// Nothing has been taken yet: a map that goes in circles is not known as such.
	var runs []disk.Extent
	w := &mapWalk{c: c, ino: ino, s: &inodeCheck{state: inodeSharing}, i: &i, quiet: true, data: func(e disk.Extent) { runs = append(runs, e) }}
	if err := w.walk(); err != nil {
		return err
	}
	present := c.sb.FeatureROCompat&disk.ROCompatOrphanPresent != 0
	seed := c.sb.InodeSeed(ino, i.Generation)
	b := make([]byte, c.bs)
	for _, e := range runs {
		for at := e.Physical; at < e.Physical+uint64(e.Len); at++ {
			if ok, err := c.read(at, b); !ok {
				return err
			}
			tail := len(b) - orphanTail
			if le.Uint32(b[tail:]) != orphanMagic || c.csum() && le.Uint32(b[tail+4:]) != orphanSum(at, seed, b[:tail]) {
				c.blockProblem(ProblemOrphan, ino, at, "has block %d of the orphan file without its mark or checksum", at)
				return nil
			}
			for k := 0; k < tail; k += 4 {
				n := le.Uint32(b[k:])
				if n == 0 {
					continue
				}
				if !present || n > c.sb.InodesCount || n < c.sb.FirstIno || c.orphans[n] {
					c.blockProblem(ProblemOrphan, ino, at, "names inode %d as an orphan, which it cannot be", n)
					return nil
				}
				c.orphans[n] = true
			}
		}
	}
	return nil
}

// checkJournal looks at the journal's superblock (journal.rst). What is in the log was
// looked at when it was read.
func (c *checker) checkJournal() error {
	ino := c.sb.JournalInum
	if c.sb.FeatureCompat&disk.CompatHasJournal == 0 {
		return nil
	}
	if ino == 0 {
		c.note("the journal is on another device and not checked")
		return nil
	}
	for _, p := range c.report.Problems {
		if p.Kind == ProblemJournal {
			return nil // Check could not replay it
		}
	}
	j, err := c.v.openJournal(readOnlyDevice{c.v}, c.size)
	if err != nil {
		var feature *jbd2.UnsupportedError
		if errors.Is(public(err), ErrCorrupt) || errors.As(err, &feature) {
			c.inodeProblem(ProblemJournal, ino, "is the journal: %v", err)
			return nil
		}
		return err
	}
	if j.Dirty() && c.sb.FeatureIncompat&disk.IncompatRecover == 0 {
		c.inodeProblem(ProblemJournal, ino, "is a journal with transactions, and nothing says that they must be replayed")
	}
	if at, ok := c.journalStart(); ok {
		const version, version2, users = 0x4, 4, 0x40
		b := make([]byte, c.bs)
		if ok, err := c.read(at, b); !ok {
			return err
		}
		if n := binary.BigEndian.Uint32(b[users:]); binary.BigEndian.Uint32(b[version:]) == version2 && n > 1 {
			c.inodeProblem(ProblemJournal, ino, "is a journal with %d users", n)
		}
	}
	if n := j.Errno(); n != 0 {
		c.inodeProblem(ProblemJournal, ino, "is a journal that the kernel gave up with error %d; e2fsck -f clears it", n)
	}
	return nil
}

// journalStart is where the journal's superblock lies.
func (c *checker) journalStart() (uint64, bool) {
	i, _, err := c.v.inode(c.sb.JournalInum)
	if err != nil {
		return 0, false
	}
	m, err := c.v.fileMap(c.sb.JournalInum, &i)
	if err != nil {
		return 0, false
	}
	e, ok := m.find(0)
	return e.Physical, ok
}

// checkResizeInode checks the inode that keeps room for group descriptors: its one
// double indirect block names the reserved blocks behind the first descriptors, and
// each of those its copies in the groups with backups (fs/ext4/resize.c,
// verify_reserved_gdb).
func (c *checker) checkResizeInode() error {
	sb := c.sb
	if sb.FeatureCompat&disk.CompatResizeInode == 0 || sb.FeatureIncompat&disk.IncompatMetaBG != 0 {
		return nil
	}
	s := c.state(disk.ResizeIno)
	i, _, ok, err := c.rawInode(disk.ResizeIno)
	if !ok || s == nil {
		if err == nil && sb.ReservedGDTBlocks > 0 {
			c.inodeProblem(ProblemResize, disk.ResizeIno, "is to keep room for group descriptors and is not in use")
		}
		return err
	}
	bad := func(block uint64, what string) {
		c.blockProblem(ProblemResize, disk.ResizeIno, block, "does not keep the room for group descriptors: %s", what)
	}
	double := uint64(le.Uint32(i.Block[4*13:]))
	for n := range 15 {
		if n != 13 && le.Uint32(i.Block[4*n:]) != 0 {
			bad(0, "its map has more than a double indirect block")
			return nil
		}
	}
	if !i.IsRegular() || c.outsideBlock(double) {
		bad(double, "it is no file, or its map lies outside the file system")
		return nil
	}
	c.used.add(c.cluster(double), 1, func(at, n uint64) { c.share(disk.ResizeIno, s, at, n) })
	b := make([]byte, c.bs)
	if ok, err := c.read(double, b); !ok {
		return err
	}
	sectors, err := c.reservedBlocks(b, bad)
	if err == nil && sectors != 0 && sectors != i.Sectors {
		c.inodeProblem(ProblemBlockCount, disk.ResizeIno, "says that it occupies %d sectors, and its blocks are %d", i.Sectors, sectors)
	}
	return err
}

// reservedBlocks checks what the double indirect block of the resize inode leads to,
// and returns what it occupies; 0 after damage.
func (c *checker) reservedBlocks(double []byte, bad func(block uint64, what string)) (sectors uint64, err error) {
	sb, per := c.sb, c.bs/4
	table := uint64(sb.GDTBlocks())
	blocks := uint64(1)
	list := make([]byte, c.bs)
	reserved := make(map[uint64]bool)
	for n := range uint64(c.sb.ReservedGDTBlocks) {
		reserved[(table+n)%per] = true
	}
	for at := range per {
		if p := le.Uint32(double[4*at:]); p != 0 && !reserved[at] {
			bad(uint64(p), "its map has a block that is not reserved")
			return 0, nil
		}
	}
	for n := range uint64(c.sb.ReservedGDTBlocks) {
		primary := sb.GDTBlock(uint32(table + n))
		at := (table + n) % per
		if uint64(le.Uint32(double[4*at:])) != primary {
			bad(primary, "a block that is reserved is not in its map")
			return 0, nil
		}
		if ok, err := c.read(primary, list); !ok {
			return 0, err
		}
		blocks++
		k := uint64(0)
		for g := uint32(1); int(g) < len(c.groups) && k < per; g++ {
			if !c.sb.HasSuper(g) {
				continue
			}
			if uint64(le.Uint32(list[4*k:])) != primary+uint64(g)*uint64(sb.BlocksPerGroup) {
				bad(primary, "a block that is reserved behind a backup is not in its map")
				return 0, nil
			}
			blocks, k = blocks+1, k+1
		}
		if anyBytes(list[4*k:]) {
			bad(primary, "a block that is reserved names more than its copies")
			return 0, nil
		}
	}
	// With bigalloc each counts as a cluster.
	return blocks << c.bits * c.bs / 512, nil
}
