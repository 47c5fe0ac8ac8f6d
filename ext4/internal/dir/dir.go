// Package dir reads, builds and edits the directories of ext4: linear ones, and those
// with a hashed index (htree).
//
// A directory is a file of blocks of entries. The index hides from a reader who does
// not know it: its root follows "." and ".." in block 0, inside the space of "..", and
// its other nodes are blocks of one unused entry. So a linear pass over all blocks
// always works, and the index only says in which block a name must be.
//
// The format is that of Documentation/filesystems/ext4/directory.rst and
// checksums.rst in the kernel's source. Directories with casefold or encryption, and
// those stored inside an inode, are not for this package.
package dir

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

var le = binary.LittleEndian

// MaxName is the longest name of an entry, in bytes.
const MaxName = 255

// TypeDir is the file type an entry of a directory carries (EXT4_FT_DIR).
const TypeDir = 2

// Hash versions as s_def_hash_version and a root of an index store them.
const (
	HashLegacy  = 0
	HashHalfMD4 = 1
	HashTEA     = 2
)

// Params is what the form of a directory depends on: its file system, and, in Seed,
// its inode. Methods do not change it; one Params serves concurrent readers.
type Params struct {
	BlockSize int  // bytes, a power of two, 1024 to 65536
	FileType  bool // incompat filetype: entries carry a type byte
	Checksums bool // ro_compat metadata_csum: every block ends in a checksum
	LargeDir  bool // incompat large_dir: one more level of index, files above 2 GiB
	Index     bool // compat dir_index: Insert may give a directory an index

	// Seed starts the checksums of this directory: crc32c of the file system's seed,
	// then the inode number and the inode's generation, each as le32.
	Seed uint32

	HashVersion  uint8     // of new indexes: HashLegacy, HashHalfMD4, HashTEA; others: none is made
	HashUnsigned bool      // s_flags has EXT2_FLAGS_UNSIGNED_HASH: bytes of names count as unsigned
	HashSeed     [4]uint32 // s_hash_seed; all zero is the default seed
}

// Entry is one name of a directory.
type Entry struct {
	Ino  uint32
	Type uint8 // EXT4_FT_*, 0 where the file system keeps no types; unchecked when read
	Name string
}

// Blocks is the file of a directory. All blocks have Params.BlockSize bytes. After an
// error of Write or Append in the midst of an edit the directory may be half changed:
// the caller drops all that the edit wrote.
type Blocks interface {
	// Len is the number of blocks of the file.
	Len() uint32
	// Read gives block i, below Len; nil where the file has a hole. The block stays
	// the callee's: nobody here changes it.
	Read(i uint32) ([]byte, error)
	// Write replaces block i. The callee may keep b.
	Write(i uint32, b []byte) error
	// Append adds a block and gives its number. The callee may keep b.
	Append(b []byte) (uint32, error)
}

var (
	// ErrExist says the directory already has the name.
	ErrExist = fs.ErrExist
	// ErrNotExist says the directory does not have the name.
	ErrNotExist = fs.ErrNotExist
	// ErrName is the error of a name no entry may have: empty, above MaxName bytes,
	// with a slash or a zero byte, or "." or ".." where these are not allowed.
	ErrName = errors.New("not a valid name for a directory entry")
	// ErrFull says that the index has no room for one more block, or that the file has
	// reached the size a directory may have.
	ErrFull = errors.New("directory is full")
)

// CorruptError reports a block that breaks the format.
type CorruptError struct {
	Block  uint32 // in the directory's file
	Reason string

	// index says the damage is one of the index alone: names can still be found by a
	// pass over all blocks.
	index bool
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("directory block %d: %s", e.Block, e.Reason)
}

func corrupt(block uint32, reason string) error {
	return &CorruptError{Block: block, Reason: reason}
}

func corruptIndex(block uint32, reason string) error {
	return &CorruptError{Block: block, Reason: reason, index: true}
}

func onlyIndex(err error) bool {
	c, ok := errors.AsType[*CorruptError](err)
	return ok && c.index
}

// maxBlocks is the most blocks an edit or a plan gives a directory: e2fsck allows 2 GiB
// without large_dir, and an index counts blocks with 28 bits.
func (p *Params) maxBlocks() uint32 {
	if p.LargeDir {
		return blockMask
	}
	return 1<<31/uint32(p.BlockSize) - 1
}

// maxLevels is the most levels of nodes between the root of an index and its leaves.
func (p *Params) maxLevels() int {
	if p.LargeDir {
		return 2
	}
	return 1
}

func isDot(name string) bool { return name == "." || name == ".." }

func checkName(name string) error {
	if name == "" || len(name) > MaxName || isDot(name) || !plain(name) {
		if len(name) > MaxName {
			name = name[:MaxName]
		}
		return fmt.Errorf("%q: %w", name, ErrName)
	}
	return nil
}

// plain says a name has no byte that ends or divides names.
func plain(name string) bool {
	return strings.IndexByte(name, '/') < 0 && strings.IndexByte(name, 0) < 0
}
