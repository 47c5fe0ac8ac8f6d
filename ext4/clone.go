package ext4

import (
	"errors"
	"fmt"

	"banger/ext4/internal/disk"
)

// UUIDError says why a file system cannot get another UUID.
type UUIDError struct{ Reason string }

func (e *UUIDError) Error() string { return "cannot change the UUID: " + e.Reason }

// SetUUID gives the file system in f another UUID, as a copy of an image needs that
// is mounted beside the original. Only the superblocks are written. That is possible
// where no other checksum depends on the UUID: with the feature
// metadata_csum_seed, as all images of this package have it, or without checksums; else
// it is a *UUIDError.
//
// The image must not be in use; see Edit, also for a journal that is dirty. The
// journal keeps the UUID it has: inside a file system it is only what the journal's
// own checksums start from (fs/jbd2/journal.c; that it be the file system's is
// asked of an external journal alone).
func SetUUID(f File, uuid [16]byte) error {
	return changeSuperblocks(f, func(sb *disk.Superblock) error {
		const seeded = disk.IncompatCsumSeed
		switch {
		case uuid == [16]byte{}:
			return &UUIDError{"all zeros are none"}
		case sb.FeatureIncompat&disk.IncompatEncrypt != 0, sb.FeatureCompat&disk.CompatStableInodes != 0:
			return &UUIDError{"files may be encrypted with keys derived from it (stable_inodes)"}
		case sb.MetadataCsum() && sb.FeatureIncompat&seeded == 0:
			return &UUIDError{"all checksums start from it, without the feature metadata_csum_seed"}
		case !sb.MetadataCsum() && sb.FeatureROCompat&disk.ROCompatGDTCsum != 0:
			return &UUIDError{"the checksums of the group descriptors start from it (uninit_bg)"}
		}
		sb.UUID = uuid
		return nil
	})
}

// SetLabel gives the file system in f another name, of at most 16 bytes and without
// zero bytes. Only the superblocks are written. The image must not be in use; see
// Edit, also for a journal that is dirty.
func SetLabel(f File, label string) error {
	var name [16]byte
	if len(label) > len(name) {
		return fmt.Errorf("the label %q has more than %d bytes", label, len(name))
	}
	for _, c := range []byte(label) {
		if c == 0 {
			return fmt.Errorf("the label %q has a zero byte", label)
		}
	}
	copy(name[:], label)
	return changeSuperblocks(f, func(sb *disk.Superblock) error {
		sb.VolumeName = name
		return nil
	})
}

// changeSuperblocks changes the superblock, which is one write and so whole at any
// time, and then its backups.
func changeSuperblocks(f File, change func(*disk.Superblock) error) error {
	length, err := fileLength(f)
	if err != nil {
		return err
	}
	t, err := editSettled(f, length, nil)
	if err != nil {
		return public(err)
	}
	defer t.Close()
	sb := *t.v.sb
	if err := change(&sb); err != nil {
		return err
	}
	if err := t.writeSuperblock(&sb); err != nil {
		return err
	}
	for _, g := range backupGroups(&sb) {
		if err := t.changeBackup(g, change); err != nil {
			return err
		}
	}
	return f.Sync()
}

// changeBackup changes the superblock of a group. One that is none, or damaged,
// stays: it is of no use, and e2fsck writes it anew.
func (t *Tx) changeBackup(g uint32, change func(*disk.Superblock) error) error {
	b := make([]byte, disk.SuperblockSize)
	at := int64(t.v.sb.GroupStart(g)) * int64(t.v.bs)
	if err := t.v.readRaw(b, at); err != nil {
		return err
	}
	sb, err := disk.DecodeSuperblock(b)
	if err == nil {
		err = change(sb)
	}
	var why *UUIDError
	var damage *disk.CorruptError
	if errors.Is(err, ErrNotExt4) || errors.As(err, &damage) || errors.As(err, &why) {
		return nil
	}
	if err != nil {
		return err
	}
	sb.Encode(b)
	_, err = t.f.WriteAt(b, at)
	return err
}
