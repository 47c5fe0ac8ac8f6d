package xattr

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// Encode lays attributes out for an inode that has room bytes, at most blockSize,
// from byte 128+i_extra_isize to its end, and for one attribute block of blockSize
// bytes, a power of two from 1024 to 65536. It does not keep or change attrs, and
// its result does not depend on their order.
//
// inode is room bytes long, or nil if nothing goes there; then the caller clears
// the area. Of room, what is more than a multiple of four stays unused. block is
// blockSize bytes long, with h_refcount 1, the hashes set and h_checksum 0 (see
// SetBlockChecksum), or nil if nothing goes there.
//
// First each attribute that still fits goes in the inode: security.capability,
// security.selinux, the access ACL, the default ACL, other security.*, then the
// rest, each in the kernel's order. If what is left overflows the block, the inode
// takes the set that fills it best. So it fails with ErrTooLarge, and the name of
// an attribute that does not fit, only if no split fits. system.data (inline data)
// is always in the inode.
//
// Other errors: ErrName for a name that cannot be stored or is given twice; ErrACL
// for an ACL that setxattr(2) refuses or that has no entries, which there means
// removal. What else the kernel ties to an ACL is the caller's: the mode bits that
// go with it, and that only directories have a default one. "system." names other
// than ACLs are stored, but the kernel does not show them.
func Encode(attrs []Attr, room, blockSize int) (inode, block []byte, err error) {
	return EncodeKeeping(attrs, nil, room, blockSize)
}

// EncodeKeeping is Encode with attributes besides, of other names, whose values stay in the
// inodes where they are (Raw.ValueInode; feature ea_inode): only their entries take room.
func EncodeKeeping(attrs []Attr, kept []Raw, room, blockSize int) (inode, block []byte, err error) {
	if blockSize < 1024 || blockSize > 65536 || blockSize&(blockSize-1) != 0 {
		return nil, nil, fmt.Errorf("xattr: a block size of %d", blockSize)
	}
	if room < 0 || room > blockSize {
		return nil, nil, fmt.Errorf("xattr: %d bytes for attributes in an inode", room)
	}
	its, err := items(attrs, kept)
	if err != nil {
		return nil, nil, err
	}
	in, out, err := split(its, max(0, room&^3-magicSize-endSize), blockSize-headerSize-endSize)
	if err != nil {
		return nil, nil, err
	}
	le := binary.LittleEndian
	if len(in) > 0 {
		inode = make([]byte, room)
		le.PutUint32(inode, magic)
		// The kernel leaves e_hash 0 in an inode: nothing there is shared.
		layOut(inode[magicSize:room&^3], 0, in, nil)
	}
	if len(out) > 0 {
		block = make([]byte, blockSize)
		hashes := make([]uint32, len(out))
		for i, it := range out {
			if it.kept != nil {
				hashes[i] = it.kept.Hash
			} else {
				hashes[i] = hashEntry(it.name, it.value)
			}
		}
		le.PutUint32(block, magic)
		SetRefcount(block, 1)
		le.PutUint32(block[hdrBlocks:], 1)
		le.PutUint32(block[hdrHash:], hashBlock(hashes))
		layOut(block, headerSize, out, hashes)
	}
	return inode, block, nil
}

// layOut writes entries upwards from first and values downwards from the end of
// area, which is zero and has room: split has seen to it. The first entry's value
// is last, as if the kernel had set the attributes one by one in this order.
func layOut(area []byte, first int, its []item, hashes []uint32) {
	le := binary.LittleEndian
	pos, end := first, len(area)
	for i, it := range its {
		e := area[pos:]
		e[0], e[1] = uint8(len(it.name)), it.index
		if len(it.value) > 0 {
			end -= pad4(len(it.value))
			copy(area[end:], it.value)
			le.PutUint16(e[2:], uint16(end))
		}
		le.PutUint32(e[8:], uint32(len(it.value)))
		if hashes != nil {
			le.PutUint32(e[12:], hashes[i])
		}
		if k := it.kept; k != nil {
			// The hash is also inside inodes that of the value's (fs/ext4/xattr.c,
			// ext4_xattr_inode_verify_hashes).
			le.PutUint32(e[4:], k.ValueInode)
			le.PutUint32(e[8:], k.Size)
			le.PutUint32(e[12:], k.Hash)
		}
		copy(e[entrySize:], it.name)
		pos += entrySize + pad4(len(it.name))
	}
}

