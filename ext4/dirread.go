package ext4

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"

	"banger/ext4/internal/dir"
	"banger/ext4/internal/disk"
)

// dirParams says what directories of this file system look like; the result is for
// the directory with that inode.
func (v *volume) dirParams(ino uint32, i *disk.Inode) *dir.Params {
	return &dir.Params{
		BlockSize: v.bs, FileType: v.sb.FeatureIncompat&disk.IncompatFiletype != 0, Checksums: v.sb.MetadataCsum(),
		LargeDir: v.sb.FeatureIncompat&disk.IncompatLargeDir != 0, Index: v.sb.FeatureCompat&disk.CompatDirIndex != 0,
		Seed: v.sb.InodeSeed(ino, i.Generation), HashVersion: v.sb.DefHashVersion,
		HashUnsigned: v.sb.Flags&disk.FlagUnsignedHash != 0, HashSeed: v.sb.HashSeed,
	}
}

// hasIndex says whether a directory has blocks of an index.
func (v *volume) hasIndex(i *disk.Inode) bool {
	return i.Flags&disk.InodeIndexed != 0 && v.sb.FeatureCompat&disk.CompatDirIndex != 0
}

// indexed says whether a directory's index may be used. That of a casefold
// directory has hashes of folded names.
func (v *volume) indexed(i *disk.Inode) bool {
	return v.hasIndex(i) && i.Flags&disk.InodeCasefold == 0
}

// maxDirHoles bounds the holes in a directory's file, in blocks. The kernel makes
// none; the bound keeps an index of 2^28 blocks that are not there from being walked.
const maxDirHoles = 1 << 16

// dirBlocks is the file of a directory, to be read.
type dirBlocks struct {
	v *volume
	m *fileMap
	n uint32
}

// dirBlocks gives the file of a directory that is not inline. A pass over it is
// linear in what of the image it takes: its blocks are distinct.
func (v *volume) dirBlocks(ino uint32, i *disk.Inode) (*dirBlocks, error) {
	n := (i.Size + uint64(v.bs) - 1) / uint64(v.bs)
	if n > math.MaxUint32 {
		return nil, disk.Corrupt("directory %d has %d bytes", ino, i.Size)
	}
	m, err := v.fileMap(ino, i)
	if err != nil {
		return nil, err
	}
	mapped := uint64(0)
	for _, e := range m.extents {
		mapped += min(e.End(), n) - min(uint64(e.Logical), n)
	}
	if n > mapped+maxDirHoles {
		return nil, disk.Corrupt("directory %d has %d blocks, and only %d of them exist", ino, n, mapped)
	}
	if sharesBlocks(m.extents) {
		return nil, disk.Corrupt("directory %d has a block twice", ino)
	}
	return &dirBlocks{v, m, uint32(n)}, nil
}

// sharesBlocks says whether extents of one file map a block more than once.
func sharesBlocks(extents []disk.Extent) bool {
	if len(extents) < 2 {
		return false
	}
	sorted := slices.Clone(extents)
	slices.SortFunc(sorted, func(a, b disk.Extent) int { return cmp.Compare(a.Physical, b.Physical) })
	for i := 1; i < len(sorted); i++ {
		if sorted[i].Physical < sorted[i-1].Physical+uint64(sorted[i-1].Len) {
			return true
		}
	}
	return false
}

func (d *dirBlocks) Len() uint32 { return d.n }

func (d *dirBlocks) Read(i uint32) ([]byte, error) {
	e, ok := d.m.find(i)
	if !ok || e.Unwritten {
		return nil, nil
	}
	return d.v.block(e.Physical + uint64(i-e.Logical))
}

func (d *dirBlocks) Write(uint32, []byte) error    { return errors.ErrUnsupported }
func (d *dirBlocks) Append([]byte) (uint32, error) { return 0, errors.ErrUnsupported }

// find looks a name up in a directory, whose inode i is. Names are compared byte
// by byte, also in a casefold directory.
func (v *volume) find(parent uint32, i *disk.Inode, name string) (dir.Entry, bool, error) {
	if !i.IsDir() {
		return dir.Entry{}, false, errNotDir
	}
	if err := refused(i); err != nil {
		return dir.Entry{}, false, err
	}
	inline := i.Flags&disk.InodeInlineData != 0
	if inline || i.Flags&disk.InodeCasefold != 0 {
		var found dir.Entry
		var ok bool
		err := v.walkDir(parent, i, func(e dir.Entry) error {
			if e.Name != name {
				return nil
			}
			found, ok = e, true
			return fs.SkipAll
		})
		return found, ok, err
	}
	d, err := v.openDir(parent, i)
	if err != nil {
		return dir.Entry{}, false, err
	}
	if e, ok := d.names[name]; ok || d.complete {
		return e, ok, nil
	}
	reads := readCounter{dirBlocks: d.blocks}
	e, ok, err := d.params.Lookup(&reads, v.indexed(i), name)
	if err == nil && reads.n > fewBlocks {
		v.dirs.slow(d, v.hasIndex(i))
	}
	return e, ok, inDirectory(parent, err)
}

// walkDir calls yield for every entry of a directory, "." and ".." included, in
// the order of the disk. An error of yield ends the pass and is returned,
// fs.SkipAll as nil. Inode numbers are not checked. After damage to the directory,
// what comes before it has been yielded.
func (v *volume) walkDir(ino uint32, i *disk.Inode, yield func(dir.Entry) error) error {
	if !i.IsDir() {
		return errNotDir
	}
	if err := refused(i); err != nil {
		return err
	}
	if i.Flags&disk.InodeInlineData != 0 {
		if err := v.walkInline(ino, i, yield); err != fs.SkipAll {
			return err
		}
		return nil
	}
	d, err := v.openDir(ino, i)
	if err != nil {
		return err
	}
	var stopped error
	err = d.params.Walk(d.blocks, v.hasIndex(i), func(_ uint32, e dir.Entry) error {
		stopped = yield(e)
		return stopped
	})
	if stopped != nil {
		return err
	}
	return inDirectory(ino, err)
}

func inDirectory(ino uint32, err error) error {
	if err == nil {
		return nil
	}
	var c *dir.CorruptError
	if errors.As(err, &c) {
		return fmt.Errorf("inode %d: %w", ino, err)
	}
	return err
}
