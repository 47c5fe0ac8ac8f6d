package ext4

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"banger/ext4/internal/disk"
)

// ProblemKind says in a word what is wrong; the words do not change.
type ProblemKind string

// The kinds of problems, in the order of a report.
const (
	ProblemSuperblock  ProblemKind = "superblock"   // a field of the superblock
	ProblemTruncated   ProblemKind = "truncated"    // the image ends before the file system
	ProblemBackup      ProblemKind = "backup"       // a copy of the superblock or of the descriptors is of no use
	ProblemGroup       ProblemKind = "group"        // a group descriptor
	ProblemJournal     ProblemKind = "journal"      // the journal, its inode or its superblock
	ProblemResize      ProblemKind = "resize-inode" // the inode that reserves room for descriptors
	ProblemOrphan      ProblemKind = "orphan"       // the list or the file of orphans
	ProblemChecksum    ProblemKind = "checksum"     // of an inode, a block of a map or directory, a bitmap, attributes
	ProblemInode       ProblemKind = "inode"        // a mode, flags or fields that cannot be
	ProblemDeleted     ProblemKind = "deleted"      // a time of deletion where none may be, or none where one must be
	ProblemSize        ProblemKind = "size"         // i_size does not fit the blocks
	ProblemBlockCount  ProblemKind = "block-count"  // i_blocks does not fit the blocks
	ProblemMap         ProblemKind = "map"          // an extent tree or a block map
	ProblemBadBlock    ProblemKind = "bad-block"    // a block number outside the file system
	ProblemSharedBlock ProblemKind = "shared-block" // a block has more than one use
	ProblemInline      ProblemKind = "inline"       // content inside the inode
	ProblemSymlink     ProblemKind = "symlink"      // a target that cannot be
	ProblemXattr       ProblemKind = "xattr"        // extended attributes
	ProblemDirectory   ProblemKind = "directory"    // the records of a directory
	ProblemDots        ProblemKind = "dots"         // "." or ".."
	ProblemName        ProblemKind = "name"         // a name that cannot be, or is there twice
	ProblemEntry       ProblemKind = "entry"        // a name for an inode that has none to have
	ProblemFileType    ProblemKind = "file-type"    // the type in an entry is not the inode's
	ProblemIndex       ProblemKind = "index"        // the hashed index of a directory
	ProblemUnreachable ProblemKind = "unreachable"  // in use, and no path leads there
	ProblemLinks       ProblemKind = "links"        // i_links_count
	ProblemBlockBitmap ProblemKind = "block-bitmap" // differs from what is in use
	ProblemInodeBitmap ProblemKind = "inode-bitmap" // likewise
	ProblemFreeCount   ProblemKind = "free-count"   // a sum of a group or of the superblock
)

var problemOrder = []ProblemKind{
	ProblemSuperblock, ProblemTruncated, ProblemBackup, ProblemGroup, ProblemJournal, ProblemResize, ProblemOrphan, ProblemChecksum,
	ProblemInode, ProblemDeleted, ProblemSize, ProblemBlockCount, ProblemMap, ProblemBadBlock, ProblemSharedBlock, ProblemInline,
	ProblemSymlink, ProblemXattr, ProblemDirectory, ProblemDots, ProblemName, ProblemEntry, ProblemFileType, ProblemIndex,
	ProblemUnreachable, ProblemLinks, ProblemBlockBitmap, ProblemInodeBitmap, ProblemFreeCount,
}

// Problem is one thing that Check found wrong.
type Problem struct {
	Kind ProblemKind
	// Inode is the one that the problem is in; 0 where it is in none.
	Inode uint32
	// Block is the block of the file system that it is in or about; 0 where none is known.
	Block uint64
	// Group is the block group, for problems of groups, bitmaps and counts; else 0.
	Group uint32
	// Path is where the inode can be found, from the root, if that is known.
	Path string
	// Detail is a sentence that says what is wrong.
	Detail string
}

// String is a line for people.
func (p Problem) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: ", p.Kind)
	if p.Inode != 0 {
		fmt.Fprintf(&b, "inode %d ", p.Inode)
		if p.Path != "" {
			fmt.Fprintf(&b, "(%q) ", p.Path)
		}
	}
	b.WriteString(p.Detail)
	return b.String()
}

// Report is what Check found.
type Report struct {
	// Problems has the first 1000 problems, sorted by kind, group, inode and block.
	Problems []Problem
	// Omitted counts those beyond them.
	Omitted int
	// Notes says what is no damage but may be of interest: a journal to be replayed,
	// files that were deleted while open, what was not checked.
	Notes []string
	// Inodes counts the inodes in use, with those of the file system itself, Directories
	// those of them that are directories; Blocks counts the blocks in use.
	Inodes, Directories uint32
	Blocks              uint64
}

