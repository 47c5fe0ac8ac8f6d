package ext4

import (
	"encoding/binary"
	"errors"
	"slices"

	"banger/ext4/internal/disk"
)

var errTableSize = errors.New("ext4: a packed image of more than 1 TiB; give it a Size")

// write puts the metadata of the whole image in its places.
func (f *finisher) write() error {
	if f.plan != nil {
		f.groups = f.plan.groups
	}
	dirs, err := f.writeInodes()
	if err != nil {
		return err
	}
	if f.opts.UUID == [16]byte{} {
		copy(f.sb.UUID[:], f.digest.Sum(nil))
		f.sb.UUID[6] = f.sb.UUID[6]&0x0f | 0x80 // version 8: made by its own rules (RFC 9562)
		f.sb.UUID[8] = f.sb.UUID[8]&0x3f | 0x80
	}
	if f.plan != nil && len(f.plan.journal) > 0 {
		if err := f.journal(); err != nil {
			return err
		}
	}
	used := f.space.used()
	table, err := f.writeGroups(used, dirs)
	if err != nil {
		return err
	}
	if err := f.writeTables(table); err != nil {
		return err
	}
	if err := f.stage.flush(); err != nil {
		return err
	}
	// What was written and then removed must not stay behind.
	for _, s := range f.space.freed {
		if err := punch(f.f, int64(s.start*blockSize), int64(s.len()*blockSize)); err != nil {
			return err
		}
	}
	return f.writeSuperblocks()
}

// writeInodes fills the inode tables and counts the directories of each group.
func (f *finisher) writeInodes() (dirs []uint32, err error) {
	dirs = make([]uint32, len(f.groups))
	w := inodeWriter{f: f, dirs: dirs}
	if err := w.node(f.root); err != nil {
		return nil, err
	}
	if f.plan != nil {
		if err := f.writeResize(&w); err != nil {
			return nil, err
		}
		if err := f.writeJournalInode(&w); err != nil {
			return nil, err
		}
	}
	for _, n := range f.nodes {
		if err := w.node(n); err != nil {
			return nil, err
		}
	}
	return dirs, nil
}

type inodeWriter struct {
	f    *finisher
	dirs []uint32
	buf  [inodeSize]byte
}

func (w *inodeWriter) node(n *node) error {
	i := disk.Inode{
		Mode: n.mode, UID: n.uid, GID: n.gid, Links: uint16(n.links), ExtraIsize: disk.ExtraIsize,
		Atime: n.mtime, Ctime: n.mtime, Mtime: n.mtime, Crtime: n.mtime,
	}
	m := n.more
	var attrs []byte
	if m != nil {
		attrs = m.attrs
		if m.times {
			i.Atime, i.Ctime = m.atime, m.ctime
		}
	}
	blocks := uint64(n.blocks)
	switch n.mode & disk.ModeFmt {
	case disk.ModeChar, disk.ModeBlock:
		i.SetDevice(uint32(n.size>>32), uint32(n.size))
	case disk.ModeFIFO, disk.ModeSocket:
	case disk.ModeSymlink:
		i.Size = n.size
		if n.blocks == 0 {
			copy(i.Block[:], m.link)
			break
		}
		fallthrough
	default:
		i.Size = n.size
		i.Flags = disk.InodeExtents
		if m != nil && m.tree != nil {
			i.Block = *m.tree
			for _, e := range m.extents {
				blocks += uint64(e.Len)
			}
			blocks += uint64(m.treeNodes)
			break
		}
		var one []disk.Extent
		if n.blocks > 0 {
			one = []disk.Extent{{Len: n.blocks, Physical: n.start}}
		}
		t := disk.Tree{BlockSize: blockSize}
		i.Block, _, _ = t.Build(one) // no more than the inode holds
	}
	if l := w.f.plans[n]; n.isDir() && l != nil {
		if i.Links = 1; 2+l.subdirs <= disk.MaxLinks { // dir_nlink: 1 is "many"
			i.Links = uint16(2 + l.subdirs)
		}
		if m.indexed {
			i.Flags |= disk.InodeIndexed
		}
		w.dirs[(n.ino-1)/w.f.sb.InodesPerGroup]++
	}
	if m != nil && m.attrAt != 0 {
		i.FileACL = m.attrAt
		blocks++
	}
	i.Sectors = blocks * (blockSize / 512)
	return w.put(n.ino, &i, attrs)
}

