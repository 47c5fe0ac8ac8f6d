package disk

import (
	"fmt"
	"math/bits"
	"strings"
)

// Compatible features: one who does not know them may read and write
// (s_feature_compat; Documentation/filesystems/ext4/super.rst).
const (
	CompatDirPrealloc  = 0x0001
	CompatHasJournal   = 0x0004
	CompatExtAttr      = 0x0008
	CompatResizeInode  = 0x0010
	CompatDirIndex     = 0x0020
	CompatSparseSuper2 = 0x0200
	CompatFastCommit   = 0x0400
	CompatStableInodes = 0x0800
	CompatOrphanFile   = 0x1000
)

// Incompatible features: one who does not know them must not touch the file
// system (s_feature_incompat).
const (
	IncompatCompression = 0x00001
	IncompatFiletype    = 0x00002
	IncompatRecover     = 0x00004 // the journal must be replayed
	IncompatJournalDev  = 0x00008
	IncompatMetaBG      = 0x00010
	IncompatExtents     = 0x00040
	Incompat64Bit       = 0x00080
	IncompatMMP         = 0x00100
	IncompatFlexBG      = 0x00200
	IncompatEAInode     = 0x00400
	IncompatDirData     = 0x01000
	IncompatCsumSeed    = 0x02000
	IncompatLargeDir    = 0x04000
	IncompatInlineData  = 0x08000
	IncompatEncrypt     = 0x10000
	IncompatCasefold    = 0x20000
)

// Features whose ignorance forbids only writing (s_feature_ro_compat).
const (
	ROCompatSparseSuper   = 0x00001
	ROCompatLargeFile     = 0x00002
	ROCompatHugeFile      = 0x00008
	ROCompatGDTCsum       = 0x00010
	ROCompatDirNlink      = 0x00020
	ROCompatExtraIsize    = 0x00040
	ROCompatQuota         = 0x00100
	ROCompatBigalloc      = 0x00200
	ROCompatMetadataCsum  = 0x00400
	ROCompatReadonly      = 0x01000
	ROCompatProject       = 0x02000
	ROCompatVerity        = 0x08000
	ROCompatOrphanPresent = 0x10000 // the orphan file has entries
)

// The names that mke2fs and tune2fs give the features.
var (
	compatNames = map[uint32]string{
		CompatDirPrealloc: "dir_prealloc", 0x2: "imagic_inodes", CompatHasJournal: "has_journal", CompatExtAttr: "ext_attr",
		CompatResizeInode: "resize_inode", CompatDirIndex: "dir_index", 0x40: "lazy_bg", 0x80: "snapshot_bitmap",
		CompatSparseSuper2: "sparse_super2", CompatFastCommit: "fast_commit", CompatStableInodes: "stable_inodes", CompatOrphanFile: "orphan_file",
	}
	incompatNames = map[uint32]string{
		IncompatCompression: "compression", IncompatFiletype: "filetype", IncompatRecover: "needs_recovery", IncompatJournalDev: "journal_dev",
		IncompatMetaBG: "meta_bg", IncompatExtents: "extent", Incompat64Bit: "64bit", IncompatMMP: "mmp", IncompatFlexBG: "flex_bg",
		IncompatEAInode: "ea_inode", IncompatDirData: "dirdata", IncompatCsumSeed: "metadata_csum_seed", IncompatLargeDir: "large_dir",
		IncompatInlineData: "inline_data", IncompatEncrypt: "encrypt", IncompatCasefold: "casefold",
	}
	roCompatNames = map[uint32]string{
		ROCompatSparseSuper: "sparse_super", ROCompatLargeFile: "large_file", ROCompatHugeFile: "huge_file", ROCompatGDTCsum: "uninit_bg",
		ROCompatDirNlink: "dir_nlink", ROCompatExtraIsize: "extra_isize", ROCompatQuota: "quota", ROCompatBigalloc: "bigalloc",
		ROCompatMetadataCsum: "metadata_csum", 0x800: "replica", ROCompatReadonly: "read-only", ROCompatProject: "project", 0x4000: "shared_blocks",
		ROCompatVerity: "verity", ROCompatOrphanPresent: "orphan_present",
	}
)

// CompatNames, IncompatNames and ROCompatNames list the features of a mask by the
// names that mke2fs gives them, lowest bit first; unknown ones as feature bits.
func CompatNames(mask uint32) []string   { return featureNames("compat", mask, compatNames) }
func IncompatNames(mask uint32) []string { return featureNames("incompat", mask, incompatNames) }
func ROCompatNames(mask uint32) []string { return featureNames("ro_compat", mask, roCompatNames) }

func featureNames(set string, mask uint32, names map[uint32]string) (list []string) {
	for ; mask != 0; mask &= mask - 1 {
		bit := uint32(1) << bits.TrailingZeros32(mask)
		if n, ok := names[bit]; ok {
			list = append(list, n)
		} else {
			list = append(list, fmt.Sprintf("%s bit %#x", set, bit))
		}
	}
	return list
}

// FeatureError says that a file system has features that the operation cannot
// deal with.
type FeatureError struct {
	// Op is "read" or "edit".
	Op string
	// Features has their names as mke2fs spells them.
	Features []string
}

func (e *FeatureError) Error() string {
	return fmt.Sprintf("cannot %s a file system with the feature %s", e.Op, strings.Join(e.Features, ", "))
}