// OK says that no problem was found.
func (r *Report) OK() bool { return len(r.Problems) == 0 }

// String has a line for each problem and note.
func (r *Report) String() string {
	var b strings.Builder
	for _, p := range r.Problems {
		fmt.Fprintln(&b, p)
	}
	if r.Omitted > 0 {
		fmt.Fprintf(&b, "and %d more\n", r.Omitted)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	return b.String()
}

// maxProblems bounds a report.
const maxProblems = 1000

// Check checks an image that may be too damaged for Open: what Open would call
// damage becomes a problem of the report. See Image.Check; size is as for Open. An
// image that is no ext4 at all is ErrNotExt4, and features that stand in the way of
// any check are a *FeatureError.
func Check(ctx context.Context, r io.ReaderAt, size int64) (*Report, error) {
	if size < 0 {
		size = math.MaxInt64
	}
	v, err := openVolume(r, size)
	if err == nil {
		return newChecker(ctx, v, size).run()
	}
	if err = public(err); !errors.Is(err, ErrCorrupt) {
		return nil, err
	}
	v = &volume{dev: r}
	if again := v.readSuperblock(size); again != nil {
		return &Report{Problems: []Problem{{Kind: ProblemSuperblock, Detail: err.Error()}}}, nil
	}
	// Only the journal stood in the way: the rest is checked without it.
	c := newChecker(ctx, v, size)
	c.inodeProblem(ProblemJournal, v.sb.JournalInum, "is the journal: %v", err)
	return c.run()
}

// Check looks whether the file system contradicts itself, as e2fsck -fn does:
// superblock, group descriptors and bitmaps; every inode in use with its map, size
// and attributes; every directory with its index; that each file has as many names as
// it says, and each directory one; what is free and how much of it; all checksums.
// The contents of files are not read. Nothing is written, and nothing is mended.
//
// An image whose journal was not replayed is checked as if it had been. That the kernel
// marked it as having errors, or gave up the journal, is a problem, whatever else is found:
// Edit refuses such an image until e2fsck -f was there.
//
// Damage is in the report; the error says what kept Check from coming to its end: an
// error of the reader, or of ctx. Memory is bounded by the size of the image: about a
// bit a block, eight bytes an inode of the groups with files, and twenty bytes a directory.
func (im *Image) Check(ctx context.Context) (*Report, error) {
	return newChecker(ctx, im.v, im.size).run()
}

// checker is a check in progress.
type checker struct {
	ctx  context.Context
	v    *volume
	sb   *disk.Superblock
	bs   uint64
	size int64 // of the image
	// loose decodes what has a wrong checksum.
	loose disk.Superblock
	bits  uint32 // blocks a cluster, as a power of two

	report Report

	groups []groupCheck
	dirs   []dirCheck // ascending by inode
	// meta has the blocks of superblocks, descriptors, bitmaps and tables; used has all
	// that is in use, by cluster. Both count from s_first_data_block.
	meta, used bitset
	// orphans are inodes that wait to be freed or cut.
	orphans map[uint32]bool
	// unnamed are inodes of the file system itself, which need no name.
	unnamed map[uint32]bool
	attrs   map[uint64]*attrBlockUse
	sharing sharedBlocks
	values  []valueUse
	// again is how many more blocks may be looked at that have been seen before:
	// maps that share blocks could make a small image take for ever.
	again int
	// largeFile says that a file has more than 2 GiB.
	largeFile bool
}

// groupCheck is what is known of a group.
type groupCheck struct {
	desc disk.Group
	// bad says that the descriptor points nowhere, scanned that the inode table was.
	bad, scanned bool
	inodes       []inodeCheck // nil where none is in use; not those at the end that never were
	used, dirs   uint32
}

// inodeCheck is what is known of an inode.
type inodeCheck struct {
	links uint16
	kind  uint8 // FT*, as its mode says
	state uint8
	found uint32 // names, or references to an attribute's value
}

// States of an inode.
const (
	inodeUsed  = 1 << iota
	inodeBad   // its mode cannot be: names for it are damage
	inodeValue // holds an attribute's value
	inodeSharing
	inodeLustre    // such a value without a count
	inodeEncrypted // its content, and names in it, have any bytes
)

// dirCheck is what is known of a directory.
type dirCheck struct {
	ino uint32
	// parent is the directory that names it, dotdot what its ".." says; 0 for none.
	parent, dotdot uint32
	mark           uint32 // of the search for ways to the root
}

func newChecker(ctx context.Context, v *volume, size int64) *checker {
	c := &checker{
		ctx: ctx, v: v, sb: v.sb, bs: uint64(v.bs), size: size, loose: *v.sb, bits: v.clusterBits(),
		orphans: map[uint32]bool{}, unnamed: map[uint32]bool{}, attrs: map[uint64]*attrBlockUse{}, again: 1 << 16,
	}
	c.loose.FeatureROCompat &^= disk.ROCompatMetadataCsum | disk.ROCompatGDTCsum
	return c
}

// run does all of the check, in the order in which one step needs the other.
func (c *checker) run() (*Report, error) {
	for _, step := range []func() error{
		c.checkSuperblock, c.readGroups, c.checkBackups, c.readOrphans, c.checkJournal, c.scanInodes, c.checkResizeInode, c.findSharers,
		c.checkDirs, c.checkTree, c.checkAttrUse, c.checkLinks, c.checkBitmaps, c.findPaths,
	} {
		if err := step(); err != nil {
			return nil, err
		}
		if err := c.ctx.Err(); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(c.report.Problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(slices.Index(problemOrder, a.Kind), slices.Index(problemOrder, b.Kind)), cmp.Compare(a.Group, b.Group),
			cmp.Compare(a.Inode, b.Inode), cmp.Compare(a.Block, b.Block))
	})
	return &c.report, nil
}

