package ext4

import (
	"bytes"

	"banger/ext4/internal/disk"
)

// checkInode checks an inode in use, and takes what it occupies.
func (c *checker) checkInode(ino uint32, s *inodeCheck, i *disk.Inode, raw []byte, orphan bool) error {
	if ino == disk.RootIno && !i.IsDir() {
		c.inodeProblem(ProblemInode, ino, "is the root and no directory: its mode is %#o", i.Mode)
	}
	if i.Dtime != 0 && !orphan {
		c.inodeProblem(ProblemDeleted, ino, "is in use and has a time of deletion, %d", i.Dtime)
	}
	if ino < c.sb.FirstIno && ino != disk.RootIno && !i.IsRegular() && i.Mode != 0 {
		c.inodeProblem(ProblemInode, ino, "is reserved and has the mode %#o", i.Mode)
		s.state |= inodeBad
	}
	if s.kind == disk.FTUnknown {
		c.inodeProblem(ProblemInode, ino, "has the impossible mode %#o", i.Mode)
		s.state |= inodeBad
		return nil
	}
	c.checkFields(ino, s, i, raw)
	c.checkFlags(ino, i)
	if i.Flags&disk.InodeEAInode != 0 && i.IsRegular() && c.sb.FeatureIncompat&disk.IncompatEAInode != 0 {
		s.state |= inodeValue
	}
	attrs, err := c.checkAttrs(ino, s, i, raw)
	if err != nil {
		return err
	}
	if i.Flags&disk.InodeEncrypted != 0 {
		s.state |= inodeEncrypted
		if !attrs.context {
			c.inodeProblem(ProblemXattr, ino, "is encrypted, and no attribute says how")
		}
	}
	if ino == disk.ResizeIno && c.sb.FeatureCompat&disk.CompatResizeInode != 0 {
		return nil // its map is of another kind
	}
	return c.checkMapOf(ino, s, i, raw, attrs.values)
}

// checkFields looks at what disk.Inode has not: fields that only other systems used,
// and high halves without the features that give them a meaning.
func (c *checker) checkFields(ino uint32, s *inodeCheck, i *disk.Inode, raw []byte) {
	const fragment, blocksHigh, aclHigh, sizeHigh = 0x70, 0x74, 0x76, 0x6c
	switch {
	case le.Uint32(raw[fragment:]) != 0:
		c.inodeProblem(ProblemInode, ino, "has the address of a fragment, %d", le.Uint32(raw[fragment:]))
	case !c.sb.Has64Bit() && le.Uint16(raw[aclHigh:]) != 0:
		c.inodeProblem(ProblemInode, ino, "has the upper half of a block of attributes, without 64bit")
	case c.sb.FeatureROCompat&disk.ROCompatHugeFile == 0 && le.Uint16(raw[blocksHigh:]) != 0:
		c.inodeProblem(ProblemInode, ino, "has the upper half of a count of blocks, without huge_file")
	case i.IsDir() && le.Uint32(raw[sizeHigh:]) != 0 && c.sb.FeatureIncompat&disk.IncompatLargeDir == 0:
		c.inodeProblem(ProblemSize, ino, "is a directory of %d bytes, without large_dir", i.Size)
	default:
		return
	}
	s.state |= inodeBad
}

// checkFlags looks at flags whose feature is missing, or that the type cannot have
// (inodes.rst).
func (c *checker) checkFlags(ino uint32, i *disk.Inode) {
	for _, f := range []struct {
		flag             uint32
		compat, incompat uint32
		name             string
	}{
		{disk.InodeExtents, 0, disk.IncompatExtents, "extents"},
		{disk.InodeIndexed, disk.CompatDirIndex, 0, "a hashed index"},
		{disk.InodeInlineData, 0, disk.IncompatInlineData, "inline content"},
		{0x2000, 0x2, 0, "AFS's magic"},
		{disk.InodeEncrypted, 0, disk.IncompatEncrypt, "encryption"},
		{disk.InodeCasefold, 0, disk.IncompatCasefold, "casefold"},
		{disk.InodeEAInode, 0, disk.IncompatEAInode, "the value of an attribute"},
	} {
		if i.Flags&f.flag != 0 && (c.sb.FeatureCompat&f.compat != f.compat || c.sb.FeatureIncompat&f.incompat != f.incompat) {
			c.inodeProblem(ProblemInode, ino, "is flagged as having %s, without the feature", f.name)
		}
	}
	special := !i.IsDir() && !i.IsRegular()
	switch {
	case !i.IsDir() && i.Flags&disk.InodeIndexed != 0:
		c.inodeProblem(ProblemInode, ino, "has the flag of a hashed directory and is none")
	case !i.IsRegular() && i.Flags&disk.InodeEAInode != 0:
		c.inodeProblem(ProblemInode, ino, "has the flag of an attribute's value and is no file")
	case !i.IsDir() && i.Flags&disk.InodeCasefold != 0:
		c.inodeProblem(ProblemInode, ino, "has the flag casefold and is no directory")
	case special && i.Flags&(disk.InodeImmutable|disk.InodeAppend) != 0:
		c.inodeProblem(ProblemInode, ino, "is a link or special file that cannot be changed (flags %#x)", i.Flags)
	case special && !i.IsSymlink() && i.Flags&(disk.InodeExtents|disk.InodeInlineData) != 0:
		c.inodeProblem(ProblemInode, ino, "is a special file with the flag of content")
	case i.Flags&disk.InodeExtents != 0 && i.Flags&disk.InodeInlineData != 0:
		c.inodeProblem(ProblemInode, ino, "has both extents and inline content")
	}
}

