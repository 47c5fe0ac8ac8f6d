package ext4

import (
	"slices"

	"banger/ext4/internal/disk"
)

// The resize inode holds on to the blocks that are reserved for more group descriptors
// (Documentation/filesystems/ext4/super.rst; fs/ext4/resize.c,
// verify_reserved_gdb, add_new_gdb, reserve_backup_gdb). Of its map there is only the
// double indirect block: in it, at the place of a block in the table of descriptors,
// modulo its length, is the number of that reserved block behind the first
// superblock; and that one lists its copies, behind the backups in ascending
// order. Whatever the size, the map follows from the layout, so it is made anew.

// moveReserve brings the resize inode and its map into line with the new layout, and
// frees what it gives up.
func (r *resizer) moveReserve() error {
	if err := r.releaseHeads(); err != nil {
		return err
	}
	if r.old.FeatureCompat&disk.CompatResizeInode == 0 {
		return nil
	}
	v := r.t.v
	i, _, err := v.inode(disk.ResizeIno)
	if err != nil {
		return err
	}
	at, err := r.reserveMap(&i)
	if err != nil {
		return err
	}
	if v.sb.FeatureCompat&disk.CompatResizeInode == 0 {
		clear(i.Block[:])
		i.Sectors = 0
		if err := r.release(at, 1); err != nil {
			return err
		}
	} else {
		blocks, err := r.fillReserve(at)
		if err != nil {
			return err
		}
		i.Sectors = blocks * uint64(v.bs/512)
	}
	slot, err := r.t.inodeSlot(disk.ResizeIno)
	if err != nil {
		return err
	}
	v.sb.EncodeInode(disk.ResizeIno, &i, slot)
	return nil
}

// reserved lists the blocks, by number in the table of descriptors, that a superblock
// says are reserved: from first to before end.
func reserved(sb *disk.Superblock) (first, end uint32) {
	first = sb.GDTBlocks()
	return first, first + uint32(sb.ReservedGDTBlocks)
}

// reserveMap checks the resize inode and returns its double indirect block. A block
// that has what it should have is no other file's.
func (r *resizer) reserveMap(i *disk.Inode) (uint64, error) {
	at := uint64(le.Uint32(i.Block[4*13:]))
	others := i.Block
	clear(others[4*13 : 4*14])
	if !i.IsRegular() || i.Flags&(disk.InodeExtents|disk.InodeInlineData) != 0 || at <= uint64(r.old.FirstDataBlock) ||
		at >= r.old.Blocks() || !allZero(others[:]) {
		return 0, disk.Corrupt("the resize inode is none")
	}
	b, err := r.t.v.block(at)
	if err != nil {
		return 0, err
	}
	words := uint32(len(b) / 4)
	first, end := reserved(&r.old)
	for n := first; n < end; n++ {
		if want := r.old.FirstDataBlock + 1 + n; le.Uint32(b[4*(n%words):]) != want {
			return 0, disk.Corrupt("the resize inode does not hold block %d, which is reserved for descriptors", want)
		}
	}
	if at < r.old.GroupStart(0)+uint64(r.old.GroupHead(0)) || first == end && !allZero(b) {
		return 0, disk.Corrupt("the resize inode's map is in block %d, which is not its own", at)
	}
	return at, nil
}

// fillReserve writes the map of the resize inode, and returns how many blocks it
// has.
func (r *resizer) fillReserve(at uint64) (uint64, error) {
	t, sb := r.t, r.t.v.sb
	had, backups := backupGroups(&r.old), backupGroups(sb)
	b, err := t.touch(at)
	if err != nil {
		return 0, err
	}
	words := uint32(len(b) / 4)
	if len(backups) > int(words) {
		return 0, disk.Corrupt("%d backups are more than the resize inode can list", len(backups))
	}
	clear(b)
	oldFirst, oldEnd := reserved(&r.old)
	first, end := reserved(sb)
	same := slices.Equal(had, backups)
	for n := first; n < end; n++ {
		primary := sb.FirstDataBlock + 1 + n
		le.PutUint32(b[4*(n%words):], primary)
		if same && n >= oldFirst && n < oldEnd {
			continue
		}
		list := make([]byte, len(b))
		for i, g := range backups {
			le.PutUint32(list[4*i:], uint32(sb.GroupStart(g))+1+n)
		}
		t.setBlock(uint64(primary), list)
	}
	return 1 + uint64(end-first)*uint64(1+len(backups)), nil
}