func (c *checker) problem(p Problem) {
	if len(c.report.Problems) >= maxProblems {
		c.report.Omitted++
		return
	}
	c.report.Problems = append(c.report.Problems, p)
}

// inodeProblem reports a problem of an inode, blockProblem of a block of it.
func (c *checker) inodeProblem(kind ProblemKind, ino uint32, format string, args ...any) {
	c.blockProblem(kind, ino, 0, format, args...)
}

func (c *checker) blockProblem(kind ProblemKind, ino uint32, block uint64, format string, args ...any) {
	if len(c.report.Problems) >= maxProblems { // spare the formatting
		c.report.Omitted++
		return
	}
	c.problem(Problem{Kind: kind, Inode: ino, Block: block, Detail: fmt.Sprintf(format, args...)})
}

func (c *checker) groupProblem(kind ProblemKind, g uint32, format string, args ...any) {
	c.problem(Problem{Kind: kind, Group: g, Detail: fmt.Sprintf("group %d: ", g) + fmt.Sprintf(format, args...)})
}

func (c *checker) note(format string, args ...any) {
	if len(c.report.Notes) < maxProblems {
		c.report.Notes = append(c.report.Notes, fmt.Sprintf(format, args...))
	}
}

// read reads adjacent blocks, as the journal has them. Where the image ends before
// them ok is false, and the report says so.
func (c *checker) read(block uint64, b []byte) (ok bool, err error) {
	if block >= c.sb.Blocks() {
		return false, nil
	}
	return c.readable(c.v.readData(b, block, 0), block)
}

// readable sorts out errors: damage is reported, others end the check.
func (c *checker) readable(err error, block uint64) (bool, error) {
	if err == nil {
		return true, nil
	}
	if !errors.Is(public(err), ErrCorrupt) {
		return false, err
	}
	c.problem(Problem{Kind: ProblemTruncated, Block: block, Detail: fmt.Sprintf("block %d cannot be read: %v", block, err)})
	return false, nil
}

// state returns what is known of an inode; nil of one that is not in use or that is
// nowhere.
func (c *checker) state(ino uint32) *inodeCheck {
	if ino == 0 || ino > c.sb.InodesCount {
		return nil
	}
	g, at := c.sb.InodePlace(ino)
	if uint64(g) >= uint64(len(c.groups)) || uint64(at) >= uint64(len(c.groups[g].inodes)) {
		return nil
	}
	if s := &c.groups[g].inodes[at]; s.state&inodeUsed != 0 {
		return s
	}
	return nil
}

// dir returns what is known of a directory; nil if there is none with that inode.
func (c *checker) dir(ino uint32) *dirCheck {
	at, ok := slices.BinarySearchFunc(c.dirs, ino, func(d dirCheck, ino uint32) int { return cmp.Compare(d.ino, ino) })
	if !ok {
		return nil
	}
	return &c.dirs[at]
}

// csum says that metadata has checksums, groupCsum that descriptors have them, and so
// flags for what is not initialised.
func (c *checker) csum() bool { return c.sb.MetadataCsum() }
func (c *checker) groupCsum() bool {
	return c.sb.FeatureROCompat&(disk.ROCompatMetadataCsum|disk.ROCompatGDTCsum) != 0
}