// split chooses what goes in the inode, which has room for entries of this total
// cost, and what in the block. An attribute costs the same in both. Both results
// keep the order of its.
func split(its []item, inodeRoom, blockRoom int) (in, out []item, err error) {
	total := 0
	for i := range its {
		c := its[i].cost()
		if c > inodeRoom && (c > blockRoom || its[i].wanted == pinned) {
			return nil, nil, tooLarge(&its[i], inodeRoom, blockRoom)
		}
		// Leaving here also keeps the sum from overflowing.
		if total += c; total > inodeRoom+blockRoom {
			return nil, nil, tooLarge(&its[i], inodeRoom, blockRoom)
		}
	}
	inside := make([]bool, len(its))
	free := inodeRoom
	for _, i := range byWish(its) {
		if c := its[i].cost(); c <= free {
			inside[i] = true
			free -= c
		}
	}
	if total-(inodeRoom-free) > blockRoom {
		var missing int
		if inside, missing = fill(its, inodeRoom, total-blockRoom); missing >= 0 {
			return nil, nil, tooLarge(&its[missing], inodeRoom, blockRoom)
		}
	}
	for i := range its {
		if inside[i] {
			in = append(in, its[i])
		} else {
			out = append(out, its[i])
		}
	}
	return in, out, nil
}

// byWish gives the indices of its in the order in which they want to be in the inode.
func byWish(its []item) []int {
	order := make([]int, len(its))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return its[a].wanted - its[b].wanted })
	return order
}

// fill finds the set with the largest sum of costs up to room: subset sums in steps
// of four bytes, n*room/4 steps for n attributes that all fit in inode and block
// together. Pinned ones, which fit, are in it. If the sum is less than least, it
// also gives the index of an attribute that stays out, else -1.
func fill(its []item, room, least int) (inside []bool, missing int) {
	const none, start = -1, -2
	order := byWish(its)
	inside = make([]bool, len(its))
	for len(order) > 0 && its[order[0]].wanted == pinned {
		inside[order[0]] = true
		room -= its[order[0]].cost()
		least -= its[order[0]].cost()
		order = order[1:]
	}
	// last[s] is the attribute that made the sum 4*s possible. It is the latest
	// in the order of any set with that sum, so following it back uses none twice.
	last := make([]int, room/4+1)
	for s := range last {
		last[s] = none
	}
	last[0] = start
	for _, i := range order {
		c := its[i].cost() / 4
		for s := len(last) - 1; s >= c; s-- {
			if last[s] == none && last[s-c] != none {
				last[s] = i
			}
		}
	}
	best := len(last) - 1
	for last[best] == none {
		best--
	}
	for s := best; s > 0; s -= its[last[s]].cost() / 4 {
		inside[last[s]] = true
	}
	if 4*best >= least {
		return inside, -1
	}
	return inside, slices.Index(inside, false)
}

func tooLarge(it *item, inodeRoom, blockRoom int) error {
	if it.wanted == pinned {
		return fmt.Errorf("%w: no place for %q (%d bytes with its entry) in the inode (%d bytes)",
			ErrTooLarge, it.full, it.cost(), inodeRoom)
	}
	return fmt.Errorf("%w: no place for %q (%d bytes with its entry; the inode has %d bytes and a block %d, for all)",
		ErrTooLarge, it.full, it.cost(), inodeRoom, blockRoom)
}
