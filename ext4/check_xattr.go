package ext4

import (
	"banger/ext4/internal/disk"
	"banger/ext4/internal/xattr"
)

// attrBlockUse counts the users of a block of attributes, which may be shared.
type attrBlockUse struct {
	refcount, users uint32
	ino             uint32 // the first
	bad             bool
	attrSums
}

// attrSums is what attributes mean for their inode.
type attrSums struct {
	// values is how many blocks their values take in inodes of their own: the kernel
	// counts them in i_blocks of each user (fs/ext4/xattr.c, ext4_xattr_inode_alloc_quota),
	// but does not those that Lustre wrote.
	values uint64
	// context says that one tells how the file is encrypted.
	context bool
}

// checkAttrs checks the attributes of an inode (attributes.rst), and takes their
// block.
func (c *checker) checkAttrs(ino uint32, s *inodeCheck, i *disk.Inode, raw []byte) (sums attrSums, err error) {
	if len(raw) > disk.MinInode && i.ExtraIsize > 0 {
		area := raw[disk.MinInode+int(i.ExtraIsize):]
		if attrs, err := xattr.ParseInode(area); err != nil {
			c.inodeProblem(ProblemXattr, ino, "%v", err)
		} else if len(attrs) > 0 {
			const magic = 4
			sums = c.checkAttrList(ino, 0, attrs, area[magic:], true)
		}
	}
	switch {
	case i.FileACL == 0:
		return sums, nil
	case c.sb.FeatureCompat&disk.CompatExtAttr == 0:
		c.blockProblem(ProblemXattr, ino, i.FileACL, "has attributes in block %d, without the feature ext_attr", i.FileACL)
	case c.outsideBlock(i.FileACL):
		c.blockProblem(ProblemBadBlock, ino, i.FileACL, "has its attributes in block %d, outside the file system", i.FileACL)
	default:
		more, err := c.checkAttrBlock(ino, s, i.FileACL)
		return attrSums{sums.values + more.values, sums.context || more.context}, err
	}
	return sums, nil
}

func (c *checker) checkAttrBlock(ino uint32, s *inodeCheck, block uint64) (attrSums, error) {
	use := c.attrs[block]
	if use != nil {
		// The values are counted once for the block, not for each of its users.
		use.users++
		return use.attrSums, nil
	}
	use = &attrBlockUse{users: 1, ino: ino}
	c.attrs[block] = use
	at := c.cluster(block)
	c.used.add(at, 1, func(at, n uint64) { c.share(ino, s, at, n) })
	b := make([]byte, c.bs)
	if ok, err := c.read(block, b); !ok {
		use.bad = true
		return use.attrSums, err
	}
	attrs, refcount, err := xattr.ParseBlock(b)
	use.refcount = refcount
	if c.csum() && !xattr.VerifyBlockChecksum(b, c.v.seed, block) {
		c.blockProblem(ProblemChecksum, ino, block, "has attributes in block %d with a wrong checksum", block)
	}
	if err != nil {
		use.bad = true
		c.blockProblem(ProblemXattr, ino, block, "has attributes in block %d: %v", block, err)
		return use.attrSums, nil
	}
	const header = 32
	use.attrSums = c.checkAttrList(ino, block, attrs, b[header:], false)
	return use.attrSums, nil
}

// checkAttrList checks the entries at the start of area, which were parsed: the
// hash of each, and that the kernel could read what ACLs there are.
func (c *checker) checkAttrList(ino uint32, block uint64, attrs []xattr.Raw, area []byte, inInode bool) (sums attrSums) {
	const head, place, hash = 16, 2, 12
	pos, end := 0, len(area)
	if !inInode {
		end = int(c.bs) // places count from the block's start
	}
	for _, a := range attrs {
		e := area[pos:]
		pos += head + (len(a.Name)+3)&^3
		stored := le.Uint32(e[hash:])
		if a.ValueInode == 0 && a.Size == 0 && int(le.Uint16(e[place:])) > end {
			c.blockProblem(ProblemXattr, ino, block, "has the attribute %q with an empty value outside", a.Name)
		}
		// Inside inodes old kernels left it out.
		if a.ValueInode == 0 && !(inInode && stored == 0) && stored != attrHash(a.Name, a.Value, false) && stored != attrHash(a.Name, a.Value, true) {
			c.blockProblem(ProblemXattr, ino, block, "has the attribute %q with a wrong hash", a.Name)
		}
		if a.ValueInode == 0 && (a.Index == xattr.IndexACLAccess || a.Index == xattr.IndexACLDefault) {
			if _, err := xattr.Decode(a); err != nil {
				c.blockProblem(ProblemXattr, ino, block, "%v", err)
			}
		}
		// The context of fscrypt, of version 1 or 2 (fs/crypto/fscrypt_private.h).
		if a.Index == xattr.IndexEncryption && a.Name == "c" && a.ValueInode == 0 {
			sums.context = len(a.Value) == 28 && a.Value[0] == 1 || len(a.Value) == 40 && a.Value[0] == 2
		}
		if a.ValueInode != 0 {
			cluster := c.bs << c.bits
			sums.values += (uint64(a.Size) + cluster - 1) / cluster << c.bits
			c.noteValue(ino, a, stored)
		}
	}
	return sums
}