// put writes an inode, with the attributes behind its fields.
func (w *inodeWriter) put(ino uint32, i *disk.Inode, attrs []byte) error {
	clear(w.buf[:])
	copy(w.buf[inodeSize-inodeRoom:], attrs)
	w.f.sb.EncodeInode(ino, i, w.buf[:])
	w.f.digest.Write(append(w.buf[0x7c:0x7e:0x7e], w.buf[0x82:0x84]...)) // its checksum
	g, index := w.f.sb.InodePlace(ino)
	return w.f.stage.write(int64(w.f.groups[g].inodeTable*blockSize)+int64(index)*inodeSize, w.buf[:])
}

// writeJournalInode describes the journal, in its inode and again in the superblock.
func (f *finisher) writeJournalInode(w *inodeWriter) error {
	if len(f.plan.journal) == 0 {
		return nil
	}
	var extents []disk.Extent
	blocks := uint32(0)
	for _, s := range f.plan.journal {
		extents = append(extents, disk.Extent{Logical: blocks, Len: uint32(s.len()), Physical: s.start})
		blocks += uint32(s.len())
	}
	t := disk.Tree{
		BlockSize: blockSize, Checksums: true, Seed: f.sb.InodeSeed(disk.JournalIno, 0), Alloc: f.takeBlock,
		Write: func(block uint64, b []byte) error { return f.stage.write(int64(block*blockSize), b) },
	}
	root, nodes, err := t.Build(extents)
	if err != nil {
		return err
	}
	size := uint64(blocks) * blockSize
	now := diskTime(f.opts.Time)
	i := disk.Inode{
		Mode: disk.ModeRegular | 0o600, Size: size, Links: 1, Flags: disk.InodeExtents, ExtraIsize: disk.ExtraIsize, Block: root,
		Sectors: (uint64(blocks) + uint64(nodes)) * (blockSize / 512), Atime: now, Ctime: now, Mtime: now, Crtime: now,
	}
	f.sb.FeatureCompat |= disk.CompatHasJournal
	f.sb.JournalInum = disk.JournalIno
	f.sb.JnlBackupType = 1
	for n := range 15 {
		f.sb.JnlBlocks[n] = binary.LittleEndian.Uint32(root[4*n:])
	}
	f.sb.JnlBlocks[15], f.sb.JnlBlocks[16] = uint32(size>>32), uint32(size)
	return w.put(disk.JournalIno, &i, nil)
}

// writeGroups writes the bitmaps and returns the descriptors, in a table of whole
// blocks. It counts what is free.
func (f *finisher) writeGroups(used []span, dirs []uint32) (table []byte, err error) {
	sb := f.sb
	table = make([]byte, int(sb.GDTBlocks())*blockSize)
	freeBlocks, freeInodes := uint64(0), uint32(0)
	groups := sb.Groups()
	type bitmaps struct{ block, inode []byte }
	// The bitmaps of 16 groups lie together, kind by kind.
	for first := uint32(0); first < groups; first += 1 << logFlex {
		end := min(first+1<<logFlex, groups)
		made := make([]bitmaps, end-first)
		for n := first; n < end; n++ {
			place := f.groups[n]
			g := disk.Group{
				BlockBitmap: place.blockBitmap, InodeBitmap: place.inodeBitmap, InodeTable: place.inodeTable,
				UsedDirs: dirs[n], Flags: disk.GroupItableZeroed,
			}
			var inUse uint32
			made[n-first].block, inUse, used = f.blockBitmap(n, used)
			g.FreeBlocks = sb.GroupBlocks(n) - inUse
			if n < groups-1 && inUse == sb.GroupHead(n) && n > 0 && f.plan != nil {
				// What is used is what the kernel can work out by itself.
				g.Flags |= disk.GroupBlockUninit
				made[n-first].block = nil
			} else {
				g.BlockBitmapCsum = sb.BlockBitmapChecksum(made[n-first].block)
			}
			below := n * sb.InodesPerGroup // inodes of earlier groups
			usedInodes := min(sb.InodesPerGroup, f.lastIno-min(below, f.lastIno))
			g.FreeInodes, g.ItableUnused = sb.InodesPerGroup-usedInodes, sb.InodesPerGroup-usedInodes
			if usedInodes == 0 {
				g.Flags |= disk.GroupInodeUninit
			} else {
				made[n-first].inode = bitmap(sb.InodesPerGroup)
				setBits(made[n-first].inode, 0, usedInodes)
				g.InodeBitmapCsum = sb.InodeBitmapChecksum(made[n-first].inode)
			}
			freeBlocks += uint64(g.FreeBlocks)
			freeInodes += g.FreeInodes
			sb.EncodeGroup(n, &g, table[int(n)*sb.DescriptorSize():])
		}
		for i, m := range made {
			if m.block != nil {
				if err := f.stage.write(int64(f.groups[first+uint32(i)].blockBitmap*blockSize), m.block); err != nil {
					return nil, err
				}
			}
		}
		for i, m := range made {
			if m.inode != nil {
				if err := f.stage.write(int64(f.groups[first+uint32(i)].inodeBitmap*blockSize), m.inode); err != nil {
					return nil, err
				}
			}
		}
	}
	sb.SetFreeBlocks(freeBlocks)
	sb.FreeInodesCount = freeInodes
	return table, nil
}

