package diskimage

import (
	"encoding/binary"
	"errors"
	"os"
)

// What hcsshim's converter leaves to do. Formats: the kernel's
// Documentation/filesystems/ext4 (superblock, group descriptors, bitmaps), and
// struct ext4_acl_header and ext4_acl_entry in its fs/ext4/acl.h.

const blockSize = 4096

// padInodeBitmaps sets the bits behind the last inode of each group, as every
// checker demands. The file systems of the converter have 32-byte descriptors
// from block 1 on, and no checksums.
func padInodeBitmaps(f *os.File) error {
	var super [1024]byte
	if _, err := f.ReadAt(super[:], 1024); err != nil {
		return err
	}
	field := func(at int) uint32 { return binary.LittleEndian.Uint32(super[at:]) }
	inodes, perGroup := field(0x0), field(0x28)
	if perGroup == 0 || perGroup > 8*blockSize {
		return errors.New("the converter wrote a bad superblock")
	}
	if perGroup == 8*blockSize {
		return nil // no bit is left over
	}
	for group := range int64(inodes / perGroup) {
		var descriptor [32]byte
		if _, err := f.ReadAt(descriptor[:], blockSize+32*group); err != nil {
			return err
		}
		// inodes per group is a multiple of 16: whole bytes are left over.
		padding := make([]byte, blockSize-perGroup/8)
		for i := range padding {
			padding[i] = 0xff
		}
		bitmap := int64(binary.LittleEndian.Uint32(descriptor[4:]))
		if _, err := f.WriteAt(padding, bitmap*blockSize+int64(perGroup/8)); err != nil {
			return err
		}
	}
	return nil
}

// diskACL turns a POSIX ACL as getxattr(2) gives it (version 2: tag, permissions
// and id, 8 bytes each) into ext4's (version 1: the id only with named users and
// groups).
func diskACL(value string) (string, error) {
	const (
		user, group = 0x02, 0x08 // ACL_USER, ACL_GROUP
		maxACL      = 4096
	)
	b := []byte(value)
	if len(b) < 4 || len(b) > maxACL || (len(b)-4)%8 != 0 || binary.LittleEndian.Uint32(b) != 2 {
		return "", errors.New("not a version 2 ACL")
	}
	out := binary.LittleEndian.AppendUint32(nil, 1)
	for e := b[4:]; len(e) > 0; e = e[8:] {
		switch tag := binary.LittleEndian.Uint16(e); tag {
		case user, group:
			out = append(out, e[:8]...)
		case 0x01, 0x04, 0x10, 0x20: // ACL_USER_OBJ, ACL_GROUP_OBJ, ACL_MASK, ACL_OTHER
			out = append(out, e[:4]...)
		default:
			return "", errors.New("an entry's tag is unknown")
		}
	}
	return string(out), nil
}
