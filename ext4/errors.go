package ext4

import (
	"errors"

	"banger/ext4/internal/dir"
	"banger/ext4/internal/disk"
	"banger/ext4/internal/jbd2"
	"banger/ext4/internal/xattr"
)

var (
	// ErrCorrupt is found by errors.Is in every error that says that an image
	// contradicts the format. The error's text says what is wrong and where.
	ErrCorrupt = errors.New("the file system is damaged")

	// ErrNotExt4 says that the bytes are no superblock of ext2, ext3 or ext4.
	ErrNotExt4 = disk.ErrNotExt4
)

// FeatureError says that an image, or a file in it, has features that the operation
// cannot deal with.
type FeatureError = disk.FeatureError

// damageError gives an error of damage its sentinel, without a word more.
type damageError struct{ err error }

func (e *damageError) Error() string   { return e.err.Error() }
func (e *damageError) Unwrap() []error { return []error{ErrCorrupt, e.err} }

// journalError gives an error about a feature of a journal its FeatureError.
type journalError struct {
	err     error
	feature string
}

func (e *journalError) Error() string { return e.err.Error() }
func (e *journalError) Unwrap() []error {
	return []error{&FeatureError{Op: "read", Features: []string{e.feature}}, e.err}
}

// public makes an error fit to leave the package: whichever part found the damage,
// errors.Is finds ErrCorrupt.
func public(err error) error {
	if err == nil || errors.Is(err, ErrCorrupt) {
		return err
	}
	var feature *FeatureError
	if j, ok := errors.AsType[*jbd2.UnsupportedError](err); ok && !errors.As(err, &feature) {
		return &journalError{err, j.Feature}
	}
	var onDisk *disk.CorruptError
	var inDir *dir.CorruptError
	if errors.As(err, &onDisk) || errors.As(err, &inDir) || errors.Is(err, xattr.ErrCorrupt) ||
		errors.Is(err, xattr.ErrACL) || errors.Is(err, jbd2.ErrCorrupt) {
		return &damageError{err}
	}
	return err
}

// fileFeatureError refuses one file; errors.As finds a FeatureError in it.
type fileFeatureError struct {
	what    string
	feature string
}

func (e *fileFeatureError) Error() string { return e.what }
func (e *fileFeatureError) Unwrap() error {
	return &FeatureError{Op: "read", Features: []string{e.feature}}
}

// refused says why the content of a file cannot be read, if so: nobody without
// the key can read an encrypted file, directory or link, and compressed blocks
// (e2compr) never were in the kernel.
func refused(i *disk.Inode) error {
	const compressedBlocks = 0x200 // EXT2_COMPRBLK_FL; 0x4 is only a user's wish
	switch {
	case i.Flags&disk.InodeEncrypted != 0:
		return &fileFeatureError{"it is encrypted", "encrypt"}
	case i.Flags&compressedBlocks != 0:
		return &fileFeatureError{"it is compressed", "compression"}
	}
	return nil
}