// bitmap makes one in which all bits from n on are set, as those behind a group
// must be.
func bitmap(n uint32) []byte {
	b := make([]byte, blockSize)
	setBits(b, n, 8*blockSize)
	return b
}

// blockBitmap makes that of group n, counts the blocks in use, and returns the
// spans that reach behind the group.
func (f *finisher) blockBitmap(n uint32, used []span) (b []byte, count uint32, rest []span) {
	start := f.sb.GroupStart(n)
	end := start + uint64(f.sb.GroupBlocks(n))
	for _, s := range used {
		if s.start >= end {
			break
		}
		count += uint32(min(s.end, end) - max(s.start, start))
	}
	if count == f.sb.GroupHead(n) && n != 0 && n != f.sb.Groups()-1 && f.plan != nil {
		b = nil // no one will look at it
	} else {
		b = bitmap(uint32(end - start))
		for _, s := range used {
			if s.start >= end {
				break
			}
			setBits(b, uint32(max(s.start, start)-start), uint32(min(s.end, end)-start))
		}
	}
	for len(used) > 0 && used[0].end <= end {
		used = used[1:]
	}
	return b, count, used
}

// writeTables writes the group descriptors and their copies.
func (f *finisher) writeTables(table []byte) error {
	sb := f.sb
	if sb.FeatureIncompat&disk.IncompatMetaBG != 0 {
		per := sb.DescriptorsPerBlock()
		for i := range sb.GDTBlocks() {
			for _, in := range []uint32{0, 1, per - 1} {
				g := i*per + in
				if g >= sb.Groups() {
					continue
				}
				at := sb.GroupStart(g)
				if sb.HasSuper(g) {
					at++
				}
				if err := f.stage.write(int64(at*blockSize), table[int(i)*blockSize:][:blockSize]); err != nil {
					return err
				}
			}
		}
		return nil
	}
	for g := range sb.Groups() {
		if sb.HasSuper(g) {
			if err := f.stage.write(int64(sb.GroupStart(g)+1)*blockSize, table); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeSuperblocks writes the copies and then the first one.
func (f *finisher) writeSuperblocks() error {
	sb := f.sb
	var backups []uint32
	for g := range sb.Groups() {
		if sb.HasSuper(g) {
			backups = append(backups, g)
		}
	}
	b := make([]byte, disk.SuperblockSize)
	for _, g := range slices.Backward(backups) {
		at := int64(sb.GroupStart(g)) * blockSize
		if g == 0 {
			at = disk.SuperblockOffset
		}
		sb.BlockGroupNr = uint16(g)
		sb.Encode(b)
		if _, err := f.f.WriteAt(b, at); err != nil {
			return err
		}
	}
	return nil
}
