package ext4

import (
	"banger/ext4/internal/crc"
	"banger/ext4/internal/disk"
	"banger/ext4/internal/xattr"
)

// repair sets the checksums of an image right, as far as it can find them, so that
// damage which a test made is not found by them alone. It believes nothing of the
// image and stops where it makes no sense.
func repair(image []byte) {
	if len(image) < 2048 {
		return
	}
	b := image[disk.SuperblockOffset:][:disk.SuperblockSize]
	le.PutUint32(b[disk.SuperblockSize-4:], crc.C(^uint32(0), b[:disk.SuperblockSize-4]))
	sb, err := disk.DecodeSuperblock(b)
	if err != nil || !sb.MetadataCsum() {
		return
	}
	r := &repairer{image: image, sb: sb, seed: sb.ChecksumBase(), left: 4096}
	for n := range min(sb.Groups(), 64) {
		r.group(n)
	}
}

type repairer struct {
	image []byte
	sb    *disk.Superblock
	seed  uint32
	left  int // how many blocks may still be looked at
}

// at gives bytes of the image, nil where there are none.
func (r *repairer) at(off uint64, n int) []byte {
	if off > uint64(len(r.image)) || uint64(n) > uint64(len(r.image))-off {
		return nil
	}
	return r.image[off:][:n]
}

func (r *repairer) block(n uint64) []byte {
	if r.left--; r.left < 0 || n >= 1<<40 {
		return nil
	}
	return r.at(n*uint64(r.sb.BlockSize()), r.sb.BlockSize())
}

func (r *repairer) group(n uint32) {
	per, size := r.sb.DescriptorsPerBlock(), r.sb.DescriptorSize()
	b := r.block(r.sb.GDTBlock(n / per))
	if b == nil {
		return
	}
	b = b[int(n%per)*size:][:size]
	var number [4]byte
	le.PutUint32(number[:], n)
	c := crc.C(crc.C(r.seed, number[:]), b[:0x1e])
	c = crc.C(crc.C(c, []byte{0, 0}), b[0x20:])
	le.PutUint16(b[0x1e:], uint16(c))
	g, err := r.sb.DecodeGroup(n, b)
	if err != nil {
		return
	}
	inode := int(r.sb.InodeSize)
	for i := range min(r.sb.InodesPerGroup, 512) {
		b := r.at(g.InodeTable*uint64(r.sb.BlockSize())+uint64(i)*uint64(inode), inode)
		if b == nil {
			return
		}
		if le.Uint16(b) != 0 {
			r.inode(n*r.sb.InodesPerGroup+i+1, b)
		}
	}
}

func (r *repairer) inode(ino uint32, b []byte) {
	seed := r.sb.InodeSeed(ino, le.Uint32(b[0x64:]))
	wide := len(b) > disk.MinInode && le.Uint16(b[disk.MinInode:]) >= 4
	le.PutUint16(b[0x7c:], 0)
	if wide {
		le.PutUint16(b[0x82:], 0)
	}
	c := crc.C(seed, b)
	le.PutUint16(b[0x7c:], uint16(c))
	if wide {
		le.PutUint16(b[0x82:], uint16(c>>16))
	}
	i, err := r.sb.DecodeInode(ino, b)
	if err != nil {
		return
	}
	if i.FileACL != 0 {
		if b := r.block(i.FileACL); b != nil {
			xattr.SetBlockChecksum(b, r.seed, i.FileACL)
		}
	}
	if i.Flags&disk.InodeExtents != 0 {
		r.node(i.Block[:], -1, seed, &i)
	}
}

// node repairs what is below a node of an extent tree, and the blocks of directories.
func (r *repairer) node(b []byte, depth int, seed uint32, i *disk.Inode) {
	n, err := disk.DecodeNode(b, depth, r.sb.Blocks())
	if err != nil {
		return
	}
	for _, c := range n.Children {
		b := r.block(c.Block)
		if b == nil {
			return
		}
		if tail := 12 * (1 + int(le.Uint16(b[4:]))); tail+4 <= len(b) {
			le.PutUint32(b[tail:], crc.C(seed, b[:tail]))
		}
		r.node(b, int(n.Depth)-1, seed, i)
	}
	for _, e := range n.Extents {
		for k := range uint64(e.Len) {
			if !i.IsDir() || r.left < 0 {
				return
			}
			if b := r.block(e.Physical + k); b != nil {
				r.directory(b, seed)
			}
		}
	}
}

// directory repairs a block of entries or of an index.
func (r *repairer) directory(b []byte, seed uint32) {
	at := -1 // where the counts of an index are
	if le.Uint32(b) == 0 && int(le.Uint16(b[4:])) == len(b) {
		at = 8
	} else if le.Uint16(b[4:]) == 12 && int(le.Uint16(b[16:])) == len(b)-12 && le.Uint32(b[24:]) == 0 {
		at = 32
	}
	if at < 0 {
		le.PutUint32(b[len(b)-4:], crc.C(seed, b[:len(b)-12]))
		return
	}
	limit, count := int(le.Uint16(b[at:])), int(le.Uint16(b[at+2:]))
	tail := at + 8*limit
	if count > limit || tail+8 > len(b) {
		return
	}
	c := crc.C(seed, b[:at+8*count])
	c = crc.C(c, b[tail:tail+4])
	le.PutUint32(b[tail+4:], crc.C(c, []byte{0, 0, 0, 0}))
}
