package ext4

import (
	"fmt"
	"syscall"

	"banger/ext4/internal/disk"
)

// allocInode takes a free inode, in the group of another if it has one, and empties its
// slot. No free inode is syscall.ENOSPC.
func (t *Tx) allocInode(near uint32, isDir bool) (uint32, error) {
	first, _ := t.v.sb.InodePlace(near)
	if t.spread == 0 {
		t.spread = first
	}
	ino, err := t.inodeIn(first, isDir)
	for i := uint32(0); ino == 0 && err == nil && i < t.v.groups; i++ {
		if ino, err = t.inodeIn(t.spread, isDir); ino == 0 {
			// Full groups that were passed are not asked again.
			t.spread = (t.spread + 1) % t.v.groups
		}
	}
	if ino == 0 && err == nil {
		err = fmt.Errorf("%w: no inode is free", syscall.ENOSPC)
	}
	return ino, err
}

// inodeIn takes a free inode of group n; 0 if there is none.
func (t *Tx) inodeIn(n uint32, isDir bool) (uint32, error) {
	sb := t.v.sb
	group, err := t.v.group(n)
	if err != nil || group.FreeInodes == 0 {
		return 0, err
	}
	d := &group
	if !t.groupFlag(d, disk.GroupInodeUninit) {
		b, err := t.inodeBitmap(n, d)
		if err != nil {
			return 0, err
		}
		if nextBit(b, t.firstIndex(n), sb.InodesPerGroup, false) == sb.InodesPerGroup {
			return 0, nil
		}
	}
	b, err := t.openInodeBitmap(n, d)
	if err != nil {
		return 0, err
	}
	at := nextBit(b, t.firstIndex(n), sb.InodesPerGroup, false)
	if at == sb.InodesPerGroup {
		return 0, nil
	}
	if sb.FreeInodesCount == 0 || isDir && d.UsedDirs >= sb.InodesPerGroup {
		return 0, disk.Corrupt("the counts of inodes in group %d are wrong", n)
	}
	setBits(b, at, at+1)
	d.FreeInodes--
	sb.FreeInodesCount--
	if isDir {
		d.UsedDirs++
	}
	if t.groupFlag(d, disk.GroupBlockUninit) {
		// The kernel initialises both bitmaps of a group together.
		if _, err := t.openBlockBitmap(n, d); err != nil {
			return 0, err
		}
	}
	// Slots beyond those in use may hold anything, if the table was never zeroed.
	zero := at
	if t.hasGroupSums() {
		if d.ItableUnused > sb.InodesPerGroup {
			return 0, disk.Corrupt("group %d counts %d unused inodes of %d", n, d.ItableUnused, sb.InodesPerGroup)
		}
		if used := sb.InodesPerGroup - d.ItableUnused; at >= used {
			zero, d.ItableUnused = used, sb.InodesPerGroup-at-1
		}
	}
	d.InodeBitmapCsum = sb.InodeBitmapChecksum(b)
	if err := t.putGroup(n, d); err != nil {
		return 0, err
	}
	ino := n*sb.InodesPerGroup + at + 1
	for i := n*sb.InodesPerGroup + zero + 1; i <= ino; i++ {
		slot, err := t.inodeSlot(i)
		if err != nil {
			return 0, err
		}
		clear(slot)
	}
	return ino, nil
}

// firstIndex is the first inode of a group that may be given out.
func (t *Tx) firstIndex(n uint32) uint32 {
	if first := t.v.sb.FirstIno - 1; first/t.v.sb.InodesPerGroup == n {
		return first % t.v.sb.InodesPerGroup
	} else if first/t.v.sb.InodesPerGroup > n {
		return t.v.sb.InodesPerGroup
	}
	return 0
}

// inodeBitmap returns the bitmap of inodes of a group that has one.
func (t *Tx) inodeBitmap(n uint32, d *disk.Group) ([]byte, error) {
	b, err := t.v.block(d.InodeBitmap)
	if err != nil {
		return nil, err
	}
	if t.v.sb.MetadataCsum() && t.v.sb.InodeBitmapChecksum(b) != d.InodeBitmapCsum {
		return nil, disk.Corrupt("the checksum of the inode bitmap of group %d is wrong", n)
	}
	return b, nil
}

// openInodeBitmap is inodeBitmap for changing it: d, which the caller stores, says
// afterwards that it is initialised.
func (t *Tx) openInodeBitmap(n uint32, d *disk.Group) ([]byte, error) {
	if !t.groupFlag(d, disk.GroupInodeUninit) {
		if _, err := t.inodeBitmap(n, d); err != nil {
			return nil, err
		}
		return t.touch(d.InodeBitmap)
	}
	b := make([]byte, t.v.bs)
	setBits(b, t.v.sb.InodesPerGroup, uint32(8*t.v.bs))
	setBits(b, 0, t.firstIndex(n))
	t.setBlock(d.InodeBitmap, b)
	d.Flags &^= disk.GroupInodeUninit
	return b, nil
}

// freeInode gives back an inode, whose contents and attributes are freed already.
func (t *Tx) freeInode(n *editNode) error {
	sb := t.v.sb
	if n.ino < sb.FirstIno {
		return disk.Corrupt("inode %d, which is reserved, was to be freed", n.ino)
	}
	group, at := sb.InodePlace(n.ino)
	d, err := t.v.group(group)
	if err != nil {
		return err
	}
	if t.groupFlag(&d, disk.GroupInodeUninit) {
		return disk.Corrupt("inode %d is in use, and not in its bitmap", n.ino)
	}
	b, err := t.openInodeBitmap(group, &d)
	if err != nil {
		return err
	}
	if !bitSet(b, at) || d.FreeInodes >= sb.InodesPerGroup || n.IsDir() && d.UsedDirs == 0 {
		return disk.Corrupt("inode %d is in use, and counted as free", n.ino)
	}
	clearBits(b, at, at+1)
	d.FreeInodes++
	sb.FreeInodesCount++
	if n.IsDir() {
		d.UsedDirs--
	}
	d.InodeBitmapCsum = sb.InodeBitmapChecksum(b)
	if err := t.putGroup(group, &d); err != nil {
		return err
	}
	slot, err := t.inodeSlot(n.ino)
	if err != nil {
		return err
	}
	clear(slot)
	dead := disk.Inode{Mode: n.Mode, Generation: n.Generation, Dtime: uint32(max(t.now().Sec, 1)), ExtraIsize: n.ExtraIsize}
	dead.Ctime, dead.Mtime, dead.Atime = t.now(), n.Mtime, n.Atime
	sb.EncodeInode(n.ino, &dead, slot)
	return nil
}

// inodeSlot returns the bytes of an inode, to change.
func (t *Tx) inodeSlot(ino uint32) ([]byte, error) {
	block, at, err := t.v.inodePlace(ino)
	if err != nil {
		return nil, err
	}
	b, err := t.touch(block)
	if err != nil {
		return nil, err
	}
	return b[at : at+int(t.v.sb.InodeSize)], nil
}
