package ext4

import (
	"encoding/binary"

	"banger/ext4/internal/disk"
)

// writeResize writes the resize inode, which holds on to the blocks that are
// reserved for more group descriptors (Documentation/filesystems/ext4/super.rst;
// fs/ext4/resize.c, verify_reserved_gdb). Its map has one block of pointers to the
// reserved blocks of the first group, each at its number in the table of descriptors;
// each of those lists its copies in the groups with backups.
func (f *finisher) writeResize(w *inodeWriter) error {
	sb := f.sb
	if sb.ReservedGDTBlocks == 0 {
		return nil
	}
	const perBlock = blockSize / 4
	var backups []uint64
	for g := range sb.Groups() {
		if g > 0 && sb.HasSuper(g) {
			backups = append(backups, sb.GroupStart(g))
		}
	}
	double := make([]byte, blockSize)
	table := uint64(sb.GDTBlocks())
	for i := range uint64(sb.ReservedGDTBlocks) {
		at := table + i // of the table of descriptors
		primary := uint64(sb.FirstDataBlock) + 1 + at
		binary.LittleEndian.PutUint32(double[4*(at%perBlock):], uint32(primary))
		if len(backups) == 0 {
			continue
		}
		list := make([]byte, blockSize)
		for n, start := range backups {
			binary.LittleEndian.PutUint32(list[4*n:], uint32(start+1+at))
		}
		if err := f.stage.write(int64(primary*blockSize), list); err != nil {
			return err
		}
	}
	if err := f.stage.write(int64(f.plan.resize*blockSize), double); err != nil {
		return err
	}
	now := diskTime(f.opts.Time)
	blocks := 1 + uint64(sb.ReservedGDTBlocks)*uint64(1+len(backups))
	i := disk.Inode{
		Mode: disk.ModeRegular | 0o600, Links: 1, Size: (12 + perBlock + perBlock*perBlock) * blockSize, ExtraIsize: disk.ExtraIsize,
		Sectors: blocks * (blockSize / 512), Atime: now, Ctime: now, Mtime: now, Crtime: now,
	}
	binary.LittleEndian.PutUint32(i.Block[4*13:], uint32(f.plan.resize)) // the double indirect block
	return w.put(disk.ResizeIno, &i, nil)
}
