package ext4

import (
	"errors"

	"banger/ext4/internal/disk"
)

// scanBytes is how much of an inode table is read at once.
const scanBytes = 1 << 20

// scanInodes goes through the inode tables: every inode in use is checked, and what
// it occupies is taken. What was never used (bg_itable_unused) is not read.
func (c *checker) scanInodes() error {
	c.reserve()
	buf := make([]byte, max(scanBytes, int(c.bs)))
	for n := range c.groups {
		if err := c.scanGroup(uint32(n), &c.groups[n], buf); err != nil {
			return err
		}
	}
	if c.largeFile && c.sb.FeatureROCompat&disk.ROCompatLargeFile == 0 {
		c.problem(Problem{Kind: ProblemSuperblock, Detail: "a file has more than 2 GiB, without large_file"})
	}
	return nil
}

// reserve marks the inodes that have no names (special_inodes.rst).
func (c *checker) reserve() {
	for ino := uint32(1); ino < c.sb.FirstIno && ino <= 1024; ino++ {
		c.unnamed[ino] = ino != disk.RootIno
	}
	for _, ino := range []uint32{c.sb.JournalInum, c.sb.UsrQuotaInum, c.sb.GrpQuotaInum, c.sb.PrjQuotaInum, c.sb.OrphanFileInum, c.sb.SnapshotInum} {
		if ino != 0 && ino != disk.RootIno {
			c.unnamed[ino] = true
		}
	}
}

func (c *checker) scanGroup(n uint32, g *groupCheck, buf []byte) error {
	size := int(c.sb.InodeSize)
	// The first group has the inodes that are always in use.
	count := int(c.sb.InodesPerGroup - g.desc.ItableUnused)
	if g.bad || count == 0 {
		return nil
	}
	g.scanned = true
	for at := 0; at < count; {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		block := g.desc.InodeTable + uint64(at*size)/c.bs
		k := min(len(buf)/size, count-at)
		b := buf[:(uint64(k*size)+c.bs-1)/c.bs*c.bs]
		ok, err := c.read(block, b)
		if err != nil {
			return err
		}
		if !ok && len(b) > int(c.bs) {
			// Where the image ends in the midst, what is before its end counts.
			if ok, err = c.readPart(block, b); err != nil {
				return err
			}
		}
		for i := 0; ok && i < k; i++ {
			if err := c.scanInode(n, g, at+i, count, b[i*size:][:size]); err != nil {
				return err
			}
		}
		at += k
	}
	return nil
}

// readPart reads as many blocks as there are; those that are missing are zeros.
func (c *checker) readPart(block uint64, b []byte) (bool, error) {
	clear(b)
	for i := uint64(0); i < uint64(len(b))/c.bs; i++ {
		err := c.v.readData(b[i*c.bs:][:c.bs], block+i, 0)
		if err != nil {
			if _, err := c.silent(err); err != nil {
				return false, err
			}
			return i > 0, nil
		}
	}
	return true, nil
}

// silent tells damage, of which there was a report, from other errors.
func (c *checker) silent(err error) (bool, error) {
	if err != nil && !errors.Is(public(err), ErrCorrupt) {
		return false, err
	}
	return err == nil, nil
}

// scanInode takes one inode of a group's count.
func (c *checker) scanInode(n uint32, g *groupCheck, at, count int, raw []byte) error {
	mode, links := le.Uint16(raw), le.Uint16(raw[0x1a:])
	ino := n*c.sb.InodesPerGroup + uint32(at) + 1
	orphan := len(c.orphans) > 0 && c.orphans[ino]
	reserved := ino < c.sb.FirstIno
	if links == 0 && !orphan {
		if !reserved || ino == disk.RootIno {
			if mode != 0 && le.Uint32(raw[0x14:]) == 0 {
				c.inodeProblem(ProblemDeleted, ino, "has no links and no time of deletion")
			}
			if c.csum() && anyBytes(raw) {
				if _, err := c.sb.DecodeInode(ino, raw); err != nil {
					c.inodeProblem(ProblemChecksum, ino, "%v", err)
				}
			}
			return nil
		}
		if !anyBytes(raw) {
			return nil // reserved, and not used by anything
		}
	}
	if g.inodes == nil {
		g.inodes = make([]inodeCheck, count)
	}
	s := &g.inodes[at]
	s.links, s.kind, s.state = links, disk.FileType(mode), inodeUsed
	i := c.decodeInode(ino, raw)
	if reserved && links == 0 && ino != disk.RootIno {
		// The list of bad blocks, for one, has no links.
		return c.checkReserved(ino, s, &i, raw)
	}
	c.report.Inodes++
	if i.IsDir() && (!reserved || ino == disk.RootIno) {
		c.dirs = append(c.dirs, dirCheck{ino: ino})
		g.dirs++
		c.report.Directories++
	}
	return c.checkInode(ino, s, &i, raw, orphan)
}

func anyBytes(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return true
		}
	}
	return false
}

// decodeInode decodes an inode whatever its checksum is.
func (c *checker) decodeInode(ino uint32, raw []byte) disk.Inode {
	i, err := c.sb.DecodeInode(ino, raw)
	if err == nil {
		return i
	}
	i, err2 := c.loose.DecodeInode(ino, raw)
	if err2 == nil {
		c.inodeProblem(ProblemChecksum, ino, "%v", err)
		return i
	}
	c.inodeProblem(ProblemInode, ino, "%v", err2)
	fixed := append([]byte{}, raw...)
	le.PutUint16(fixed[disk.MinInode:], 0)
	i, _ = c.loose.DecodeInode(ino, fixed)
	return i
}

// rawInode reads an inode again, after the scan. ok is false where it cannot be read.
func (c *checker) rawInode(ino uint32) (i disk.Inode, raw []byte, ok bool, err error) {
	if ino == 0 || ino > c.sb.InodesCount {
		return i, nil, false, nil
	}
	n, at := c.sb.InodePlace(ino)
	if uint64(n) >= uint64(len(c.groups)) || c.groups[n].bad {
		return i, nil, false, nil
	}
	off := uint64(at) * uint64(c.sb.InodeSize)
	b, err := c.v.block(c.groups[n].desc.InodeTable + off/c.bs)
	if err != nil {
		_, err = c.silent(err)
		return i, nil, false, err
	}
	raw = b[off%c.bs:][:c.sb.InodeSize]
	i, err = c.loose.DecodeInode(ino, raw)
	if err != nil {
		fixed := append([]byte{}, raw...)
		le.PutUint16(fixed[disk.MinInode:], 0)
		i, _ = c.loose.DecodeInode(ino, fixed)
		raw = fixed
	}
	return i, raw, true, nil
}

// checkReserved checks a reserved inode without links.
func (c *checker) checkReserved(ino uint32, s *inodeCheck, i *disk.Inode, raw []byte) error {
	switch {
	case ino == badBlocksIno && (i.Mode != 0 || i.UID != 0 || i.GID != 0 || i.FileACL != 0):
		c.inodeProblem(ProblemInode, ino, "lists bad blocks, and has more than a list")
	case i.Mode != 0 && !i.IsRegular():
		c.inodeProblem(ProblemInode, ino, "is reserved and has the mode %#o", i.Mode)
	}
	if ino == badBlocksIno || i.IsRegular() {
		c.report.Inodes++
		return c.checkMapOf(ino, s, i, raw, 0)
	}
	return nil
}

// badBlocksIno lists blocks that the disk cannot hold (special_inodes.rst).
const badBlocksIno = 1