// attrHash is e_hash (attributes.rst): bytes of the name count as signed where the
// writer's char was.
func attrHash(name string, value []byte, signed bool) uint32 {
	var h uint32
	for i := range len(name) {
		b := uint32(name[i])
		if signed {
			b = uint32(int8(name[i]))
		}
		h = h<<5 ^ h>>27 ^ b
	}
	for len(value) > 0 {
		var word [4]byte
		value = value[copy(word[:], value):]
		h = h<<16 ^ h>>16 ^ le.Uint32(word[:])
	}
	return h
}

// noteValue notes an inode that holds a value (feature ea_inode). It may come later in
// the scan, so what it is is looked at afterwards.
func (c *checker) noteValue(ino uint32, a xattr.Raw, hash uint32) {
	if c.sb.FeatureIncompat&disk.IncompatEAInode == 0 {
		c.inodeProblem(ProblemXattr, ino, "has the attribute %q in inode %d, without the feature ea_inode", a.Name, a.ValueInode)
		return
	}
	if len(c.values) < maxValues {
		c.values = append(c.values, valueUse{ino, a.ValueInode, a.Size, hash, attrHash(a.Name, nil, false), attrHash(a.Name, nil, true)})
	}
}

// valueUse is an attribute whose value is in an inode.
type valueUse struct {
	ino, value, size uint32
	// hash is that of the entry: name, or signed, and then that of the value, which
	// the inode has for its time of access.
	hash, name, signed uint32
}

// matches says whether the hash of an entry fits that of the value.
func (u *valueUse) matches(value uint32) bool {
	mix := func(h uint32) uint32 { return h<<16 ^ h>>16 ^ value }
	return u.hash == mix(u.name) || u.hash == mix(u.signed)
}

// maxValues bounds how many are kept.
const maxValues = 1 << 22

// checkAttrUse compares how often blocks and inodes of attributes are used with what
// they say.
func (c *checker) checkAttrUse() error {
	for block, use := range c.attrs {
		if !use.bad && use.refcount != use.users {
			c.blockProblem(ProblemXattr, use.ino, block, "has attributes in block %d, which counts %d users and has %d", block, use.refcount, use.users)
		}
	}
	for _, u := range c.values {
		s := c.state(u.value)
		if s == nil || s.state&inodeValue == 0 {
			c.inodeProblem(ProblemXattr, u.ino, "has the value of an attribute in inode %d, which holds none", u.value)
			continue
		}
		s.found++
		i, raw, ok, err := c.rawInode(u.value)
		if err != nil {
			return err
		}
		owner, _, ok2, err := c.rawInode(u.ino)
		if err != nil {
			return err
		}
		if ok && ok2 && uint32(i.Mtime.Sec) == u.ino && i.Generation == owner.Generation {
			// As Lustre has it: for one owner, and without a count.
			s.state |= inodeLustre
			continue
		}
		if ok && i.Size != uint64(u.size) {
			c.inodeProblem(ProblemXattr, u.ino, "has a value of %d bytes in inode %d, which holds %d", u.size, u.value, i.Size)
		} else if ok && !u.matches(le.Uint32(raw[8:])) {
			c.inodeProblem(ProblemXattr, u.ino, "has the value of an attribute in inode %d, with a wrong hash", u.value)
		}
	}
	return nil
}

// checkValueLinks compares the references to an inode of values with its count, which
// is in i_version and the seconds of i_ctime (fs/ext4/xattr.c, ext4_xattr_inode_get_ref).
func (c *checker) checkValueLinks(ino uint32, s *inodeCheck) error {
	_, raw, ok, err := c.rawInode(ino)
	if !ok {
		return err
	}
	refs := uint64(le.Uint32(raw[0xc:]))<<32 | uint64(le.Uint32(raw[0x24:]))
	switch {
	case s.state&inodeLustre != 0:
	case s.found == 0:
		c.inodeProblem(ProblemUnreachable, ino, "holds the value of an attribute that nobody has")
	case refs != uint64(s.found):
		c.inodeProblem(ProblemLinks, ino, "holds the value of attributes, and counts %d references, not %d", refs, s.found)
	case s.links != 1:
		c.inodeProblem(ProblemLinks, ino, "holds the value of attributes and has %d links", s.links)
	}
	return nil
}