// checkMapOf walks the map of an inode, takes its blocks, and compares i_size and
// i_blocks with them. values are blocks of attributes that may count, too.
func (c *checker) checkMapOf(ino uint32, s *inodeCheck, i *disk.Inode, raw []byte, values uint64) error {
	w := &mapWalk{c: c, ino: ino, s: s, i: i}
	if i.Flags&disk.InodeInlineData != 0 {
		c.checkInline(ino, i, raw)
	} else if c.mapped(i) {
		if err := w.walk(); err != nil {
			return err
		}
	}
	if ino == badBlocksIno {
		return nil
	}
	c.checkSize(w)
	if w.bad {
		return nil
	}
	if i.IsSymlink() && i.Flags&disk.InodeInlineData == 0 {
		if err := c.checkSymlink(w); err != nil {
			return err
		}
	}
	sectors := w.blocks
	if i.FileACL != 0 && c.sb.FeatureCompat&disk.CompatExtAttr != 0 {
		sectors += 1 << c.bits
	}
	if sectors *= c.bs / 512; sectors != i.Sectors && sectors+values*(c.bs/512) != i.Sectors {
		c.inodeProblem(ProblemBlockCount, ino, "says that it occupies %d sectors, and its blocks are %d", i.Sectors, sectors)
	}
	return nil
}

// mapped says whether i_block is a map.
func (c *checker) mapped(i *disk.Inode) bool {
	switch {
	case i.Flags&disk.InodeInlineData != 0:
		return false
	case i.IsSymlink():
		return i.Size >= uint64(len(i.Block)) || i.Flags&disk.InodeExtents != 0
	}
	return i.IsDir() || i.IsRegular() || i.Mode == 0
}

// checkSize compares i_size with the map. Blocks that are allocated but not written
// may lie behind the end of a file, others not.
func (c *checker) checkSize(w *mapWalk) {
	i, bs := w.i, c.bs
	if i.Flags&disk.InodeInlineData != 0 {
		return
	}
	switch {
	case i.IsDir():
		n := i.Size / bs
		switch {
		case w.end == 0 && !w.bad:
			c.inodeProblem(ProblemSize, w.ino, "is a directory without blocks")
		case i.Size%bs != 0:
			c.inodeProblem(ProblemSize, w.ino, "is a directory of %d bytes, no multiple of the block size", i.Size)
		case n > w.end && !w.bad || n+uint64(c.sb.PreallocDirBlocks) < w.end || n == 0:
			c.inodeProblem(ProblemSize, w.ino, "is a directory of %d bytes, and its blocks end at %d", i.Size, w.end*bs)
		}
	case i.IsRegular():
		if i.Size >= 1<<31 && w.ino != disk.ResizeIno {
			c.largeFile = true
		}
		per := bs / 4
		limit := (12 + per + per*per + per*per*per) * bs
		if i.Flags&disk.InodeExtents != 0 {
			limit = (disk.MaxLogical+1)*bs - 1
		}
		switch {
		case w.written > 0 && i.Size < (w.written-1)*bs && i.Flags&disk.InodeVerity == 0:
			c.inodeProblem(ProblemSize, w.ino, "has %d bytes, and its written blocks end at %d", i.Size, w.written*bs)
		case i.Size > limit:
			c.inodeProblem(ProblemSize, w.ino, "has %d bytes, more than a file can have", i.Size)
		}
	case !i.IsSymlink() && i.Mode != 0:
		if i.Size != 0 {
			c.inodeProblem(ProblemSize, w.ino, "is a special file of %d bytes", i.Size)
		}
	}
}

// checkSymlink checks a target: in i_block if it fits there, or alone in block 0 of
// the file. That of an encrypted link may have any bytes.
func (c *checker) checkSymlink(w *mapWalk) error {
	i := w.i
	if i.Flags&disk.InodeEncrypted != 0 {
		return nil
	}
	if i.Flags&disk.InodeExtents != 0 && i.Size < uint64(len(i.Block)) && w.end == 0 {
		c.inodeProblem(ProblemSymlink, w.ino, "is a link inside its inode, with the flag of extents")
		return nil
	}
	target := i.Block[:]
	if c.mapped(i) {
		if w.blocks != 1<<c.bits || w.written != 1 || i.Size >= c.bs {
			c.inodeProblem(ProblemSymlink, w.ino, "is a link of %d bytes in %d blocks", i.Size, w.blocks)
			return nil
		}
		target = make([]byte, c.bs)
		if ok, err := c.read(w.first, target); !ok {
			return err
		}
	}
	if i.Size == 0 || bytes.IndexByte(target[:i.Size], 0) >= 0 || target[i.Size] != 0 {
		c.inodeProblem(ProblemSymlink, w.ino, "is a link to a target that is not %d bytes long", i.Size)
	}
	return nil
}

// checkInline checks content inside an inode (inlinedata.rst). That of directories
// is looked at with the others.
func (c *checker) checkInline(ino uint32, i *disk.Inode, raw []byte) {
	first, rest, err := c.v.inlineParts(ino, i, raw)
	if err != nil {
		return // of the feature or the attributes: reported as such
	}
	room := uint64(len(first) + len(rest))
	switch {
	case rest == nil:
		c.inodeProblem(ProblemInline, ino, "has inline content and no attribute for it")
	case i.Size > room, i.IsDir() && i.Size != room:
		c.inodeProblem(ProblemInline, ino, "has %d bytes, and room for %d inside", i.Size, room)
	case i.IsSymlink() && (i.Size == 0 || bytes.IndexByte(append(bytes.Clone(first), rest...)[:i.Size], 0) >= 0):
		c.inodeProblem(ProblemSymlink, ino, "is a link to a target that is not %d bytes long", i.Size)
	}
}
