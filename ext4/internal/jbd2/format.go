package jbd2

import "encoding/binary"

// All numbers of the journal are big-endian, unlike the rest of ext4.
var be = binary.BigEndian

// magic begins every block of the log that is not a logged block
// (JBD2_MAGIC_NUMBER).
const magic = 0xC03B3998

// Types of blocks (JBD2_*_BLOCK, JBD2_SUPERBLOCK_V*).
const (
	typeDescriptor   = 1
	typeCommit       = 2
	typeSuperblockV1 = 3
	typeSuperblockV2 = 4
	typeRevoke       = 5
)

// struct journal_header_s.
const (
	hMagic     = 0x0 // h_magic
	hBlocktype = 0x4 // h_blocktype
	hSequence  = 0x8 // h_sequence
	headerSize = 0xC
)

// struct journal_superblock_s. From sFeatureCompat on only version 2 has it.
const (
	sBlocksize       = 0x0C // s_blocksize: in bytes
	sMaxlen          = 0x10 // s_maxlen: length of the journal in blocks
	sFirst           = 0x14 // s_first: first block of the log
	sSequence        = 0x18 // s_sequence: number of the first transaction
	sStart           = 0x1C // s_start: its block, 0 if the log is empty
	sErrno           = 0x20 // s_errno: the kernel's error, negative
	sFeatureCompat   = 0x24 // s_feature_compat
	sFeatureIncompat = 0x28 // s_feature_incompat
	sFeatureROCompat = 0x2C // s_feature_ro_compat
	sUUID            = 0x30 // s_uuid: 16 bytes
	sNrUsers         = 0x40 // s_nr_users: file systems that share the journal
	sChecksumType    = 0x50 // s_checksum_type: one byte
	sNumFCBlks       = 0x54 // s_num_fc_blks: blocks of fast commits at the end
	sChecksum        = 0xFC // s_checksum: of the whole structure, itself as 0
	superblockSize   = 1024
)

// Features of the journal (JBD2_FEATURE_*).
const (
	compatChecksum      = 0x01
	incompatRevoke      = 0x01
	incompat64Bit       = 0x02
	incompatAsyncCommit = 0x04
	incompatCsumV2      = 0x08
	incompatCsumV3      = 0x10
	incompatFastCommit  = 0x20

	incompatKnown = incompatRevoke | incompat64Bit | incompatAsyncCommit |
		incompatCsumV2 | incompatCsumV3 | incompatFastCommit
)

// checksumCRC32C is the only s_checksum_type there is for versions 2 and 3 of the
// checksums (JBD2_CRC32C_CHKSUM).
const checksumCRC32C = 4

// struct commit_header. hChksumType and hChksumSize are zero but with the first
// version of the checksums, in which they are 1 (JBD2_CRC32_CHKSUM) and 4.
const (
	hChksumType      = 0x0C // h_chksum_type
	hChksumSize      = 0x0D // h_chksum_size
	hChksum          = 0x10 // h_chksum[0]
	hCommitSec       = 0x30 // h_commit_sec: 64 bits, seconds since 1970
	hCommitNsec      = 0x38 // h_commit_nsec
	commitHeaderSize = 0x40 // with the padding that C gives it

	chksumTypeCRC32 = 1
	chksumSizeCRC32 = 4
)

// struct jbd2_journal_revoke_header_s.
const (
	rCount           = 0xC // r_count: bytes used, with the header
	revokeHeaderSize = 0x10
)

// tailSize is struct jbd2_journal_block_tail, which ends descriptor and revoke
// blocks with versions 2 and 3 of the checksums.
const tailSize = 4

// Tags: struct journal_block_tag_s, or journal_block_tag3_s with version 3 of the
// checksums. A UUID follows a tag without flagSameUUID.
const (
	tBlocknr     = 0x0 // t_blocknr
	tChecksum    = 0x4 // t_checksum: 16 bits, version 2
	tFlags       = 0x6 // t_flags: 16 bits; in a tag3 the lower half of 32
	tBlocknrHigh = 0x8 // t_blocknr_high
	t3Checksum   = 0xC // t_checksum of a tag3: 32 bits

	uuidSize = 16
)

// Flags of tags (JBD2_FLAG_*).
const (
	flagEscape   = 0x1 // the block began with the magic, which was zeroed
	flagSameUUID = 0x2 // no UUID follows
	flagLastTag  = 0x8 // the last tag of this descriptor block
)

const (
	// MinBlocks is the length of the shortest journal that the kernel and e2fsck
	// take, in blocks (JBD2_MIN_JOURNAL_BLOCKS).
	MinBlocks = 1024

	// defaultFastCommitBlocks is what s_num_fc_blks of 0 means
	// (JBD2_DEFAULT_FAST_COMMIT_BLOCKS).
	defaultFastCommitBlocks = 256

	minBlockSize = 1024
	maxBlockSize = 65536
)

// Start of the area of fast commits, fs/ext4/fast_commit.h. Little-endian.
const (
	fcTagHead = 0x0009 // EXT4_FC_TAG_HEAD, 16 bits at 0; the length follows
	fcTID     = 0x8    // fc_tid of struct ext4_fc_head, after the tag and fc_features
)
