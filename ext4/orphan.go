package ext4

import (
	"errors"

	"banger/ext4/internal/crc"
	"banger/ext4/internal/disk"
)

// A file that was deleted while it was open, or that was being cut when the
// system stopped, is an orphan: without links it is to be freed, else to be cut to its size.
// Orphans are a list from s_last_orphan through i_dtime, or entries in the orphan
// file (Documentation/filesystems/ext4/orphan.rst).

func (t *Tx) freeOrphans() error {
	if err := t.orphanList(); err != nil {
		return err
	}
	return t.orphanFile()
}

// commitOrphans commits what freeOrphans did, so that a recovery is whole, as the kernel's
// is after its mount, also where the session is given up. More than the journal holds
// stays for the session's own transaction.
func (t *Tx) commitOrphans() error {
	if len(t.v.dirty) == 0 {
		return nil
	}
	sb := *t.v.sb
	t.stamp(&sb)
	if err := t.commitJournal(&sb, nil); err != nil {
		if errors.Is(err, ErrTooLarge) {
			return nil
		}
		return err
	}
	*t.v.sb, t.onDisk = sb, sb
	t.v.dirty, t.v.cache = make(map[uint64][]byte), cache{}
	t.groups = make(map[uint32]*allocGroup) // what was freed may be used now
	return nil
}

func (t *Tx) orphanList() error {
	seen := map[uint32]bool{}
	for ino := t.v.sb.LastOrphan; ino != 0; {
		if seen[ino] {
			return disk.Corrupt("the list of orphans comes back to inode %d", ino)
		}
		seen[ino] = true
		i, _, err := t.v.inode(ino)
		if err != nil {
			return err
		}
		next := i.Dtime
		if err := t.freeOrphan(ino, &i); err != nil {
			return err
		}
		t.v.sb.LastOrphan = next
		if _, err := t.touch(t.superblockBlock()); err != nil {
			return err
		}
		ino = next
	}
	return nil
}

func (t *Tx) freeOrphan(ino uint32, i *disk.Inode) error {
	n := &editNode{ino, *i}
	n.Dtime = 0
	if ino < t.v.sb.FirstIno || disk.FileType(n.Mode) == disk.FTUnknown {
		return disk.Corrupt("inode %d cannot be an orphan", ino)
	}
	switch {
	case n.Links == 0:
		return t.destroy(n)
	case n.IsRegular() && t.mapped(n):
		c, err := t.oldContents(n)
		if err != nil {
			return err
		}
		c.cut(uint64((c.size+int64(t.v.bs)-1)/int64(t.v.bs)), disk.MaxLogical+1)
		if err := c.install(n); err != nil {
			return err
		}
	}
	return t.put(n)
}

// The orphan file: blocks of le32 inode numbers, 0 for none, each with a tail of a magic
// number and a checksum.
const (
	orphanTail  = 8
	orphanMagic = 0x0b10ca04
)

func (t *Tx) orphanFile() error {
	sb := t.v.sb
	if sb.FeatureROCompat&disk.ROCompatOrphanPresent == 0 {
		return nil
	}
	if sb.FeatureCompat&disk.CompatOrphanFile == 0 {
		return disk.Corrupt("it has orphans in a file that it has not")
	}
	ino := sb.OrphanFileInum
	i, _, err := t.v.inode(ino)
	if err != nil {
		return err
	}
	if !i.IsRegular() {
		return disk.Corrupt("inode %d is no orphan file", ino)
	}
	m, err := t.v.fileMap(ino, &i)
	if err != nil {
		return err
	}
	seed := sb.InodeSeed(ino, i.Generation)
	seen := map[uint32]bool{}
	for _, e := range m.extents {
		for k := range uint64(e.Len) {
			if err := t.orphanBlock(e.Physical+k, seed, seen); err != nil {
				return err
			}
		}
	}
	sb.FeatureROCompat &^= disk.ROCompatOrphanPresent
	_, err = t.touch(t.superblockBlock())
	return err
}

func (t *Tx) orphanBlock(at uint64, seed uint32, seen map[uint32]bool) error {
	b, err := t.v.block(at)
	if err != nil {
		return err
	}
	tail := len(b) - orphanTail
	if le.Uint32(b[tail:]) != orphanMagic || t.v.sb.MetadataCsum() && le.Uint32(b[tail+4:]) != orphanSum(at, seed, b[:tail]) {
		return disk.Corrupt("block %d of the orphan file is damaged", at)
	}
	changed := false
	for o := 0; o < tail; o += 4 {
		ino := le.Uint32(b[o:])
		if ino == 0 {
			continue
		}
		if seen[ino] {
			return disk.Corrupt("inode %d is twice an orphan", ino)
		}
		seen[ino], changed = true, true
		i, _, err := t.v.inode(ino)
		if err != nil {
			return err
		}
		if err := t.freeOrphan(ino, &i); err != nil {
			return err
		}
	}
	if !changed {
		return nil
	}
	if b, err = t.touch(at); err != nil {
		return err
	}
	clear(b[:tail])
	if t.v.sb.MetadataCsum() {
		le.PutUint32(b[tail+4:], orphanSum(at, seed, b[:tail]))
	}
	return nil
}

// orphanSum is over the number of the block in the file system and its entries.
func orphanSum(at uint64, seed uint32, entries []byte) uint32 {
	var n [8]byte
	le.PutUint64(n[:], at)
	return crc.C(crc.C(seed, n[:]), entries)
}
